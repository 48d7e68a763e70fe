"""Agents: what they are declared as, their states and runs, and what is done to them."""
