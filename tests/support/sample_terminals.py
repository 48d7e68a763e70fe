"""What the canned fleet says about terminals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agenttop.core.api import AttachInfo, HistoryInfo, PressRequest
from agenttop.core.errors import Conflict, NoTerminal

if TYPE_CHECKING:
    from agenttop.core.api import Row


class SampleTerminals:
    """Screens that show ``screens[id]``, and a door behind which ``door`` runs."""

    calls: list[tuple[str, Any]]
    _row: Callable[[str], Row]
    _alive: Callable[[], None]

    def __init__(self) -> None:
        self.screens: dict[str, list[str]] = {}
        self.door = [sys.executable, "-c", ""]

    def _at(self, ref: str, verb: str) -> Row:
        self._alive()
        row = self._row(ref)
        if row.backend != "terminal":
            raise NoTerminal(f"cannot {verb} {row.name}", "It has no terminal", "Start it in a terminal")
        return row

    async def attach(self, ref: str) -> AttachInfo:
        row = self._at(ref, "attach to")
        self.calls.append(("attach", row.id))
        if row.pause == "freeze":
            raise Conflict(f"cannot attach to {row.name}", "It is frozen", "Resume it first")
        return AttachInfo(name=row.name, argv=self.door, detach_key="Ctrl-\\", id=row.id, run=row.run)

    async def press(self, request: PressRequest) -> None:
        self._at(request.ref, "press keys of")
        self.calls.append(("press", request))

    async def history(self, ref: str, lines: int = 1_000) -> HistoryInfo:
        row = self._at(ref, "show the screen of")
        shown = self.screens.get(row.id, [])
        return HistoryInfo(name=row.name, lines=shown[-lines:], live=row.attach)
