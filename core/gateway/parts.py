"""What every request that passes the gateway works with."""

from __future__ import annotations

from dataclasses import dataclass

from ..budget.prices import Prices
from ..clock import Clock
from .desk import Desk
from .limits import Limits
from .providers import KeyRing, Provider
from .routes import KernelApp
from .upstream import Pool


@dataclass(slots=True)
class Parts:
    """One per gateway. ``providers`` may be replaced at any time."""

    desk: Desk
    providers: dict[str, Provider]
    apps: dict[str, KernelApp]
    keys: KeyRing
    prices: Prices
    clock: Clock
    limits: Limits
    pool: Pool
