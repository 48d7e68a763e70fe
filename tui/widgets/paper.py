"""Rows of coloured text as data, and the widget that shows them.

A ``Piece`` is a text with the name of its ink, ``"label bold"`` or ``"act-fg/act-bg"``: variables of
the theme, not colours. So what a dialog says is made and tested without a terminal, and looks right
in every theme, without colour and without Unicode.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from agenttop.themes import Palette

from ..format import clean
from ..look import Look

if TYPE_CHECKING:
    from ..app import AgentTopApp

Piece = tuple[str, str]
Row = list[Piece]

#: What stands for a character where there is no Unicode.
_ASCII = str.maketrans({
    "├": "|", "└": "`", "│": "|", "─": "-", "━": "=", "▌": ">", "▎": "!", "…": ">", "•": "*", "✓": "+",
    "✗": "x", "⏎": "/",
    "≥": ">=", "→": "->", "·": ".", "–": "-", "▽": "v", "△": "^", "↑": "^", "↓": "v", "■": "#", "□": ".",
    "╍": ":", "‹": "<", "›": ">", "┃": "#", "≤": "<", "┬": "+",
})  # fmt: skip


class Ink:
    """From names of inks to Rich styles: one theme, with or without Unicode.

    ``ground`` is the variable behind text whose ink names none: ``surface`` in dialogs.
    """

    def __init__(self, palette: Palette, *, ascii: bool = False, ground: str = "surface") -> None:
        self.palette = palette
        self.ascii = ascii
        self.ground = ground
        self._styles: dict[str, Style] = {}

    def style(self, ink: str) -> Style:
        """The style of ``"fg[/on] [bold] [italic] [underline] [field]"``.

        ``field`` is ground to type on: where there is no colour it is underlined.
        """
        style = self._styles.get(ink)
        if style is None:
            names, *marks = ink.split() or [""]
            fg, _, on = names.partition("/")
            style = self._styles[ink] = self.palette(
                fg or "fg",
                on or self.ground,
                bold="bold" in marks,
                italic="italic" in marks,
                underline="underline" in marks or ("field" in marks and self.palette.mono),
            )
        return style

    def text(self, text: str) -> str:
        """``text`` in the characters there are."""
        if not self.ascii or text.isascii():
            return text
        return text.translate(_ASCII).encode("ascii", "replace").decode()

    def strip(self, row: Sequence[Piece], width: int, ground: str = "") -> Strip:
        """A row in exactly ``width`` cells, cut with a mark if it is longer."""
        segments = [Segment(self.text(text), self.style(ink)) for text, ink in row if text]
        strip = Strip(segments)
        blank = self.style(ground)
        if strip.cell_length > width:
            mark = Segment(self.text("…"), segments[-1].style if segments else blank)
            strip = Strip.join([strip.crop(0, max(0, width - 1)), Strip([mark])]).crop(0, width)
        return strip.adjust_cell_length(width, blank)


def ink_of(app: App[Any], ground: str = "surface") -> Ink:
    """The ink of the running app's look, made once per look and ground."""
    look = cast("AgentTopApp", app).look
    return _ink(look, ground)


@lru_cache(maxsize=16)
def _ink(look: Look, ground: str) -> Ink:
    return Ink(look.palette, ascii=not look.unicode, ground=ground)


def length(row: Iterable[Piece]) -> int:
    """Cells a row takes (in Unicode)."""
    return sum(cell_len(text) for text, _ in row)


def column(text: str, cells: int, ink: str = "", *, right: bool = False) -> Piece:
    """``text`` made harmless, in a column of ``cells``, with at least one blank after it."""
    text = clean(text)
    if right:
        return (text.rjust(cells), ink)
    room = max(1, cells - 1)
    if cell_len(text) > room:
        text = set_cell_size(text, room - 1) + "…"
    return (set_cell_size(text, cells), ink)


def ends(left: Row, right: Row, width: int, fill: Piece = (" ", "")) -> Row:
    """``left`` at the left and ``right`` at the right edge; ``right`` goes if there is no room."""
    gap = width - length(left) - length(right)
    if gap < 1:
        return left
    return [*left, (fill[0] * gap, fill[1]), *right]


def rule(title: str, width: int, right: str = "") -> Row:
    """``─ Title ──────── right ─``."""
    left: Row = [("─ ", "rule"), (title, "label bold"), (" ", "rule")] if title else []
    tail: Row = [(" " + right + " ", "muted"), ("─", "rule")] if right else []
    return (
        ends(left, tail, width, ("─", "rule"))
        if tail
        else [*left, ("─" * max(0, width - length(left)), "rule")]
    )


def wrapped(text: str, width: int, ink: str = "", indent: int = 0) -> list[Row]:
    """``text`` in rows of at most ``width`` cells, broken at blanks where there are any."""
    rows: list[str] = []
    line = ""
    for word in clean(text).split(" "):
        while cell_len(word) > width:
            if line:
                rows.append(line)
                line = ""
            head = set_cell_size(word, width).rstrip(" ")
            rows.append(head)
            word = word[len(head) :]
        if line and cell_len(line) + 1 + cell_len(word) > width:
            rows.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    rows.append(line)
    return [[(" " * indent, ""), (row, ink)] for row in rows]


def several(names: Sequence[str], most: int = 3) -> str:
    """``api``, ``api and api-tests``, ``api, ui, docs and 4 more``."""
    shown = [clean(name) for name in names]
    if len(shown) > most + 1:
        return f"{', '.join(shown[:most])} and {len(shown) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def counted(number: int, one: str, many: str = "") -> str:
    """``1 agent``, ``2 agents``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


class Paper(ScrollView):
    """Rows on a ground, scrolled with the arrow and page keys."""

    DEFAULT_CSS = """
    Paper { scrollbar-size: 0 0; height: 1fr; background: transparent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_by(-1)", show=False),
        Binding("down", "scroll_by(1)", show=False),
        Binding("pageup", "scroll_page(-1)", show=False),
        Binding("pagedown", "scroll_page(1)", show=False),
        Binding("home", "scroll_to_row(0)", show=False),
        Binding("end", "scroll_to_row(1000000)", show=False),
    ]

    def __init__(self, *, ground: str = "surface", focusable: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: list[Row] = []
        self.ground = ground
        self.can_focus = focusable

    def show(self, rows: list[Row]) -> None:
        """Replace what is shown; equal rows are not painted again."""
        if rows == self.rows:
            return
        changed = len(rows) != len(self.rows)
        self.rows = rows
        if changed:
            self.virtual_size = Size(self.size.width, len(rows))
        self.refresh()

    @property
    def ink(self) -> Ink:
        """The ink of the app's look as it is now."""
        return ink_of(self.app, self.ground)

    @property
    def hidden_below(self) -> int:
        """How many rows are below the last one on screen."""
        return max(0, len(self.rows) - self.scroll_offset.y - self.size.height)

    def on_resize(self) -> None:
        """The rows fill whatever width there is."""
        self.virtual_size = Size(self.size.width, len(self.rows))

    def render_line(self, y: int) -> Strip:
        """One row of the screen."""
        index = y + self.scroll_offset.y
        row = self.rows[index] if index < len(self.rows) else []
        return self.ink.strip(row, self.size.width)

    def bring(self, index: int) -> None:
        """Scroll so that a row is on screen."""
        top, height = self.scroll_offset.y, max(1, self.size.height)
        if index < top:
            self.action_scroll_to_row(index)
        elif index >= top + height:
            self.action_scroll_to_row(index - height + 1)

    def action_scroll_by(self, rows: int) -> None:
        """Scroll by rows."""
        self.action_scroll_to_row(self.scroll_offset.y + rows)

    def action_scroll_page(self, pages: int) -> None:
        """Scroll by screens."""
        self.action_scroll_to_row(self.scroll_offset.y + pages * max(1, self.size.height - 1))

    def action_scroll_to_row(self, row: int) -> None:
        """Put a row at the top, as far as there are rows."""
        limit = max(0, len(self.rows) - self.size.height)
        self.scroll_to(y=max(0, min(row, limit)), animate=False, force=True, immediate=True)
