"""The strip below the table: the cursor's row with everything its line has no room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.strip import Strip

from .. import format as f
from ..lines import Lines, Part, strip
from ..look import Look

if TYPE_CHECKING:
    from agenttop.core.api import Row


def rule(title: str, right: str, width: int, look: Look, *, accent: str = "accent") -> Strip:
    """``── Title ────────── right ─``: what separates panes."""
    palette, line = look.palette, look.glyphs.rule
    title = look.cut(title, max(0, width - 6))
    if f.width(title) + f.width(right) + 8 > width:
        right = ""
    middle = width - f.width(title) - f.width(right) - (7 if right else 5)
    parts: list[Part] = [
        (f"{line} ", palette("rule")), (title, palette(accent, bold=True)), (" ", palette("rule")),
        (line * max(0, middle + (1 if right else 2)), palette("rule")),
    ]  # fmt: skip
    if right:
        parts += [(f" {right} ", palette("muted")), (line, palette("rule"))]
    return strip(parts, width, palette("rule"))


class Inspector(Lines):
    """A rule and two lines about the row under the cursor."""

    DEFAULT_CSS = "Inspector { height: 3; }"

    def build(self, width: int, height: int) -> list[Strip]:
        """The three lines."""
        look = self.shell.look
        palette = look.palette
        row = self.shell.model.current
        if row is None:
            return [rule("no agent", "i hide", width, look), *[strip([], width, palette("fg"))] * 2]
        title = f"{f.clean(row.name)} {f.clean(row.id)}"
        return [
            rule(title, "i hide", width, look),
            strip(self._what(row, look), width, palette("fg"), look.glyphs.mark),
            strip(self._numbers(row, look), width, palette("fg"), look.glyphs.mark),
        ]

    def _what(self, row: Row, look: Look) -> list[Part]:
        palette = look.palette
        about = [
            f.clean(row.template or ""), f.clean(row.backend), f.model(row.model) if row.model else "",
            f"nice {row.nice}", f"run {row.run}", f.clean(row.labels),
        ]  # fmt: skip
        tail = ", ".join(part for part in about if part)
        task = look.cut(f.clean(row.task), max(12, self.size.width - f.width(tail) - 5))
        parts: list[Part] = [(" ", palette("fg"))]
        if task:
            parts += [(task, palette("bright")), (f" {look.glyphs.dot} ", palette("muted"))]
        return [*parts, (look.plain(tail), palette("fg"))]

    def _numbers(self, row: Row, look: Look) -> list[Part]:
        palette = look.palette
        values = (
            ("in", f.tokens(row.input), "tok-input"),
            ("cache", f.tokens(row.cache_read + row.cache_write), "tok-cache-read"),
            ("out", f.tokens(row.output), "tok-output"),
            ("mbox", f.tokens(row.unread), "label"),
            ("cpu", f.UNKNOWN if row.cpu is None else f"{row.cpu:.1f}%", "label"),
            ("mem", f.size(row.memory), "label"),
        )
        parts: list[Part] = []
        for word, value, name in values:
            parts += [(f" {word} ", palette(name)), (value + " ", palette("fg"))]
        if row.pids is not None:
            parts.append((f" {row.pids} process{'' if row.pids == 1 else 'es'}", palette("fg")))
        return parts
