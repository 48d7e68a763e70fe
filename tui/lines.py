"""Widgets that draw themselves line by line and repaint only the cells that changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.filter import ANSIToTruecolor
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from .format import cut, width

if TYPE_CHECKING:
    from .app import AgentTopApp
    from .look import Look

#: A text and the style it is drawn in.
Part = tuple[str, Style]


def strip(parts: Iterable[Part], cells: int, fill: Style, mark: str = "…") -> Strip:
    """Parts side by side in exactly ``cells`` cells; what is too long is cut with ``mark``."""
    segments: list[Segment] = []
    left = cells
    for text, style in parts:
        if not text or left <= 0:
            continue
        taken = len(text) if text.isascii() else width(text)
        if taken > left:
            text = cut(text, left, mark)
            taken = width(text)
        segments.append(Segment(text, style))
        left -= taken
    if left > 0:
        segments.append(Segment(" " * left, fill))
    return Strip(segments, cells)


#: Changes closer than this are repainted in one go: moving the terminal's cursor costs as much.
NEAR = 10


def changes(old: Strip, new: Strip) -> list[tuple[int, int]]:
    """The stretches of cells that differ between two lines, as ``(first, after the last)``."""
    if old is new:
        return []
    a, b = list(old), list(new)
    if a == b:
        return []
    head = _alike(a, b)
    tail = _alike(a[head:][::-1], b[head:][::-1])
    start = _cells(a[:head])
    before, after = _spread(a[head : len(a) - tail]), _spread(b[head : len(b) - tail])
    if before is None or after is None or len(before[0]) != len(after[0]):
        return [(start, new.cell_length - _cells(b[len(b) - tail :]))]
    found: list[tuple[int, int]] = []
    pairs = zip(before[0], after[0], before[1], after[1], strict=True)
    for x, (one, two, style, other) in enumerate(pairs, start):
        if one == two and (style is other or style == other):
            continue
        if found and x - found[-1][1] <= NEAR:
            found[-1] = (found[-1][0], x + 1)
        else:
            found.append((x, x + 1))
    return found


def _alike(a: list[Segment], b: list[Segment]) -> int:
    """How many segments both begin with."""
    count = 0
    for one, two in zip(a, b, strict=False):
        if one != two:
            break
        count += 1
    return count


def _cells(segments: list[Segment]) -> int:
    return sum(width(segment.text) for segment in segments)


def _spread(segments: list[Segment]) -> tuple[str, list[Style | None]] | None:
    """Text and the style of each cell; ``None`` where a character may take two cells or none."""
    text = "".join([segment.text for segment in segments])
    if not text.isascii() and cell_len(text) != len(text):
        return None
    styles: list[Style | None] = []
    for part, style, _ in segments:
        styles += [style] * len(part)
    return text, styles


def dirty(old: list[Strip], new: list[Strip]) -> list[Region]:
    """The regions of a widget to repaint when its lines change."""
    return [
        Region(start, y, end - start, 1)
        for y, (before, after) in enumerate(zip(old, new, strict=True))
        if before is not after
        for start, end in changes(before, after)
    ]


def ready(widget: Widget, look: Look, crop: Region) -> list[Strip]:
    """What ``Widget.render_lines`` gives, of a widget whose lines are complete.

    Textual would look up what CSS adds to each line (padding, borders, backgrounds), and that is
    nothing here: the lines fill the widget. Filters that change colours still apply; the one that
    turns the terminal's sixteen into true colours has nothing to do in a theme without them.
    """
    lines = [widget.render_line(y) for y in crop.line_range]
    for line_filter in widget.get_line_filters():
        if look.palette.data.ansi or not isinstance(line_filter, ANSIToTruecolor):
            background = widget.background_colors[1]
            lines = [line.apply_filter(line_filter, background) for line in lines]
    first, last = crop.column_span
    if (first, last) != (0, widget.size.width):
        lines = [line.crop(first, last) for line in lines]
    return lines


class Lines(Widget):
    """A widget of ready-made lines.

    A subclass gives ``build``; ``redraw`` calls it and repaints the cells that differ from before.
    """

    DEFAULT_CSS = "Lines { height: 1; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: list[Strip] = []

    @property
    def shell(self) -> AgentTopApp:
        """The app, with its own type."""
        return cast("AgentTopApp", self.app)

    def build(self, width: int, height: int) -> list[Strip]:
        """The lines to show, each ``width`` cells wide; a bare ``Lines`` is empty."""
        return [Strip.blank(width, self.shell.look.palette("fg"))] * height

    def redraw(self) -> None:
        """Build the lines anew and repaint what changed."""
        size = self.size
        if not size.width or not size.height:
            return
        old, self._lines = self._lines, self.build(size.width, size.height)
        if len(old) != len(self._lines):
            self.refresh()
            return
        if regions := dirty(old, self._lines):
            self.refresh(*regions)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of a region, as Textual asks for them."""
        return super().render_lines(crop) if self.styles.gutter else ready(self, self.shell.look, crop)

    def on_resize(self) -> None:
        """Another width is another set of lines."""
        self._lines = []
        self.redraw()

    def on_mount(self) -> None:
        """The first lines."""
        self.redraw()

    def render_line(self, y: int) -> Strip:
        """One line, as Textual asks for it."""
        if not self._lines and self.size.width:
            self._lines = self.build(self.size.width, self.size.height)
        if y < len(self._lines):
            return self._lines[y]
        return Strip.blank(self.size.width, self.shell.look.palette("fg"))
