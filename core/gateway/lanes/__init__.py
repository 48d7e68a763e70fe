"""Lanes: whose call goes to a provider next, and when."""

from __future__ import annotations

from .lanes import Lanes
from .waiter import Verdict, Waiter, Waits

__all__ = ["Lanes", "Verdict", "Waiter", "Waits"]
