"""How fast one sender may send: a token bucket each."""

from __future__ import annotations


class Rates:
    """Buckets by sender, filled by the monotonic clock. Those that are full again are forgotten."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        #: Of each sender what is left, and when that was counted.
        self._buckets: dict[str, list[float]] = {}

    def take(self, sender: str, now: float) -> float:
        """Take one; returns 0, or the seconds until the next one may be taken."""
        bucket = self._buckets.get(sender)
        if bucket is None:
            self._buckets[sender] = [self._burst - 1.0, now]
            return 0.0
        left = bucket[0] + (now - bucket[1]) * self._rate
        if left < 1.0:
            return (1.0 - left) / self._rate
        bucket[0] = (left if left < self._burst else self._burst) - 1.0
        bucket[1] = now
        return 0.0

    def give_back(self, sender: str) -> None:
        """Take back one ``take``: nothing came of it."""
        bucket = self._buckets.get(sender)
        if bucket is not None:
            bucket[0] += 1.0

    def trim(self, now: float) -> None:
        """Forget those who have their whole burst back."""
        rate, burst = self._rate, self._burst
        self._buckets = {
            sender: bucket
            for sender, bucket in self._buckets.items()
            if bucket[0] + (now - bucket[1]) * rate < burst
        }

    def __len__(self) -> int:
        return len(self._buckets)
