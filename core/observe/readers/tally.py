"""What one agent's calls come to, kept up as they come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...journal.events import Usage
from ..timeline import Noted, Timeline


class Sums(NamedTuple):
    """Tokens of an agent's calls; the fields of ``View`` that say so."""

    usage: Usage
    usages: Mapping[str, Usage]
    """By model."""
    minutes: Mapping[int, int]
    calls: int
    timeline: Timeline


class Tally:
    """An agent's calls and their sums.

    Attributes:
        calls: A reader puts them in.
        timeline: What they come to since any time.
    """

    def __init__(self) -> None:
        self.calls = Noted()
        self.timeline = Timeline()
        self._sums = Sums(Usage(), {}, {}, 0, self.timeline)

    def sums(self, models: Mapping[int, str]) -> Sums:
        """What they come to now; ``models`` names the models by digest."""
        if self.timeline.follow(self.calls, models):
            usages, total = self.timeline.by_model(), Usage()
            for usage in usages.values():
                total = total.plus(usage)
            self._sums = Sums(total, usages, self.timeline.minutes(), len(self.calls), self.timeline)
        return self._sums
