"""Widgets that draw themselves line by line and repaint only the cells that changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

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
        taken = width(text)
        if taken > left:
            text = cut(text, left, mark)
            taken = width(text)
        segments.append(Segment(text, style))
        left -= taken
    if left > 0:
        segments.append(Segment(" " * left, fill))
    return Strip(segments, cells)


def span(old: Strip, new: Strip) -> tuple[int, int] | None:
    """The first changed cell and the one after the last, or ``None`` if the lines look the same."""
    if old is new:
        return None
    a, b = list(old), list(new)
    if a == b:
        return None
    start = _common(a, b)
    end = _common(a[::-1], b[::-1], backwards=True)
    return start, max(start + 1, new.cell_length - end)


def _common(a: list[Segment], b: list[Segment], *, backwards: bool = False) -> int:
    """Cells the two begin with (or end with, given reversed) alike."""
    cells = 0
    for left, right in zip(a, b, strict=False):
        if left == right:
            cells += left.cell_length
            continue
        if left.style == right.style and left.text.isascii() and right.text.isascii():
            one, two = (left.text[::-1], right.text[::-1]) if backwards else (left.text, right.text)
            for x, y in zip(one, two, strict=False):
                if x != y:
                    break
                cells += 1
        break
    return cells


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
        dirty = [
            Region(change[0], y, change[1] - change[0], 1)
            for y, (before, after) in enumerate(zip(old, self._lines, strict=True))
            if (change := span(before, after))
        ]
        if dirty:
            self.refresh(*dirty)

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
