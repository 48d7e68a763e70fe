"""Backends: where agents run. One module each; they import only core's contracts."""
