"""Budgets: what they cover and have used, reservations, prices, and the views of them."""
