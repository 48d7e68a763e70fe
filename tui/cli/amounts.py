"""Amounts of tokens and money as people type them."""

from __future__ import annotations

import re
from decimal import Decimal

from agenttop.core.errors import UsageError

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def amount(text: str) -> Decimal:
    """``500k`` → 500000.

    Raises:
        UsageError: It is no number.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not an amount", hint="Take a number such as 2.50, 500k or 2M")
    return Decimal(match[1]) * _UNITS[match[2].lower()]


def tokens(text: str) -> int:
    """``1.5k`` → 1500.

    Raises:
        UsageError: It is no number, or part of a token.
    """
    value = amount(text)
    if value != int(value):
        raise UsageError(f"{text!r} is not a number of tokens", "A token cannot be divided")
    return int(value)
