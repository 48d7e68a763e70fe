"""The four lines above the details' panes: identity, gauges, tabs."""

from __future__ import annotations

from textual.strip import Strip

from ..lines import Lines, strip
from ..look import Look
from ..meters import Meter, parts
from .gauge import Live, budget_meter, context_meter, cpu_meter, identity, token_meter
from .paper import Row, ends, ink_of, length


class DetailsHead(Lines):
    """Redrawn once a second; only the cells that changed are painted."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._live: Live | None = None
        self._tabs: tuple[str, ...] = ()
        self._tab = ""
        self._problem = ""
        self._halted = False

    def show(
        self, live: Live | None, tabs: tuple[str, ...], tab: str, problem: str, *, halted: bool = False
    ) -> None:
        """What is known now."""
        self._live, self._tabs, self._tab, self._problem = live, tabs, tab, problem
        self._halted = halted
        self.redraw()

    def build(self, width: int, height: int) -> list[Strip]:
        """Four lines, or the first alone."""
        ink = ink_of(self.app, "bg")
        badge: Row = [(" HALTED ", "badge-fg/bad bold")] if self._halted else []
        room = width - length(badge)
        first = identity(self._live, room) if self._live is not None else [(" asking the kernel", "muted")]
        first = [*badge, *first]
        if self._problem:
            first = ends(first, [(self._problem, "bad"), (" ", "")], width)
        lines = [ink.strip(first, width)]
        if height >= 4:
            lines += [*self._gauges(width), ink.strip(tab_row(self._tabs, self._tab, width), width)]
        return lines[:height]

    def _gauges(self, width: int) -> list[Strip]:
        look = self.shell.look
        fill = look.palette("fg")
        if self._live is None:
            return [Strip.blank(width, fill)] * 2
        live, stale = self._live, self.shell.lost or bool(self._problem)
        pairs = ((context_meter(live), token_meter(live)), (budget_meter(live), cpu_meter(live)))
        return [_pair(look, left, right, width, stale) for left, right in pairs]


def _pair(look: Look, left: Meter, right: Meter, width: int, stale: bool) -> Strip:
    cells = max(8, (width - 5) // 2)
    fill = look.palette("fg")
    line = [
        (" ", fill),
        *parts(left, cells, look, stale=stale),
        ("   ", fill),
        *parts(right, cells, look, stale=stale),
    ]
    return strip(line, width, fill, look.glyphs.mark)


def tab_row(tabs: tuple[str, ...], chosen: str, width: int) -> Row:
    """The tabs with their numbers, and what Tab, Enter and Esc do here."""
    row: Row = []
    for number, tab in enumerate(tabs, 1):
        if tab == chosen:
            row.append((f" {number} {tab} ", "head-fg/head-bg bold"))
        else:
            row += [(f" {number} ", "label"), (f"{tab} ", "muted")]
    hints: Row = [("Tab next pane   Enter zoom pane   Esc back ", "muted")]
    return ends(row, hints, width) if length(row) + length(hints) < width else row
