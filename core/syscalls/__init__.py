"""System calls: what agents and people ask of bus, memory and the kernel, whatever way they come."""
