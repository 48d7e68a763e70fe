"""The order of the table, kept up to date in place: who stands below whom, each group sorted.

A tick touches few groups; only those are sorted again, and lines are made anew only when a group's
order really changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from agenttop.core.api import Row

Value = Callable[["Row"], Any]

#: Begins the id of a line that is no agent's but the heading of a host's group.
HEADING = "\0"


class Line(NamedTuple):
    """One line of the table: the agent, and the tree before its name (``"│├"``: one mark a level)."""

    id: str
    tree: str = ""

    @property
    def host(self) -> str:
        """The host whose agents follow, if this is a heading; else empty."""
        return self.id[1:] if self.id.startswith(HEADING) else ""


class Forest:
    """Groups of siblings by parent; ``""`` is the group of those that stand on their own.

    Where agents of several hosts are shown, those that stand on their own are in a group by host.
    """

    def __init__(self) -> None:
        self._groups: dict[str, list[str]] = {}
        self._parent: dict[str, str] = {}
        self._lines: dict[str, Line] = {}
        self._tops: list[str] = [""]

    def build(
        self,
        rows: Mapping[str, Row],
        value: Value | None,
        *,
        largest: bool,
        tree: bool,
        hosts: Sequence[str] = (),
    ) -> None:
        """Begin anew with these rows; each of ``hosts`` has a heading, whether it has rows or not."""
        self._tops = [*(HEADING + host for host in hosts), ""] if hosts else [""]
        self._groups, self._parent = {top: [] for top in self._tops}, {}
        for key, row in rows.items():
            alone = HEADING + row.host if row.host and HEADING + row.host in self._groups else ""
            above = row.parent if tree and row.parent in rows and row.parent != key else alone
            self._parent[key] = above or ""
            self._groups.setdefault(above or "", []).append(key)
        for group in self._groups.values():
            _sort(group, rows, value, largest)

    def resort(
        self, changed: Iterable[str], rows: Mapping[str, Row], value: Value | None, *, largest: bool
    ) -> bool:
        """Sort the groups of these rows again. True if any order changed."""
        moved = False
        for above in {self._parent[key] for key in changed if key in self._parent}:
            group = self._groups[above]
            before = group.copy()
            _sort(group, rows, value, largest)
            moved = moved or group != before
        return moved

    def lines(self) -> list[Line]:
        """All lines from the top, children below their parents."""
        groups, known = self._groups, self._lines
        if len(groups) == 1:
            return [self._line(key, "") for key in groups[""]]
        lines: list[Line] = []
        for top in self._tops:
            if top:
                lines.append(self._line(top, ""))
            self._below(top, lines)
        headings = len(self._tops) - 1
        if len(lines) - headings < len(self._parent):
            # Parents in a circle have no top: better flat than lost.
            there = {line.id for line in lines}
            lines += [self._line(key, "") for key in self._parent if key not in there]
        if len(known) > 2 * len(self._parent) + 64:
            self._lines = {line.id: line for line in lines}
        return lines

    def _below(self, top: str, lines: list[Line]) -> None:
        """Add what stands in a top group, children below their parents."""
        groups, known = self._groups, self._lines
        add = lines.append
        stack: list[tuple[str, str]] = [(key, "") for key in reversed(groups.get(top, ()))]
        while stack:
            key, tree = stack.pop()
            line = known.get(key)
            if line is None or line.tree != tree:
                line = known[key] = Line(key, tree)
            add(line)
            children = groups.get(key)
            if children:
                stem = tree[:-1] + ("│" if tree[-1:] == "├" else " ") if tree else ""
                stack.append((children[-1], stem + "└"))
                middle = stem + "├"
                stack.extend([(child, middle) for child in children[-2::-1]])

    def _line(self, key: str, tree: str) -> Line:
        line = self._lines.get(key)
        if line is None or line.tree != tree:
            line = self._lines[key] = Line(key, tree)
        return line


def _sort(group: list[str], rows: Mapping[str, Row], value: Value | None, largest: bool) -> None:
    """Sort ids by their rows' values, what is not known last; equals keep the order they have."""
    if value is None or len(group) < 2:
        return
    values = {key: value(rows[key]) for key in group}
    unknown = [key for key in group if values[key] is None]
    if unknown:
        known = [key for key in group if values[key] is not None]
        known.sort(key=values.__getitem__, reverse=largest)
        group[:] = known + unknown
    else:
        group.sort(key=values.__getitem__, reverse=largest)
