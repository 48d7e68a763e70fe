"""Places in the journals of several kernels at once, as one number: what ``events(since=…)`` needs.

Each number handed out stands for one place in every journal. They grow, are never used twice, and the
last ``KEPT`` of them are remembered; 0 is the beginning of all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from ..errors import UsageError

KEPT = 50_000

ALONE = 1 << 50
"""From here on: a place in one host's own journal, for questions about agents of that host."""


class Marks:
    """The numbers handed out by one client. With one host they are its journal's own numbers."""

    def __init__(self, labels: list[str]) -> None:
        self._labels = labels
        self._known: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        self._last = 0

    def of(self, places: Mapping[str, int]) -> int:
        """A number for these places, by host; a host that is not named stands at its beginning."""
        if len(self._labels) == 1:
            return places.get(self._labels[0], 0)
        self._last += 1
        self._known[self._last] = tuple(places.get(label, 0) for label in self._labels)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return self._last

    def alone(self, place: int) -> int:
        """A number for a place in one host's journal, good in other clients too."""
        return place if len(self._labels) == 1 else ALONE + place

    def places(self, number: int) -> dict[str, int]:
        """The place in each host's journal.

        Raises:
            UsageError: It was not handed out here, or long ago.
        """
        if len(self._labels) == 1:
            return {self._labels[0]: number}
        if number <= 0:
            return dict.fromkeys(self._labels, 0)
        if number >= ALONE:
            return dict.fromkeys(self._labels, number - ALONE)
        if number not in self._known:
            raise UsageError(
                f"{number} is no place in several journals", "Each host counts its own events",
                "Ask one host at a time, or from 0",
            )  # fmt: skip
        return dict(zip(self._labels, self._known[number], strict=True))
