"""Time as the kernel sees it, so that tests can hold the clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for people, one for durations."""

    def time(self) -> float:
        """Wall clock, seconds since the epoch (UTC). May be set back by an administrator."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards. Meaningless across restarts."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        """Wall clock, seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to; for tests and for pictures with a fixed time."""

    def __init__(self, now: float = 1_795_269_981.0) -> None:
        self.now = now
        self.ticks = 0.0

    def time(self) -> float:
        """The held wall clock."""
        return self.now

    def monotonic(self) -> float:
        """The held monotonic clock."""
        return self.ticks

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self.now += seconds
        self.ticks += seconds
