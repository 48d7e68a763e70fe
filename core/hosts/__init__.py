"""Kernels on other machines, over the user's own OpenSSH. Nothing here is imported unless a host is named."""
