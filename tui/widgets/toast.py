"""Toasts: at most three, two lines each, bottom right, never over the cursor's row."""

from __future__ import annotations

from dataclasses import dataclass

from textual.strip import Strip

from .. import format as f
from ..lines import Lines, Part, strip

#: Seconds a toast stays; errors stay until Esc.
STAY = 5.0
MOST = 3
CELLS = 46

LEVELS = {"good": "good", "info": "accent", "warn": "warn", "error": "bad"}


@dataclass(slots=True)
class Toast:
    """Something that happened, in two lines."""

    title: str
    text: str
    level: str
    at: float

    def over(self, now: float) -> bool:
        """Whether it has been seen long enough."""
        return self.level != "error" and now - self.at >= STAY


class Toasts(Lines):
    """Draws the app's toasts above the footer, or below the tabs if the cursor is there."""

    DEFAULT_CSS = """
    Toasts { layer: toasts; position: absolute; width: 46; height: 0; display: none; }
    """

    def __init__(self) -> None:
        super().__init__(id="toasts")

    def place(self, cursor_y: int | None, top: int, bottom: int, width: int) -> None:
        """Show what there is between lines ``top`` and ``bottom``, off the line ``cursor_y``."""
        count = len(self.shell.toasts)
        self.display = bool(count)
        if not count:
            return
        lines = count * 3 - 1
        cells = min(CELLS, width)
        y = max(top, bottom - lines)
        if cursor_y is not None and y <= cursor_y < y + lines:
            # Below the tabs if the cursor is not there, else what fits on the side with more room.
            above, below = cursor_y - top, bottom - cursor_y - 1
            y = max(top, cursor_y - lines) if above >= lines or above > below else cursor_y + 1
        self.styles.width, self.styles.height = cells, min(lines, max(1, bottom - y))
        self.styles.offset = (max(0, width - cells - (1 if width > cells else 0)), y)
        self.redraw()

    def build(self, width: int, height: int) -> list[Strip]:
        """Two lines for each toast, a blank one between."""
        look = self.shell.look
        palette = look.palette
        now = self.shell.clock.time()
        lines: list[Strip] = []
        for toast in self.shell.toasts:
            name = LEVELS[toast.level]
            edge: Part = (look.glyphs.bullet, palette(name, "panel"))
            age = f.age(now - toast.at)
            room = width - len(age) - 4
            title = f.fit(look.plain(toast.title), room, look.glyphs.mark)
            ground = palette("fg", "panel")
            space: Part = (" ", ground)
            if lines:
                lines.append(strip([], width, palette("fg")))
            lines += [
                strip([edge, space, (title, palette(name, "panel", bold=True)), space,
                       (age, palette("muted", "panel"))], width, ground),
                strip([edge, space, (look.plain(toast.text), ground)], width, ground, look.glyphs.mark),
            ]  # fmt: skip
        return lines[:height]
