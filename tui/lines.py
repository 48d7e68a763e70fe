"""Widgets that draw themselves line by line and repaint only the cells that changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from .format import cut, width

if TYPE_CHECKING:
    from .app import AgentTopApp

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
    before, after = _spread(a), _spread(b)
    if before is None or after is None or len(before[0]) != len(after[0]):
        return [(0, new.cell_length)]
    differ = [
        x
        for x, (one, two, style, other) in enumerate(
            zip(before[0], after[0], before[1], after[1], strict=True)
        )
        if one != two or (style is not other and style != other)
    ]
    found: list[tuple[int, int]] = []
    for x in differ:
        if found and x - found[-1][1] <= NEAR:
            found[-1] = (found[-1][0], x + 1)
        else:
            found.append((x, x + 1))
    return found


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
