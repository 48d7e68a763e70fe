"""Tokens of one transcript's calls by model and time, kept up as calls come in: no look adds them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..journal.events import Usage

_QUARTER = 15
#: How many minutes before the last call are told one by one.
_RECENT = 30

Call = tuple[int, ...]
"""In the order of ``calls.Call``."""
Cells = dict[int, list[int]]
"""Model's digest → tokens in the order of ``Usage``."""


class Noted(dict[tuple[int, int], Call]):
    """A reader's calls, and which of them changed since somebody asked."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[tuple[Call | None, Call]] = []
        self.anew = False
        """Something else than a call that came or was replaced: add all of them up again."""

    def __setitem__(self, key: tuple[int, int], call: Call) -> None:
        self.changes.append((self.get(key), call))
        super().__setitem__(key, call)

    def __delitem__(self, key: tuple[int, int]) -> None:
        self.anew = True
        super().__delitem__(key)

    def clear(self) -> None:
        """Forget all."""
        self.anew = True
        super().clear()

    def pop(self, *arguments: Any) -> Any:
        """Take one out."""
        self.anew = True
        return super().pop(*arguments)

    def setdefault(self, key: tuple[int, int], call: Call) -> Call:
        """The one of this key; ``call`` if there is none."""
        if key not in self:
            self[key] = call
        return self[key]

    def update(self, *others: Any, **more: Any) -> None:
        """Take others in."""
        self.anew = True
        super().update(*others, **more)


class Timeline:
    """Sums over calls, by minute, by quarter of an hour, and in all."""

    def __init__(self) -> None:
        self._minutes: dict[int, Cells] = {}
        self._quarters: dict[int, Cells] = {}
        self._total: Cells = {}
        self._models: Mapping[int, str] = {}
        self._last = 0

    def follow(self, calls: Noted, models: Mapping[int, str]) -> bool:
        """Take in what changed; whether anything did. ``models`` names them."""
        self._models = models
        changes: Iterable[tuple[Call | None, Call]] = calls.changes
        if calls.anew:
            self._minutes, self._quarters, self._total, self._last = {}, {}, {}, 0
            changes = [(None, call) for call in calls.values()]
        elif not calls.changes:
            return False
        for old, new in changes:
            if old is not None:
                self._add(old, -1)
            self._add(new, 1)
        calls.changes, calls.anew = [], False
        return True

    def _add(self, call: Call, sign: int) -> None:
        minute, model = call[2] // 60_000, call[3]
        self._last = max(self._last, minute)
        for cells in (
            self._total,
            self._minutes.setdefault(minute, {}),
            self._quarters.setdefault(minute // _QUARTER, {}),
        ):
            cell = cells.get(model)
            if cell is None:
                cell = cells[model] = [0] * 6
            for place in range(6):
                cell[place] += sign * call[4 + place]

    def by_model(self) -> dict[str, Usage]:
        """Tokens of all calls."""
        return self._named([self._total])

    def since(self, moment: float) -> dict[str, Usage]:
        """Tokens of the calls since a wall-clock time, to the minute, by model."""
        first = int(moment // 60)
        quarter = -(-first // _QUARTER)
        chosen = [self._minutes[m] for m in range(first, quarter * _QUARTER) if m in self._minutes]
        chosen += [cells for number, cells in self._quarters.items() if number >= quarter]
        return self._named(chosen)

    def minutes(self) -> dict[int, int]:
        """All tokens by minute since the epoch, of the half hour before the last call."""
        recent = range(self._last - _RECENT + 1, self._last + 1)
        return {
            minute: sum(sum(cell[:5]) for cell in self._minutes[minute].values())
            for minute in recent
            if minute in self._minutes
        }

    def _named(self, chosen: Iterable[Cells]) -> dict[str, Usage]:
        sums: Cells = {}
        for cells in chosen:
            for model, cell in cells.items():
                if (old := sums.get(model)) is None:
                    sums[model] = [*cell]
                else:
                    for place, tokens in enumerate(cell):
                        old[place] += tokens
        return {self._models.get(model, ""): Usage(*cell) for model, cell in sums.items()}
