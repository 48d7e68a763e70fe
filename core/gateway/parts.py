"""What every request that passes the gateway works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..budget.prices import Prices
from ..clock import Clock
from .desk import Desk
from .limits import Limits
from .pool import Pool
from .providers import KeyRing, Provider
from .routes import KernelApp

if TYPE_CHECKING:
    from .syscalls import SyscallDoor

Vouch = Callable[[str, str, object, object], Awaitable[bool]]
"""Whether a connection may speak for an agent: its id, the listener's key, both ends' addresses."""


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
    vouch: Vouch | None = None
    syscalls: SyscallDoor | None = None
    unaltered: set[str] = field(default_factory=set)
    """Names of the providers that refused what the gateway asked for, and took the client's own request."""
