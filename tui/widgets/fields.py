"""A form: fields as rows of a ``Paper``, edited and chosen with keys only.

Textual's own inputs want a height and a border each and no mono or ASCII look; a form of twelve
fields has to fit into 24 lines here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rich.cells import cell_len, chop_cells
from textual import events
from textual.message import Message

from ..format import clean
from .paper import Paper, Row, wrapped

#: Cells of the labels, the focus mark included.
LABELS = 14
#: Characters that a field takes at most.
MOST = 131_072


@dataclass
class Text:
    """A line (or some lines) to type."""

    id: str
    label: str
    value: str = ""
    cells: int = 36
    tall: int = 1
    note: str = ""
    off: bool = False
    at: int = 0
    """The cursor: a place in ``value``."""

    def __post_init__(self) -> None:
        self.at = len(self.value)

    def insert(self, text: str) -> None:
        """Type."""
        text = text[: MOST - len(self.value)]
        self.value = self.value[: self.at] + text + self.value[self.at :]
        self.at += len(text)

    def key(self, name: str) -> bool:
        """One of the keys that edit; whether it was one."""
        match name:
            case "left":
                self.at = max(0, self.at - 1)
            case "right":
                self.at = min(len(self.value), self.at + 1)
            case "home" | "ctrl+a":
                self.at = 0
            case "end" | "ctrl+e":
                self.at = len(self.value)
            case "backspace" | "ctrl+h":
                self.value = self.value[: max(0, self.at - 1)] + self.value[self.at :]
                self.at = max(0, self.at - 1)
            case "delete":
                self.value = self.value[: self.at] + self.value[self.at + 1 :]
            case "ctrl+u":
                self.value, self.at = self.value[self.at :], 0
            case "ctrl+w":
                kept = self.value[: self.at].rstrip()
                kept = kept[: kept.rfind(" ") + 1]
                self.value, self.at = kept + self.value[self.at :], len(kept)
            case _:
                return False
        return True

    def rows(self, focused: bool, width: int) -> list[Row]:
        """The field: what is typed, cut so that the cursor is seen."""
        cells = max(6, min(self.cells, width - LABELS - 2))
        ground = "blur-bg" if focused else "panel"
        ink = "muted/panel" if self.off else f"bright/{ground} bold" if focused else f"fg/{ground} field"
        shown = "".join("⏎" if char == "\n" else char for char in self.value)
        lines, cursor = _window(shown, self.at, cells, self.tall)
        found: list[Row] = []
        for number, line in enumerate(lines):
            row = _label(self.label if not number else "", focused, self.off)
            row += (
                _with_cursor(line, cursor, number, cells, ink)
                if focused
                else [(f" {line.ljust(cells)} ", ink)]
            )
            if not number and self.note and width - LABELS - cells - 2 > 6:
                row.append((f" {clean(self.note)}", "muted"))
            found.append(row)
        return found


def _window(text: str, at: int, cells: int, tall: int) -> tuple[list[str], tuple[int, int]]:
    """The part of ``text`` on screen in ``tall`` lines, and where the cursor stands in it."""
    text = clean(text) if not text.isprintable() else text
    if tall == 1:
        start = max(0, at - cells + 1)
        line = text[start : start + cells]
        while cell_len(line) > cells:
            line = line[:-1]
        return [line], (0, min(at - start, len(line)))
    lines = chop_cells(text, cells) if text else [""]
    if lines and cell_len(lines[-1]) >= cells:
        lines.append("")
    row, place = 0, at
    while row < len(lines) - 1 and place >= len(lines[row]):
        place -= len(lines[row])
        row += 1
    first = max(0, min(row - tall + 1, len(lines) - tall))
    shown = lines[first : first + tall]
    return shown + [""] * (tall - len(shown)), (row - first, place)


def _with_cursor(line: str, cursor: tuple[int, int], number: int, cells: int, ink: str) -> Row:
    fill = max(0, cells - cell_len(line))
    if cursor[0] != number:
        return [(f" {line}{' ' * fill} ", ink)]
    at = cursor[1]
    before, under, after = line[:at], line[at : at + 1], line[at + 1 :]
    rest = after + " " * (fill + (1 if under else 0))
    return [(f" {before}", ink), (under or " ", "cursor-fg/cursor-bg"), (rest, ink)]


@dataclass(frozen=True, slots=True)
class Option:
    """One of several; ``why`` it cannot be taken, if it cannot."""

    value: str
    text: str = ""
    why: str = ""


@dataclass
class Choose:
    """One of several options: as chips (``claude codex …``) or as radio buttons."""

    id: str
    label: str
    options: list[Option] = field(default_factory=list)
    value: str = ""
    chips: bool = False
    note: str = ""
    below: str = ""
    """A line below the options."""
    off: bool = False

    def key(self, name: str) -> bool:
        """Left and right (and blank) choose."""
        if name not in ("left", "right", "space"):
            return False
        possible = [option.value for option in self.options if not option.why]
        if possible:
            at = possible.index(self.value) if self.value in possible else -1
            self.value = possible[(at + (-1 if name == "left" else 1)) % len(possible)]
        return True

    def insert(self, text: str) -> None:
        """The first letter of an option chooses it."""
        for option in self.options:
            if not option.why and option.value.startswith(text.lower()) and option.value != self.value:
                self.value = option.value
                return

    def rows(self, focused: bool, width: int) -> list[Row]:
        """The options, in as many lines as they need."""
        lines: list[Row] = [_label(self.label, focused, self.off)]
        used = LABELS
        for option in self.options:
            piece = self._chip(option, focused) if self.chips else self._radio(option, focused)
            cells = sum(cell_len(text) for text, _ in piece)
            if used + cells > width and used > LABELS:
                lines.append(_label("", False, self.off))
                used = LABELS
            lines[-1] += piece
            used += cells
        if self.note and used + 8 < width:
            lines[-1].append((f" {clean(self.note)}", "muted"))
        if self.below:
            lines += wrapped(self.below, max(10, width - LABELS), "muted", LABELS)
        return lines

    def _chip(self, option: Option, focused: bool) -> Row:
        text = f" {option.text or option.value} "
        if option.why:
            return [(text, "muted"), (" ", "")]
        if option.value == self.value:
            return [(text, "act-fg/act-bg bold underline" if focused else "act-fg/act-bg bold"), (" ", "")]
        return [(text, "fg/panel"), (" ", "")]

    def _radio(self, option: Option, focused: bool) -> Row:
        mark = "(•)" if option.value == self.value else "( )"
        ground = "blur-bg" if focused else "panel"
        ink = f"muted/{ground}" if option.why or self.off else f"fg/{ground}"
        if focused and option.value == self.value:
            ink = f"bright/{ground} bold"
        return [(f" {mark} {option.text or option.value}", ink)]


def _label(text: str, focused: bool, off: bool) -> Row:
    ink = "muted" if off else "label bold" if focused else "label"
    return [(f" {text}".ljust(LABELS - 1), ink), ("▌" if focused else " ", "accent")]


Field = Text | Choose


class Form(Paper, can_focus=True):
    """Fields below each other; ``None`` stands for a blank line."""

    BINDINGS: ClassVar = []

    class Changed(Message):
        """A value changed."""

    class LaidOut(Message):
        """Another width, perhaps another number of rows."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(focusable=True, id=id)
        self.fields: list[Field | None] = []
        self.tail: list[Row] = []
        self.at = 0

    def set(self, fields: Sequence[Field | None], tail: Sequence[Row] = ()) -> None:
        """Replace the fields and the rows below them; the focus stays with its field."""
        focus = self.focus_id
        self.fields, self.tail = list(fields), list(tail)
        places = self._places()
        same = [place for place in places if (found := self.fields[place]) is not None and found.id == focus]
        self.at = same[0] if same else (places[0] if places else 0)
        self.paint()

    @property
    def focus_id(self) -> str:
        """The id of the field that has the focus."""
        found = self.fields[self.at] if self.at < len(self.fields) else None
        return found.id if found is not None else ""

    def value(self, name: str) -> str:
        """What stands in a field."""
        return next((found.value for found in self.fields if found is not None and found.id == name), "")

    def _places(self) -> list[int]:
        return [place for place, found in enumerate(self.fields) if found is not None and not found.off]

    def paint(self) -> None:
        """Lay the fields out as rows, and keep the focused one on screen."""
        width = max(20, self.size.width)
        rows: list[Row] = []
        first = last = 0
        for place, found in enumerate(self.fields):
            if place == self.at:
                first = len(rows)
            rows += found.rows(place == self.at, width) if found is not None else [[]]
            if place == self.at:
                last = len(rows) - 1
        self.show([*rows, *self.tail])
        self.bring(last)
        self.bring(first)

    def on_resize(self) -> None:
        """Fields grow and shrink with the width."""
        before = len(self.rows)
        self.paint()
        if len(self.rows) != before:
            self.post_message(self.LaidOut())

    def go(self, step: int) -> None:
        """The next field that can be changed."""
        places = self._places()
        if places:
            at = places.index(self.at) if self.at in places else 0
            self.at = places[(at + step) % len(places)]
            self.paint()

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text goes into the field as it is, without control characters."""
        found = self.fields[self.at] if self.at < len(self.fields) else None
        if found is not None:
            event.stop()
            lines = [clean(line) for line in event.text.splitlines()]
            found.insert(("\n" if isinstance(found, Text) and found.tall > 1 else " ").join(lines))
            self._told()

    def on_key(self, event: events.Key) -> None:
        """Tab and the vertical arrows go from field to field; the rest belongs to the field."""
        found = self.fields[self.at] if self.at < len(self.fields) else None
        steps: dict[str, Callable[[], None]] = {
            "tab": lambda: self.go(1), "down": lambda: self.go(1),
            "shift+tab": lambda: self.go(-1), "up": lambda: self.go(-1),
            "pagedown": lambda: self.action_scroll_page(1), "pageup": lambda: self.action_scroll_page(-1),
        }  # fmt: skip
        if event.key in steps:
            steps[event.key]()
        elif found is not None and found.key(event.key):
            self._told()
        elif found is not None and event.is_printable and event.character:
            found.insert(event.character)
            self._told()
        else:
            return
        event.stop()
        event.prevent_default()

    def _told(self) -> None:
        self.paint()
        self.post_message(self.Changed())
