"""F6: choose the column to sort by."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.strip import Strip

from ..columns import COLUMNS, Column
from ..lines import Lines, Part, strip
from ..widgets.inspector import rule

if TYPE_CHECKING:
    from ..app import AgentTopApp

SORTABLE: tuple[Column, ...] = tuple(column for column in COLUMNS if column.sort is not None)


class _Choices(Lines):
    """The list; scrolls so that the chosen line is seen."""

    DEFAULT_CSS = "_Choices { width: 58; height: auto; }"

    def __init__(self, at: int) -> None:
        super().__init__(id="choices")
        self.at = at

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """A line each, and the rule above."""
        return min(len(SORTABLE) + 1, max(3, self.app.size.height - 2))

    def build(self, width: int, height: int) -> list[Strip]:
        """Rule and columns."""
        look, model = self.shell.look, self.shell.model
        palette = look.palette
        room = max(1, height - 1)
        top = max(0, min(self.at - room // 2, len(SORTABLE) - room))
        lines = [rule("Sort by", "Enter choose  Esc back", width, look)]
        for number, column in enumerate(SORTABLE[top : top + room], top):
            chosen = number == self.at
            fg, on = ("cursor-fg", "cursor-bg") if chosen else ("fg", "surface")
            mark = (look.glyphs.down if model.largest else look.glyphs.up) if column.id == model.sort else " "
            parts: list[Part] = [
                (f" {mark} {column.title:<13}", palette(fg if chosen else "bright", on)),
                (column.text, palette(fg if chosen else "muted", on)),
            ]
            lines.append(strip(parts, width, palette(fg, on), look.glyphs.mark))
        return lines


class SortScreen(ModalScreen[str | None]):
    """Gives the id of a column, or ``None``. The same column again turns the order round."""

    DEFAULT_CSS = """
    SortScreen { align: left bottom; background: $bg 0%; }
    """
    MOVES: ClassVar[dict[str, int]] = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -8, "pagedown": 8,
                                       "home": -99, "end": 99}  # fmt: skip

    def compose(self) -> ComposeResult:
        """The list, beginning at the column in force."""
        current = cast("AgentTopApp", self.app).model.sort
        yield _Choices(next(n for n, column in enumerate(SORTABLE) if column.id == current))

    def on_key(self, event: events.Key) -> None:
        """Move, choose or leave."""
        event.stop()
        event.prevent_default()
        choices = self.query_one(_Choices)
        if event.key in self.MOVES:
            choices.at = max(0, min(len(SORTABLE) - 1, choices.at + self.MOVES[event.key]))
            choices.redraw()
        elif event.key == "enter":
            self.dismiss(SORTABLE[choices.at].id)
        elif event.key in ("escape", "q", "f6", "f10", "ctrl+c"):
            self.dismiss(None)
