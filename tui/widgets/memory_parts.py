"""What the parts of the Memory pane share: a list with a cursor in a given room, gauges, times, names."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from ..format import clean, cut, level, percent
from .paper import Row, rule
from .sheet import under_cursor

DAY = 86_400


class Group(NamedTuple):
    """The rows of one thing in a list; what has no key is passed over by the cursor."""

    key: str
    rows: list[Row]


class Drawn(NamedTuple):
    """What a part needs to draw itself."""

    width: int
    height: int
    now: float
    names: Mapping[str, str]
    """Names of agents by their ids."""
    ascii: bool = False
    focused: bool = False


class Part(ABC):
    """A titled list of things. ``at`` is the key of the one under the cursor, so nothing moves under it."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.at = ""
        self._top = 0
        self._place = 0

    @property
    @abstractmethod
    def keys(self) -> list[str]:
        """The keys of all that can be under the cursor, in order."""

    @property
    def place(self) -> int:
        """The cursor's place; where its thing is gone, that of what came into its place."""
        keys = self.keys
        if self.at in keys:
            self._place = keys.index(self.at)
        else:
            self._place = max(0, min(self._place, len(keys) - 1))
            self.at = keys[self._place] if keys else ""
        return self._place

    def move(self, to: int) -> None:
        """Put the cursor on a place, or as near as there is one."""
        if keys := self.keys:
            self._place = max(0, min(to, len(keys) - 1))
            self.at = keys[self._place]

    @abstractmethod
    def draw(self, drawn: Drawn) -> list[Row]:
        """The rows of the part, no more than there is room for."""

    def head(self, drawn: Drawn, side: str) -> Row:
        """``─ Title ──── side ─``, marked while the part has the focus."""
        row = rule(self.title, drawn.width, side)
        if drawn.focused:
            row[0] = ("▌ ", "accent")
        return row

    def listed(self, groups: Sequence[Group], room: int, drawn: Drawn) -> list[Row]:
        """The window of ``room`` rows around the cursor."""
        _ = self.place
        flat: list[Row] = []
        first = last = 0
        for group in groups:
            begin = len(flat)
            chosen = bool(group.key) and group.key == self.at
            if chosen:
                first, last = begin, begin + len(group.rows) - 1
            if chosen and drawn.focused and group.rows:
                flat += [under_cursor(group.rows[0], drawn.width), *group.rows[1:]]
            else:
                flat += group.rows
        if self._place == 0:
            first = 0
        if last >= self._top + room:
            self._top = last - room + 1
        if first < self._top:
            self._top = first
        self._top = max(0, min(self._top, len(flat) - room))
        return flat[self._top : self._top + max(0, room)]

    def rows_of(self, row: Callable[[int], Row], room: int, drawn: Drawn) -> list[Row]:
        """As ``listed``, of things of one row each: only those in the window are made."""
        place, count = self.place, len(self.keys)
        top = min(max(self._top, place - room + 1), place)
        self._top = max(0, min(top, count - room))
        seen = range(self._top, min(count, self._top + max(0, room)))
        return [under_cursor(row(n), drawn.width) if n == place and drawn.focused else row(n) for n in seen]


def when(at: float, now: float) -> str:
    """``14:05`` of today, ``Mon`` of this week, ``12 Nov`` before that, ``2024`` of other years."""
    then, today = time.localtime(at), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    if 0 <= now - at < 6 * DAY:
        return time.strftime("%a", then)
    return time.strftime("%d %b", then) if then.tm_year == today.tm_year else time.strftime("%Y", then)


def bar(part: float, whole: float, cells: int, *, ascii: bool, ink: str = "") -> Row:
    """A gauge of ``cells``: what is above nothing has a cell, and only what is full fills it."""
    solid, rest = ("#", ".") if ascii else ("━", "─")
    if cells <= 0:
        return []
    if whole <= 0 or part <= 0:
        return [(rest * cells, "rule")]
    most = cells if part >= whole else cells - 1
    filled = max(1, min(most, round(cells * part / whole)))
    pieces: Row = [
        (solid * filled, ink or level(percent(part, whole) or 0)),
        (rest * (cells - filled), "rule"),
    ]
    return [piece for piece in pieces if piece[0]]


def who(by: str, names: Mapping[str, str], by_name: str = "") -> str:
    """The name of who wrote something: an agent's, or ``@NAME``."""
    return clean(names.get(by) or by_name or by)


def space(name: str, names: Mapping[str, str]) -> str:
    """A namespace as people call it: ``private/`` with the agent's name instead of its id."""
    kind, _, rest = name.partition("/")
    return clean(f"private/{names.get(rest, rest)}" if kind == "private" and rest else name)


def padded(text: str, cells: int, ink: str = "", *, right: bool = False) -> tuple[str, str]:
    """A harmless text in exactly so many cells."""
    text = cut(clean(text), max(0, cells))
    taken = cell_len(text)
    return ((" " * (cells - taken) + text) if right else set_cell_size(text, max(0, cells)), ink)
