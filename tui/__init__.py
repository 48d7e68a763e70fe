"""The screen, the command line and the demo. They reach the kernel through ``KernelClient`` only."""
