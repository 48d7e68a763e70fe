"""The bus's live trace: one line per message, the newest on top, painted only where it changed."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from rich.segment import Segment
from textual.strip import Strip

from .. import format as f
from ..bus import BusPicture, ended, latency, partly, waited
from ..lines import Lines, Part, strip
from ..look import Look

if TYPE_CHECKING:
    from agenttop.core.api.bus import MessageRow


class TraceColumn(NamedTuple):
    """A column: the width it appears at, its cells there, at 110 and at 160."""

    id: str
    title: str
    start: int
    cells: tuple[int, int, int]
    right: bool = False


COLUMNS = (
    TraceColumn("time", "TIME", 62, (8, 8, 8)),
    TraceColumn("seq", "SEQ", 96, (7, 6, 9), True),
    TraceColumn("from", "FROM", 0, (10, 10, 18)),
    TraceColumn("to", "TO", 0, (10, 12, 18)),
    TraceColumn("kind", "KIND", 104, (9, 9, 9)),
    TraceColumn("type", "TYPE", 136, (10, 10, 16)),
    TraceColumn("state", "STATE", 34, (9, 9, 12)),
    TraceColumn("age", "AGE", 54, (6, 6, 6), True),
    TraceColumn("size", "SIZE", 126, (5, 5, 5), True),
    TraceColumn("text", "TEXT", 44, (8, 8, 8)),
)


class Spot(NamedTuple):
    """A column with its place on the line."""

    column: TraceColumn
    x: int
    cells: int


def layout(width: int) -> tuple[Spot, ...]:
    """The columns of a line of ``width`` cells; the first cell is left blank, TEXT takes the rest."""
    place = 2 if width >= 160 else 1 if width >= 110 else 0
    gap = 2 if width >= 110 else 1
    spots: list[Spot] = []
    x = 1
    for column in COLUMNS:
        if width < column.start or x >= width:
            continue
        cells = width - x if column.id == "text" else min(column.cells[place], width - x)
        spots.append(Spot(column, x, cells))
        x += cells + gap
    return tuple(spots)


def state_ink(row: MessageRow) -> str:
    """The theme's variable of how far a message has come."""
    word = row.state.partition(" ")[0]
    if partly(row):
        return "warn"
    return {"accepted": "link", "dead": "bad", "closed": "muted"}.get(word, "good")


class _Painted(NamedTuple):
    row: MessageRow
    age: str
    left: str
    face: str
    strip: Strip


class TraceTable(Lines):
    """Heading and messages of ``picture``; the cursor is a message, and stays on it.

    Attributes:
        cursor: The number of the message under the cursor.
        following: The cursor is the newest message, whichever that is.
        focused: Keys go here, not to a part below.
        said: What stands at the right of the heading.
    """

    DEFAULT_CSS = "TraceTable { height: 1fr; }"

    def __init__(self, picture: BusPicture) -> None:
        super().__init__(id="trace")
        self.picture = picture
        self.cursor: int | None = None
        self.following = True
        self.focused = True
        self.said = ""
        self.now = 0.0
        self.why_empty: Part | None = None
        self._anchor: int | None = None
        """The number of the topmost message on screen, while the newest is not followed."""
        self._cache: dict[int, _Painted] = {}
        self._dress: tuple[Look, int] | None = None
        self._spots: tuple[Spot, ...] = ()
        self._top = 0

    # --- the cursor ----------------------------------------------------------------------------

    @property
    def current(self) -> MessageRow | None:
        """The message under the cursor."""
        trace = self.picture.trace
        if self.following:
            return trace.rows[trace.order[-1]] if trace.order else None
        return trace.rows.get(self.cursor) if self.cursor is not None else None

    @property
    def place(self) -> int:
        """The cursor's line, 0 is the newest."""
        return 0 if self.following or self.cursor is None else self._line_of(self.cursor)

    def _line_of(self, seq: int) -> int:
        """The line of a message, or of the next older one that is there."""
        order = self.picture.trace.order
        return max(0, min(len(order) - 1, len(order) - bisect_right(order, seq)))

    @property
    def newer(self) -> int:
        """How many lines are above the topmost one on screen."""
        return self._top

    def go(self, line: int) -> None:
        """Put the cursor on a line; on the newest it follows again."""
        order = self.picture.trace.order
        line = max(0, min(len(order) - 1, line))
        self._settle()
        self.following = line == 0
        self.cursor = order[-1 - line] if order else None
        self.picture.trace.holding = not self.following
        self._bring(line)

    def stay(self) -> None:
        """Stop following: the cursor stays on the message it is on."""
        if (row := self.current) is not None:
            self._settle()
            self.following, self.cursor = False, row.seq
            self.picture.trace.holding = True

    def follow(self) -> None:
        """The newest, from now on."""
        self.following, self.cursor, self._anchor = True, None, None
        self.picture.trace.holding = False

    def _settle(self) -> None:
        order = self.picture.trace.order
        if self.following and order:
            self._top, self._anchor = 0, order[-1]

    def _bring(self, line: int) -> None:
        order, room = self.picture.trace.order, max(1, self.size.height - 1)
        top = self._first()
        top = max(min(top, line), line - room + 1, 0)
        self._anchor = order[-1 - top] if order and not self.following else None

    def _first(self) -> int:
        """The line on top of the screen."""
        if self.following or self._anchor is None:
            return 0
        return self._line_of(self._anchor)

    def line_on_screen(self) -> int:
        """The cursor's line within this widget."""
        return self.place - self._top + 1

    # --- painting ------------------------------------------------------------------------------

    def build(self, width: int, height: int) -> list[Strip]:
        """The heading and a window of messages."""
        look = self.shell.look
        if self._dress is None or self._dress != (look, width):
            self._dress, self._spots = (look, width), layout(width)
            self._cache.clear()
        room = height - 1
        trace = self.picture.trace
        top = self._top = max(0, min(self._first(), len(trace.order) - room))
        lines = [self._heading(width)]
        end = len(trace.order) - top
        lines += [
            self._line(trace.rows[seq], width) for seq in reversed(trace.order[max(0, end - room) : end])
        ]
        if len(self._cache) > 4 * height + 50:
            kept = set(trace.order[max(0, end - room) : end])
            self._cache = {seq: painted for seq, painted in self._cache.items() if seq in kept}
        blank = strip([], width, look.palette("fg"))
        if not trace.order and self.why_empty is not None and room:
            lines.append(strip([self.why_empty], width, look.palette("fg"), look.glyphs.mark))
        return lines + [blank] * (height - len(lines))

    def _heading(self, width: int) -> Strip:
        look = self.shell.look
        head = look.palette("head-fg", "head-bg")
        text = ""
        for spot in self._spots:
            title = spot.column.title
            cut = title[: spot.cells]
            text = text.ljust(spot.x) + (
                cut.rjust(spot.cells) if spot.column.right else cut.ljust(spot.cells)
            )
        side = look.cut(self.said, max(0, width - len(text.rstrip()) - 3))
        text = text[: width - f.width(side) - 1].ljust(width - f.width(side) - 1) if side else text
        return strip([(text, head), (f"{side} " if side else "", head)], width, head, look.glyphs.mark)

    def _line(self, row: MessageRow, width: int) -> Strip:
        lost = self.shell.lost
        over = ended(row)
        if over and row.latency is not None:
            shown = latency(row.latency)
        else:  # a topic without subscribers has nobody to acknowledge it
            shown = f.UNKNOWN if over and row.state == "acked" else waited(self.now - row.at)
        left = ""
        if row.kind == "request" and not over and row.deadline is not None:
            away = row.deadline - self.now
            left = f"deadline in {waited(away)}" if away >= 0 else "deadline passed"
        on = row.seq == self.cursor if not self.following else row is self.current
        face = ("blur" if lost or not self.focused else "cursor") if on else "stale" if lost else ""
        painted = self._cache.get(row.seq)
        if painted is None or painted[1:4] != (shown, left, face) or painted.row != row:
            line = self._paint(row, shown, left, face, width)
            painted = self._cache[row.seq] = _Painted(row, shown, left, face, line)
        return painted.strip

    def _paint(self, row: MessageRow, age: str, left: str, face: str, width: int) -> Strip:
        look = self.shell.look
        on = {"cursor": "cursor-bg", "blur": "blur-bg"}.get(face, "bg")
        flat = {"cursor": "cursor-fg", "stale": "num-stale"}.get(face)
        palette = look.palette
        fill = palette(flat or "fg", on, italic=face == "stale")
        segments: list[Segment] = []
        x = 0
        for spot in self._spots:
            text, ink = self._cell(spot.column.id, row, age, left)
            style = fill if flat else palette(ink, on)
            text = look.cut(text, spot.cells)
            pad = " " * (spot.cells - f.width(text))
            segments.append(Segment(" " * (spot.x - x), fill))
            segments.append(Segment(pad + text if spot.column.right else text + pad, style))
            x = spot.x + spot.cells
        if x < width:
            segments.append(Segment(" " * (width - x), fill))
        return Strip([segment for segment in segments if segment.text], width)

    def _cell(self, column: str, row: MessageRow, age: str, left: str) -> tuple[str, str]:
        match column:
            case "time":
                return f.clock(row.at), "muted"
            case "seq":
                return str(row.seq), "muted"
            case "from":
                return f.clean(row.sender), who_ink(row.sender)
            case "to":
                return f.clean(row.to), who_ink(row.to)
            case "kind":
                return f.clean(row.kind), "fg"
            case "type":
                return f.clean(row.type), "muted"
            case "state":
                return f.clean(row.state), state_ink(row)
            case "age":
                return age, "fg"
            case "size":
                return f.size(row.size), "muted"
        text = f.clean(row.text)
        note = left or (f"({f.clean(row.note)})" if row.note else "")
        return f"{text}  {note}" if note else text, "fg"


def who_ink(name: str) -> str:
    """The theme's variable of an address: topics and everybody, people, agents."""
    return "link" if name[:1] in ("#", "*") else "accent" if name[:1] == "@" else "bright"
