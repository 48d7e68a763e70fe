"""``Sheet``: rows of coloured text on the pane's own ground, of which only changed cells are painted."""

from __future__ import annotations

from textual.strip import Strip

from ..lines import Lines
from .paper import Ink, Piece, Row, ink_of, length


class Sheet(Lines):
    """Rows as data, as ``Paper`` has them, but cheap to change every second.

    ``top`` is the first row shown; ``fixed`` rows above it do not scroll.
    """

    DEFAULT_CSS = "Sheet { height: 1fr; }"

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.rows: list[Row] = []
        self.fixed = 0
        self.top = 0
        self._kept: dict[tuple[Piece, ...], Strip] = {}
        self._kept_for: tuple[Ink, int] | None = None

    def show(self, rows: list[Row], *, fixed: int = 0) -> None:
        """Replace what is shown."""
        self.rows, self.fixed = rows, fixed
        self.scroll(0)

    def scroll(self, by: int) -> None:
        """Move by rows, as far as there are any."""
        self.top = max(0, min(self.top + by, len(self.rows) - max(1, self.size.height)))
        self.redraw()

    def bring(self, index: int) -> None:
        """Scroll so that a row (counted below the fixed ones) is seen."""
        room = max(1, self.size.height - self.fixed)
        if index < self.top:
            self.top = index
        elif index >= self.top + room:
            self.top = index - room + 1
        self.scroll(0)

    def build(self, width: int, height: int) -> list[Strip]:
        """Fixed rows, then those from ``top`` on."""
        ink = ink_of(self.app, "bg")
        shown = [*self.rows[: self.fixed], *self.rows[self.fixed + self.top :]][:height]
        # A row that is equal to one before is the same strip: nothing of it is compared or painted.
        kept = self._kept if self._kept_for == (ink, width) else {}
        self._kept, self._kept_for = {}, (ink, width)
        for row in shown:
            key = tuple(row)
            self._kept[key] = kept.get(key) or ink.strip(row, width)
        lines = [self._kept[tuple(row)] for row in shown]
        return lines + [ink.strip([], width)] * (height - len(lines))


def under_cursor(row: Row, width: int) -> Row:
    """The row as the cursor's bar: one ground, bold stays bold."""
    found: Row = [
        (text, "cursor-fg/cursor-bg bold" if "bold" in ink else "cursor-fg/cursor-bg") for text, ink in row
    ]
    return [*found, (" " * max(0, width - length(found)), "cursor-fg/cursor-bg")]
