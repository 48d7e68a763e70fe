"""A conversation as a sequence diagram: lifelines, arrows, what is not acknowledged, who waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len

from ..bus import ended, partly, waited
from ..format import clean, clock, cut, cut_middle
from .canvas import Canvas
from .paper import Row

if TYPE_CHECKING:
    from agenttop.core.api.bus import MessageRow

#: Cells between two lifelines at least.
LANE = 13


class Doing(NamedTuple):
    """What an agent does now: a phrase, its ink, and two words for the foot of its lifeline."""

    text: str
    ink: str
    short: str = ""


class Marks(NamedTuple):
    """The characters of the diagram."""

    solid: str
    dashed: str
    right: str
    left: str
    dead: str
    life: str
    foot: str
    act: str
    cut: str


UNICODE = Marks("─", "╌", "▶", "◀", "✗", "│", "▽", "┊", "…")
ASCII = Marks("-", "- ", ">", "<", "x", "|", "v", ":", ">")


class Diagram(NamedTuple):
    """The names above the lifelines, and the lines below them; ``at`` is the line of the chosen message."""

    names: Row
    rows: list[Row]
    at: int


def members(messages: Sequence[MessageRow]) -> list[str]:
    """Who takes part, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in messages for name in (row.sender, row.to)))


def _lanes(messages: Sequence[MessageRow], chosen: MessageRow | None, most: int) -> list[str]:
    """Whose lifelines there is room for: the chosen message's two, then who takes part most."""
    names = members(messages)
    if len(names) <= most:
        return names
    first = [chosen.sender, chosen.to] if chosen is not None else []
    often = [name for name, _ in Counter(n for row in messages for n in (row.sender, row.to)).most_common()]
    kept = set(list(dict.fromkeys([*first, *often]))[:most])
    return [name for name in names if name in kept]


def _places(names: Sequence[str], left: int, width: int) -> dict[str, int]:
    """The cell of each lifeline."""
    if len(names) == 1:
        return {names[0]: left + max(4, (width - left) // 3)}
    first = left + max(3, min(7, cell_len(clean(names[0])) // 2))
    last = width - 1 - max(8, min(9, cell_len(clean(names[-1])) // 2))
    step = (last - first) / (len(names) - 1)
    return {name: round(first + step * number) for number, name in enumerate(names)}


def diagram(
    messages: Sequence[MessageRow],
    chosen: MessageRow | None,
    now: float,
    width: int,
    tall: int,
    doing: Mapping[str, Doing],
    *,
    ascii: bool = False,
) -> Diagram:
    """The diagram for ``width`` cells; where ``tall`` lines are too few it is drawn closer together.

    It may be longer than ``tall``: it is scrolled then. ``doing`` says what agents do, by name.
    """
    long_ago = bool(messages) and now - messages[0].at >= 3600
    left = 10 if long_ago else 8
    span = max(1, width - left - 12)
    names = _lanes(messages, chosen, max(2, span // LANE + 1))
    pen = _Pen(_places(names, left, width), width, now, doing, ASCII if ascii else UNICODE, long_ago, chosen)
    close = sum(pen.needs(row) for row in messages) + 2 > tall
    canvas = Canvas(width, sum(1 if close else pen.needs(row) for row in messages) + 2)
    pen.begin(canvas, names)
    y = at = 0
    for row in messages:
        if chosen is not None and row.seq == chosen.seq:
            at = y
        y += pen.draw(canvas, y, row, close)
    pen.finish(canvas, y)
    head = Canvas(width, 1)
    for name, x in pen.places.items():
        shown = cut_middle(clean(name), max(6, LANE - 1 if len(names) > 2 else 24), pen.marks.cut)
        ink = "link" if name[:1] in "#*" else "bright bold"
        head.put(max(0, min(x - cell_len(shown) // 2, width - cell_len(shown))), 0, shown, ink)
    return Diagram(head.rows()[0], canvas.rows(), at)


class _Pen:
    """Draws messages below each other."""

    def __init__(
        self, places: dict[str, int], width: int, now: float, doing: Mapping[str, Doing], marks: Marks,
        long_ago: bool, chosen: MessageRow | None,
    ) -> None:  # fmt: skip
        self.places, self.width, self.now, self.doing, self.marks = places, width, now, doing, marks
        self.long_ago, self.chosen = long_ago, chosen

    def begin(self, canvas: Canvas, names: Sequence[str]) -> None:
        """The lifelines."""
        for name in names:
            for y in range(canvas.height - 1):
                canvas.put(self.places[name], y, self.marks.life, "rule")

    def needs(self, row: MessageRow) -> int:
        """Lines of a message: its text, its arrow, and what it waits for."""
        if row.sender not in self.places or row.to not in self.places:
            return 1
        return 2 + len(self._below(row))

    def _below(self, row: MessageRow) -> list[tuple[str, str]]:
        if row.state.startswith(("dead", "closed")):
            return [(f"{row.state}: {row.note}" if row.note else row.state, "bad")]
        if ended(row):
            return []
        said = "not delivered yet" if row.state == "accepted" else row.state
        found = [(f"{said}, not acked" if row.state == "delivered" else said, "state-waiting")]
        doing = self.doing.get(row.to)
        return [*found, (doing.text, "muted")] if doing is not None and not partly(row) else found

    def draw(self, canvas: Canvas, y: int, row: MessageRow, close: bool) -> int:
        """One message from line ``y`` on; gives how many lines it took."""
        start, end = self.places.get(row.sender), self.places.get(row.to)
        here = self.chosen is not None and row.seq == self.chosen.seq
        text, bold = clean(row.text), " bold" if here else ""
        label_ink = "bright bold" if here else "fg"
        line = y if close or start is None or end is None else y + 1
        canvas.put(1, line, clock(row.at) if self.long_ago else clock(row.at)[3:],
                   "bright bold" if here else "muted")  # fmt: skip
        ink, head = self._arrow(row)
        if start is None or end is None:
            said = f"{clean(row.sender)} {self.marks.solid}{self.marks.right} {clean(row.to)}: {text}"
            x = 10 if self.long_ago else 8
            canvas.put(x, y, cut(said, self.width - x - 1, self.marks.cut), f"muted{bold}")
            return 1
        low, high = min(start, end), max(start, end)
        if start == end:
            said = cut(f"to itself: {text}", self.width - low - 3, self.marks.cut)
            canvas.put(low + 2, line, said, label_ink)
            return 1 if close else 2
        if not close:
            canvas.put(low + 2, y, cut(text, self.width - low - 3, self.marks.cut), label_ink)
        self._line(canvas, line, low, high, f"{ink}{bold}", ended(row), end > start)
        at_end = high - 1 if end > start else low + 1
        canvas.put(at_end, line, head or (self.marks.right if end > start else self.marks.left), ink)
        if close:
            label = cut(text, high - low - 7, self.marks.cut)
            if label and high - low > 12:
                canvas.put(low + 3, line, f" {label} ", label_ink)
            return 1
        below = self._below(row)
        for number, (said, shade) in enumerate(below, 1):
            canvas.put(low + 2, line + number, cut(clean(said), self.width - low - 3, self.marks.cut), shade)
        if below and row.kind == "request" and not ended(row):
            waits = f"waits {waited(self.now - row.at)}"
            canvas.put(self._beside(start, low, waits, below[0][0]), line + 1, waits, "state-waiting bold")
        return 2 + len(below)

    def _beside(self, start: int, low: int, waits: str, said: str) -> int:
        """Where ``waits`` stands: at the asker's lifeline, never over what is ``said``."""
        if start > low:
            return max(0, min(start - len(waits) // 2, self.width - len(waits)))
        return start - len(waits) - 1 if start > len(waits) else low + 4 + cell_len(clean(said))

    def _arrow(self, row: MessageRow) -> tuple[str, str]:
        """Ink of the arrow, and its head where that is no arrow head."""
        if row.state.startswith(("dead", "closed")):
            return "bad", self.marks.dead
        if not ended(row):
            return "state-waiting", ""
        return ("link" if row.kind == "request" else "good"), ""

    def _line(
        self, canvas: Canvas, y: int, low: int, high: int, ink: str, solid: bool, rightwards: bool
    ) -> None:  # fmt: skip
        mark = self.marks.solid if solid else self.marks.dashed
        room = high - low - 1
        # Beside the head stands a dash, not the gap between two.
        first = room - 2 if rightwards else 1
        canvas.put(low + 1, y, "".join(mark[(at - first) % len(mark)] for at in range(room)), ink)

    def finish(self, canvas: Canvas, y: int) -> None:
        """What each does now, and the line that says when that is."""
        for name, x in self.places.items():
            doing = self.doing.get(name)
            if doing is not None and doing.short:
                canvas.put(x, y, self.marks.act, doing.ink)
                canvas.put(x + 2, y, cut(doing.short, LANE - 3, self.marks.cut), doing.ink)
        y += 1
        said = f"{clock(self.now) if self.long_ago else clock(self.now)[3:]} now "
        start = min(self.places.values(), default=len(said)) - 2
        canvas.put(max(len(said) + 1, start), y, self.marks.dashed * self.width, "rule")
        canvas.put(1, y, said, "muted")
        for x in self.places.values():
            canvas.put(x, y, self.marks.foot, "muted")
