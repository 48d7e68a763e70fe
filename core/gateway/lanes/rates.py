"""How many calls, and how many failures, there were in the last minute."""

from __future__ import annotations

from collections import deque

MINUTE = 60


class _Count:
    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()
        self._sum = 0

    def add(self, now: float) -> None:
        second = int(now)
        if self._seconds and self._seconds[-1][0] >= second:
            self._seconds[-1][1] += 1
        else:
            self._seconds.append([second, 1])
        self._sum += 1
        self.total(now)

    def total(self, now: float) -> int:
        while self._seconds and self._seconds[0][0] <= int(now) - MINUTE:
            self._sum -= self._seconds.popleft()[1]
        return self._sum


class Rates:
    """Counts by the second; times are monotonic seconds."""

    def __init__(self) -> None:
        self._calls = _Count()
        self._failures = _Count()

    def called(self, now: float) -> None:
        """A call was sent."""
        self._calls.add(now)

    def failed(self, now: float) -> None:
        """One was turned away, lost, or answered with an error of the provider's."""
        self._failures.add(now)

    def calls(self, now: float) -> int:
        """In the last minute."""
        return self._calls.total(now)

    def failures(self, now: float) -> int:
        """In the last minute."""
        return self._failures.total(now)
