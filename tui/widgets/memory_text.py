"""A text area that shows what agents wrote without doing what it says, in any terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from ..format import clean

if TYPE_CHECKING:
    from ..app import AgentTopApp


def editable(text: str) -> tuple[str, int]:
    """A text as it can be edited, and how many characters that was not: escape sequences, hidden ones.

    Line breaks and tabs stay.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    kept = "\n".join("\t".join(clean(part) for part in line.split("\t")) for line in lines)
    return kept, len(text.replace("\r\n", "\n")) - len(kept)


class MemoryText(TextArea):
    """The editor of blocks and notes: words wrap, ``Tab`` writes four blanks, undo is ``Ctrl+Z``."""

    DEFAULT_CSS = """
    MemoryText { border: none; padding: 0 1; background: $panel; color: $fg; height: 1fr; }
    MemoryText:focus { border: none; }
    MemoryText .text-area--cursor { color: $cursor-fg; background: $cursor-bg; }
    MemoryText .text-area--cursor-line { background: $panel; }
    MemoryText .text-area--selection { color: $cursor-fg; background: $blur-bg; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+home", "to_line(0)", show=False),
        Binding("ctrl+end", "to_line(-1)", show=False),
    ]

    def __init__(self, text: str = "", *, id: str | None = None) -> None:
        super().__init__(text, soft_wrap=True, tab_behavior="indent", id=id, highlight_cursor_line=False)

    def action_to_line(self, line: int) -> None:
        """Go to the beginning of the text (0) or to its end (-1)."""
        self.move_cursor((0, 0) if line == 0 else self.document.end)

    def get_line(self, line_index: int) -> Text:
        """One line, in the characters that this terminal has."""
        line = super().get_line(line_index)
        if cast("AgentTopApp", self.app).look.unicode or line.plain.isascii():
            return line
        from rich.cells import cell_len

        plain = "".join(char if char.isascii() else "?" * max(1, cell_len(char)) for char in line.plain)
        return Text(plain, end="", no_wrap=True)

    async def _on_paste(self, event: Any) -> None:
        """Pasted text, without control characters."""
        event.text = editable(event.text)[0]
        await super()._on_paste(event)
