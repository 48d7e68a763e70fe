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


class SteadyClock:
    """Another clock, whose wall time is never set back.

    While the machine's clock is behind what was shown already, time goes on from there at the pace of
    the monotonic clock: ages are not negative, what is due in a minute comes in a minute, and the
    journal's times increase.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # One object, because worker threads ask too: what was shown, and when by the monotonic clock.
        self._last = (clock.time(), clock.monotonic())

    def time(self) -> float:
        """Wall clock, seconds since the epoch; never less than before."""
        shown, then = self._last
        now = self._clock.monotonic()
        shown = max(self._clock.time(), shown + max(0.0, now - then))
        self._last = (shown, now)
        return shown

    def monotonic(self) -> float:
        """Monotonic seconds."""
        return self._clock.monotonic()

    def not_before(self, moment: float) -> None:
        """Go on from ``moment`` (the journal's last time) if the machine's clock is behind it."""
        self._last = (max(self.time(), moment), self._clock.monotonic())


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
