"""How fast one sender may send: a token bucket each."""

from __future__ import annotations


class Rates:
    """Buckets by sender, filled by the monotonic clock. Those that are full again are forgotten."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, sender: str, now: float) -> float:
        """Take one; returns 0, or the seconds until the next one may be taken."""
        left, then = self._buckets.get(sender, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        if left < 1.0:
            return (1.0 - left) / self._rate
        self._buckets[sender] = (left - 1.0, now)
        return 0.0

    def trim(self, now: float) -> None:
        """Forget those who have their whole burst back."""
        rate, burst = self._rate, self._burst
        self._buckets = {
            sender: (left, then)
            for sender, (left, then) in self._buckets.items()
            if left + (now - then) * rate < burst
        }

    def __len__(self) -> int:
        return len(self._buckets)
