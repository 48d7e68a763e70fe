"""How each agent CLI is read: its processes, its sessions, its calls. What a reader is: ``..contract``."""
