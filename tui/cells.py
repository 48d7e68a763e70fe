"""One row of the fleet table as a line of styled text.

``RowPainter`` is made for one width, one choice of columns and one look. What a row's line depends on
besides the row is in ``Face``; equal rows with equal faces have equal lines, so callers cache by both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from . import format as f
from .columns import Place
from .look import Look, colour, letter

if TYPE_CHECKING:
    from agenttop.core.api import Row

#: Per cent from which CTX% and BUD% warn and alarm.
CONTEXT_WARN, BUDGET_WARN, BAD = 80, 70, 90


class Face(NamedTuple):
    """What is drawn of a row that is not in it."""

    tree: str
    age: str
    uptime: str
    cursor: str
    """``""``, ``"cursor"`` or ``"blur"``."""
    tagged: bool
    glow: str
    stale: bool
    """The kernel does not answer: everything is as last seen."""


Cell = tuple[str, Style]


class RowPainter:
    """Paints rows for one layout and look."""

    def __init__(self, look: Look, places: tuple[Place, ...], width: int) -> None:
        self.look = look
        self.places = places
        self.width = width
        self._cells: dict[str, Callable[[Row, Face, int], Cell]] = {
            name[6:]: getattr(self, name) for name in dir(self) if name.startswith("_cell_")
        }
        self._on = "bg"
        self._flat: Style | None = None
        self._italic = False
        self.wants_uptime = any(place.column.id == "time" for place in places)

    def paint(self, row: Row, face: Face) -> Strip:
        """The line, exactly ``width`` cells."""
        self._dress(row, face)
        segments: list[Segment] = []
        tag = self._style("tag", bold=True)
        base = self._style("fg")
        text = self.look.glyphs.tag if face.tagged else " "
        style = tag if face.tagged else base
        x = 1
        for place in self.places:
            gap = place.x - x
            if gap:
                text, style = self._join(segments, text, style, " " * gap, base)
            if place.column.id == "name":
                text, style = self._name(segments, text, style, row, face, place.cells)
            else:
                cell, look = self._cells[place.column.id](row, face, place.cells)
                text, style = self._join(segments, text, style, self._align(cell, place), look)
            x = place.x + place.cells
        if x < self.width:
            text, style = self._join(segments, text, style, " " * (self.width - x), base)
        segments.append(Segment(text, style))
        return Strip(segments, self.width)

    @staticmethod
    def _join(segments: list[Segment], text: str, style: Style, more: str, look: Style) -> tuple[str, Style]:
        """Neighbours in one style are one segment: fewer bytes to the terminal."""
        if look is style:
            return text + more, style
        segments.append(Segment(text, style))
        return more, look

    def _align(self, text: str, place: Place) -> str:
        if text.isascii() and len(text) <= place.cells:
            return text.rjust(place.cells) if place.column.right else text.ljust(place.cells)
        text = self.look.cut(text, place.cells)
        pad = " " * (place.cells - f.width(text))
        return pad + text if place.column.right else text + pad

    # --- styles --------------------------------------------------------------------------------

    def _dress(self, row: Row, face: Face) -> None:
        palette = self.look.palette
        self._flat = None
        self._on = f"{face.glow}-bg" if face.glow else "bg"
        self._italic = face.stale
        if face.cursor == "cursor":
            self._flat = palette("cursor-fg", "cursor-bg")
            self._on = "cursor-bg"
        elif face.cursor:
            self._on = "blur-bg"
        if face.stale and not face.cursor:
            self._flat = palette("num-stale", self._on, italic=True)

    def _style(self, name: str, *, bold: bool = False, italic: bool = False) -> Style:
        if self._flat is not None:
            if not (bold or italic):
                return self._flat
            if self._on == "cursor-bg":
                return self.look.palette("cursor-fg", "cursor-bg", bold=bold, italic=italic)
            name, italic = "num-stale", True
        return self.look.palette(name, self._on, bold=bold, italic=italic)

    def _number(self, text: str, *, zero: bool = False, style: str = "fg") -> Cell:
        return text, self._style("muted" if zero or text == f.UNKNOWN else style)

    def _count(self, value: int | None, *, exact: bool = True, style: str = "fg") -> Cell:
        text = f.tokens(value)
        if value and not exact:
            return "~" + text, self._style("num-estimated")
        return self._number(text, zero=not value, style=style)

    # --- cells ---------------------------------------------------------------------------------

    def _name(
        self, segments: list[Segment], text: str, style: Style, row: Row, face: Face, cells: int
    ) -> tuple[str, Style]:
        glyphs = self.look.glyphs
        tree = "".join(
            {"├": glyphs.tee, "└": glyphs.corner, "│": glyphs.pipe}.get(mark, "  ")
            if number == len(face.tree) - 1 or mark == "│"
            else "  "
            for number, mark in enumerate(face.tree)
        )
        tree = tree[: max(0, cells - 6)]
        if tree:
            text, style = self._join(segments, text, style, tree, self._style("rule"))
        name = self.look.cut_middle(f.clean(row.name), cells - len(tree))
        if face.tagged:
            look = self._style("tag", bold=True)
        else:
            fg = "muted" if row.state == "terminated" else "num-stale" if row.stale is not None else "bright"
            look = self._style(fg, bold=row.needs, italic=row.observed or row.stale is not None)
        text, style = self._join(segments, text, style, name, look)
        pad = cells - len(tree) - f.width(name)
        return self._join(segments, text, style, " " * pad, self._style("fg")) if pad else (text, style)

    def _cell_id(self, row: Row, face: Face, cells: int) -> Cell:
        short = row.id.rpartition("/")[2] if row.host else row.id  # the heading names the host
        return f.clean(short)[:cells], self._style("muted")

    def _cell_state(self, row: Row, face: Face, cells: int) -> Cell:
        name = "num-stale" if row.stale is not None else colour(row.state, row.pause, row.reason)
        return letter(row.state, row.pause), self._style(name, bold=True)

    def _cell_why(self, row: Row, face: Face, cells: int) -> Cell:
        if row.stale is not None:
            return f"stale {face.age}"[:cells], self._style("num-stale", italic=True)
        return why(row, face.age, cells, self.look), self._style(colour(row.state, row.pause, row.reason))

    def _cell_nice(self, row: Row, face: Face, cells: int) -> Cell:
        unknown = row.observed and row.pids is None  # a subagent
        return self._number(f.UNKNOWN if unknown else str(row.nice), zero=row.nice == 0)

    def _cell_backend(self, row: Row, face: Face, cells: int) -> Cell:
        return f.clean(row.backend), self._style("muted")

    def _cell_model(self, row: Row, face: Face, cells: int) -> Cell:
        return self.look.cut_middle(f.model(row.model), cells) if row.model else f.UNKNOWN, self._style("fg")

    def _cell_context(self, row: Row, face: Face, cells: int) -> Cell:
        value = f.percent(row.context, row.context_limit)
        if value is None:
            return self._number(f.UNKNOWN)
        if row.observed:
            return f"~{value}", self._style("num-estimated")
        return str(value), self._share(value, CONTEXT_WARN)

    def _share(self, value: int, warn: int) -> Style:
        if value >= BAD:
            return self._style("bad", bold=True)
        return self._style("warn" if value >= warn else "fg")

    def _cell_rate(self, row: Row, face: Face, cells: int) -> Cell:
        if row.state in ("error", "terminated") and not row.rate:
            return self._number(f.UNKNOWN)
        return self._count(row.rate, exact=row.rate_exact, style="bright")

    def _cell_spark(self, row: Row, face: Face, cells: int) -> Cell:
        return (f.sparkline(row.spark, cells) if self.look.unicode else ""), self._style("tok-cache-read")

    def _used(self, row: Row, tokens: int) -> Cell:
        """Tokens in the window; of an observed agent whose transcript was not found nothing is known."""
        untold = row.observed and row.cost is None and not row.unpriced
        return self._number(f.UNKNOWN) if untold else self._count(tokens)

    def _cell_input(self, row: Row, face: Face, cells: int) -> Cell:
        return self._used(row, row.input)

    def _cell_cache(self, row: Row, face: Face, cells: int) -> Cell:
        return self._used(row, row.cache_read + row.cache_write)

    def _cell_cache_read(self, row: Row, face: Face, cells: int) -> Cell:
        return self._used(row, row.cache_read)

    def _cell_cache_write(self, row: Row, face: Face, cells: int) -> Cell:
        return self._used(row, row.cache_write)

    def _cell_output(self, row: Row, face: Face, cells: int) -> Cell:
        return self._used(row, row.output)

    def _cell_cost(self, row: Row, face: Face, cells: int) -> Cell:
        if row.unpriced and not row.cost:
            return "unpr.", self._style("muted")
        if row.cost is None:
            return self._number(f.UNKNOWN)
        if row.unpriced:
            text = f.money(row.cost, cells, exact=False, mark=self.look.glyphs.at_least)
            return text, self._style("num-estimated")
        text = f.money(row.cost, cells, exact=row.cost_exact)
        if not row.cost_exact:
            return text, self._style("num-estimated")
        return self._number(text if row.cost else "0", zero=not row.cost)

    def _cell_budget(self, row: Row, face: Face, cells: int) -> Cell:
        if row.observed:
            return "obs", self._style("muted", italic=True)
        if row.budget is None:
            return self._number(f.UNKNOWN)
        return f"{min(row.budget, 9999)}", self._share(row.budget, BUDGET_WARN)

    def _cell_mailbox(self, row: Row, face: Face, cells: int) -> Cell:
        if row.dead_letters:
            return f"{f.tokens(row.dead_letters)}!", self._style("bad", bold=True)
        return self._count(row.unread, style="bright")

    def _cell_tiers(self, row: Row, face: Face, cells: int) -> Cell:
        if row.tiers is None:
            return self._number(f.UNKNOWN)
        return "/".join(f.tokens(part) for part in row.tiers), self._style("fg")

    def _cell_cpu(self, row: Row, face: Face, cells: int) -> Cell:
        if row.cpu is None:
            return self._number(f.UNKNOWN)
        return self._measured(f"{row.cpu:.1f}" if row.cpu < 999.95 else f"{row.cpu:.0f}", row, not row.cpu)

    def _cell_memory(self, row: Row, face: Face, cells: int) -> Cell:
        return self._measured(f.size(row.memory), row, not row.memory)

    def _measured(self, text: str, row: Row, zero: bool) -> Cell:
        if row.stale is not None:
            return text, self._style("num-stale", italic=True)
        return self._number(text, zero=zero)

    def _cell_time(self, row: Row, face: Face, cells: int) -> Cell:
        return self._number(face.uptime)

    def _cell_pids(self, row: Row, face: Face, cells: int) -> Cell:
        return self._number(f.UNKNOWN if row.pids is None else str(row.pids), zero=not row.pids)

    def _cell_task(self, row: Row, face: Face, cells: int) -> Cell:
        quiet = row.pause is not None or row.state in ("idle", "terminated")
        if row.stale is not None:
            return f.clean(row.task), self._style("num-stale", italic=True)
        # What a failed one said last tells more than what it was to do.
        last = row.detail.partition(": ")[2] if row.state == "error" else ""
        return f.clean(last or row.task), self._style("muted" if quiet else "fg")


def why(row: Row, age: str, cells: int, look: Look) -> str:
    """Why an agent is in its state, then for how long; the age is cut first."""
    words = (
        f.clean(row.detail)
        or _DEFAULTS.get(row.pause or row.state, "")
        or (row.reason or "").replace("_", " ")
    )
    if words.startswith("frozen ") and len(words) > cells:
        words = "frz " + words[7:]
    if row.state == "error" and f.width(words) > cells:
        words = words.partition(": ")[0]  # the rest stands in TASK
    both = f"{words} {age}" if words else age
    return both if f.width(both) <= cells else look.cut(words, cells)


_DEFAULTS = {
    "planning": "call", "executing": "runs", "initializing": "starts", "error": "error",
    "terminated": "ended", "freeze": "frozen", "hold": "held",
}  # fmt: skip
