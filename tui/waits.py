"""Who is to be told of when: one word for each agent and wait, and one for many at once.

An agent can make itself wait as often as it likes; a person's bell is theirs.
"""

from __future__ import annotations

from collections.abc import Set

#: Seconds a new wait must last before it is told, so that those that come together are told together.
GATHER = 1.0

#: Seconds between two words, at least.
GAP = 10.0


class Waits:
    """Knows which waits were told. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._fresh: dict[str, float] = {}
        """Since when those wait that were not told yet."""
        self._last = float("-inf")

    def known(self, waiting: Set[str]) -> None:
        """These waited before anybody looked: they are counted, not told."""
        self._told = set(waiting)
        self._fresh = {}

    def look(self, waiting: Set[str], now: float) -> list[str]:
        """Whom to tell of now, those first that wait longest; ``waiting`` are all that wait for a person."""
        self._told &= waiting
        self._fresh = {key: since for key, since in self._fresh.items() if key in waiting}
        for key in sorted(waiting - self._told - self._fresh.keys()):
            self._fresh[key] = now
        due = self.due()
        if due is None or now < due:
            return []
        told = list(self._fresh)
        self._told |= self._fresh.keys()
        self._fresh = {}
        self._last = now
        return told

    def due(self) -> float | None:
        """When to look again at the latest; ``None``: when somebody begins to wait."""
        if not self._fresh:
            return None
        return max(min(self._fresh.values()) + GATHER, self._last + GAP)
