"""The breaker: a provider that fails again and again is left alone for a while, then tried by one call."""

from __future__ import annotations

from collections import deque
from typing import Literal

State = Literal["closed", "open", "half-open"]

IN_A_ROW = 5
"""So many failures one after the other open it,"""
OF = 20
"""or more than half of the last ``OF``,"""
AT_LEAST = 10
"""if there were so many."""
FIRST = 5.0
"""Seconds it stays open the first time; doubled by each failed try,"""
LONGEST = 300.0
"""up to this."""
PATIENCE = 60.0
"""Seconds after which another call is tried where the last one still waits for an answer."""


class Breaker:
    """Closed: calls go. Open: none does until ``retry_at``. Half-open: one is on its way to try.

    Pure: times are told to it, in monotonic seconds.
    """

    def __init__(self) -> None:
        self.state: State = "closed"
        self.why = ""
        self.retry_at = 0.0
        """When the next call may try; while half-open, when one more may."""
        self._cool = FIRST
        self._last: deque[bool] = deque(maxlen=OF)
        self._in_a_row = 0
        self._probe: str | None = None

    def blocked_until(self, now: float) -> float | None:
        """Until when no call may go at the earliest; ``None`` if one may."""
        return self.retry_at if self.state != "closed" and now < self.retry_at else None

    def granted(self, call: str, now: float) -> bool:
        """A call goes; true if it is the one that tries, and the breaker was open before."""
        if self.state == "closed":
            return False
        moved = self.state == "open"
        self.state, self._probe, self.retry_at = "half-open", call, now + PATIENCE
        return moved

    def succeeded(self, call: str) -> bool:
        """A call was answered; true if that closed the breaker."""
        if self.state == "closed":
            self._in_a_row = 0
            self._last.append(True)
            return False
        if call != self._probe:  # sent before all this
            return False
        self.state, self.why, self._cool, self._probe, self._in_a_row = "closed", "", FIRST, None, 0
        self._last.clear()
        return True

    def failed(self, call: str, why: str, now: float) -> bool:
        """A call failed; true if that opened the breaker."""
        if self.state == "closed":
            self._in_a_row += 1
            self._last.append(False)
            bad = self._last.count(False)
            if self._in_a_row < IN_A_ROW and not (len(self._last) >= AT_LEAST and bad * 2 > len(self._last)):
                return False
        elif call != self._probe:
            return False
        else:
            self._cool = min(LONGEST, self._cool * 2)
        self.state, self.why, self._probe, self.retry_at = "open", why, None, now + self._cool
        return True

    def given_up(self, call: str, now: float) -> None:
        """A call ended without telling anything; if it was the one that tried, the next one does."""
        if call == self._probe:
            self._probe = None
            self.retry_at = now
