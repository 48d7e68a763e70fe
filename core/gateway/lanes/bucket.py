"""Token buckets: so much a second, with a little saved up. Seconds are those of a monotonic clock."""

from __future__ import annotations

BURST = 6.0
"""Seconds' worth that a configured limit lets go at once."""

_LEAST = 1e-6


class Bucket:
    """Fills at ``rate`` a second up to ``capacity``; may go below zero, by what was taken from it.

    It is *open* while at least one whole unit is in it. What is taken is known only roughly before a
    call and exactly after it, so taking never fails and the difference is given back.
    """

    __slots__ = ("_at", "_level", "capacity", "rate")

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self.rate = rate
        self.capacity = max(1.0, capacity)
        self._level = self.capacity
        self._at = now

    @classmethod
    def a_minute(cls, limit: float, now: float) -> Bucket:
        """For a configured limit a minute."""
        return cls(limit / 60.0, limit / 60.0 * BURST, now)

    def level(self, now: float) -> float:
        """What is in it."""
        if now > self._at:
            self._level = min(self.capacity, self._level + (now - self._at) * self.rate)
            self._at = now
        return self._level

    def wait(self, now: float) -> float:
        """Seconds until it is open; 0 if it is."""
        missing = 1.0 - self.level(now)
        return 0.0 if missing < _LEAST else max(1e-3, missing / self.rate)

    def take(self, amount: float, now: float) -> None:
        """Take some; a negative amount gives back."""
        self._level = min(self.capacity, self.level(now) - amount)


class Learned(Bucket):
    """What a provider's headers told of one of its limits."""

    __slots__ = ("limit", "resets_at")

    def __init__(self, limit: float, now: float) -> None:
        super().__init__(limit / 60.0, limit, now)
        self.limit = limit
        """A minute."""
        self.resets_at: float | None = None
        """Monotonic time at which it is full again, as told."""

    def observe(self, limit: float, left: float, reset: float | None, pending: float, now: float) -> None:
        """Take over what an answer's head told.

        Args:
            limit: The most there is.
            left: What is left of it.
            reset: Seconds until all of it is there again; from it follows whether the limit is one a
                minute (the usual case, and what is assumed when it is not told) or of a longer time.
            pending: What was sent and is not counted there yet.
            now: Monotonic time.
        """
        period = 60.0
        if reset is not None and left < limit:
            whole = reset * limit / (limit - left)
            # A short reset is rounded to seconds and says little about the period.
            if reset > 60.0 and whole > 120.0:
                period = whole
        self.rate = limit / period
        self.limit = self.rate * 60.0
        self.capacity = max(1.0, limit)
        self._level = max(-limit, min(self.capacity, left - pending))
        self._at = now
        self.resets_at = now + reset if reset is not None else None
