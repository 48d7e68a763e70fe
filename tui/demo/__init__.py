"""The demo: a mock provider, agents that are real processes, and the fleet they make."""
