"""Money as whole numbers: sums of billionths of a dollar neither drift nor depend on their order."""

from __future__ import annotations

import math
from decimal import Decimal

NANOS = 1_000_000_000
"""In one dollar."""


def nanos(usd: float | Decimal) -> int:
    """Billionths of a dollar, rounded to the nearest."""
    return round(usd * NANOS)


def nanos_up(usd: float) -> int:
    """The same, rounded up: for a worst case. What binary fractions add is not rounded up."""
    return math.ceil(round(usd * NANOS, 3))


def dollars(amount: int) -> float:
    """Back to dollars; exact up to nine million of them."""
    return amount / NANOS


def said(usd: float) -> str:
    """Money in a sentence: ``$4.20``, ``$0.0031``; never a rounded ``$0.00`` for something."""
    if usd and abs(usd) < 0.01:
        return f"${usd:.6f}".rstrip("0")
    return f"${usd:,.2f}"
