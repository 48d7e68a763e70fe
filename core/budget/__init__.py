"""Prices now; budgets, limits and the fair queue later."""
