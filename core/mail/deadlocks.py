"""Agents that wait for each other's replies in a ring: found as it closes, told, and broken if so decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..bus.bus import Bus
from ..journal import events as ev
from .directory import Directory

#: Rings that are kept at once; those beyond are still reported.
MOST = 200


class Deadlocks:
    """``found`` is the bus's ``on_deadlock``; ``take`` gives what is to be written down.

    Args:
        breaks: Whether the youngest request of a ring is ended.
    """

    def __init__(self, directory: Directory, *, breaks: bool) -> None:
        self._directory = directory
        self._breaks = breaks
        self._rings: dict[tuple[str, ...], None] = {}
        self._untold: list[ev.DeadlockFound] = []
        self._stood: list[tuple[str, ...]] = []
        self.news: Callable[[], None] = lambda: None
        """Called when there is something to take."""

    def found(self, ring: list[str]) -> bool:
        """A ring was closed, in order, each waiting for the next; whether it is to be broken."""
        if len(self._rings) >= MOST:
            del self._rings[next(iter(self._rings))]
        key = tuple(ring)
        # Broken rings too: whoever is told that it ended is told which ring it was.
        self._rings.pop(key, None)
        self._rings[key] = None
        names = [self._directory.name(one) for one in ring]
        self._untold = [
            *self._untold[-MOST:],
            ev.DeadlockFound(agents=ring, names=names, broken=self._breaks),
        ]
        self.news()
        return self._breaks

    def take(self) -> list[ev.DeadlockFound]:
        """What was found since the last time."""
        found, self._untold = self._untold, []
        return found

    def standing(self, bus: Bus) -> list[tuple[str, ...]]:
        """The rings in which everybody still waits."""
        if not self._rings:
            return []
        waiting = bus.pipeline.books.waits.waiting()
        return [ring for ring in self._rings if _stands(ring, waiting)]

    def said(self, mailbox: str) -> str:
        """The newest ring with this mailbox in it, in words; empty if there was none."""
        for ring in reversed(self._rings):
            if mailbox in ring:
                return f"Each waited for the next one's reply: {self.turned(ring, mailbox)}"
        return ""

    def turned(self, ring: Sequence[str], mailbox: str) -> str:
        """The names of a ring, beginning and ending with this one."""
        place = ring.index(mailbox)
        names = [self._directory.name(one) for one in (*ring[place:], *ring[:place])]
        return " → ".join([*names, names[0]])

    def changed(self, bus: Bus) -> list[tuple[str, ...]]:
        """The rings that stand and did not, or the other way round, since the last time."""
        stood, self._stood = self._stood, self.standing(bus)
        return [ring for ring in (*stood, *self._stood) if (ring in stood) != (ring in self._stood)]


def _stands(ring: Sequence[str], waiting: dict[str, list[str]]) -> bool:
    return all(b in waiting.get(a, ()) for a, b in zip(ring, (*ring[1:], ring[0]), strict=True))
