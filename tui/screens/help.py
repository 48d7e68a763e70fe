"""Help: every key from the one table, and how to read a row. Typing filters both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from .. import keys
from ..keys import Key, KeyTable, shown
from ..widgets.dialog import Chip, Dialog
from ..widgets.paper import Paper, Row, length, wrapped

#: How to read a row: letter, word, ink, meaning.
STATES = (
    ("N", "initializing", "state-initializing", "starting up"),
    ("P", "planning", "state-planning", "a model call is in flight"),
    ("X", "executing", "state-executing", "runs a tool, or makes no calls"),
    ("I", "idle", "state-idle", "has nothing to do"),
    ("W", "waiting", "state-waiting", "for another: message rate_limit dependency"),
    ("W", "waiting", "state-needs-you", "for you: input approval budget"),
    ("F", "paused", "state-paused", "frozen in RAM; every process stopped"),
    ("H", "paused", "state-paused", "held: the gateway keeps its next call"),
    ("E", "error", "state-error", "ended badly, no restart left"),
    ("T", "terminated", "state-terminated", "ended"),
)
NUMBERS: tuple[Row, ...] = (
    [("12.30", "fg"), (" exact   ", "muted"), ("~12.30", "num-estimated"), (" estimated", "muted")],
    [("12.30?", "num-stale italic"), (" stale   ", "muted"), ("-", "fg"), (" not known", "muted")],
    [("≥12.30", "fg"), (" a part has no known price", "muted")],
)
BUCKETS: tuple[Row, ...] = (
    [("||", "tok-input"), (" fresh input   ", "muted"), ("||", "tok-cache-read"), (" cache read", "muted")],
    [("||", "tok-cache-write"), (" cache write   ", "muted"), ("||", "tok-output"), (" output", "muted")],
)
MOUSE = "No mouse is captured, so your terminal's copy and paste work."
CHANGE = "Every key can be changed in config.toml, [keys]."
#: Keys of the output, which belong to its widget and not to the table.
LOG: tuple[tuple[str, str], ...] = (
    ("Up Down", "scroll; beyond the top more is read"),
    ("End f", "follow"),
    ("w", "wrap long lines, or cut them"),
    ("s", "both streams, only out, only err"),
    ("n N", "next match, match before"),
    ("Tab", "next pane or tab"),
    ("Enter", "zoom the pane"),
)
GAP = 2
#: Cells of the keys before what they do.
KEYS = 10


def key_row(key: Key, cells: int) -> Row:
    """``F3 /   search``: the first key bright, its synonyms in the accent."""
    first, *others = key.keys
    names: Row = [(shown(first), "bright bold")]
    for other in others:
        names.append((f" {shown(other)}", "label bold"))
    return [*names, (" " * max(1, cells - length(names)), ""), (key.text, "fg")]


def _panes(panes: Sequence[Key]) -> Row:
    """``1–7   panes: fleet, tasks, …`` in one row."""
    names = (
        f"{shown(panes[0].keys[0])}–{shown(panes[-1].keys[0])}" if len(panes) > 1 else shown(panes[0].keys[0])
    )
    ready = [key.text for key in panes if "later" not in key.text]
    return [(names.ljust(KEYS), "bright bold"), (f"panes: {', '.join(ready)}", "fg")]


def matches(row: Row, needle: str) -> bool:
    """Whether every word typed occurs in a row."""
    text = "".join(piece for piece, _ in row).lower()
    return all(word in text for word in needle.lower().split())


def blocks(table: KeyTable, pane: str, needle: str = "") -> list[list[Row]]:
    """What can be done in ``pane``: groups as blocks of rows under headings; empty ones are left out."""
    found: list[list[Row]] = []
    for title, group in table.help():
        there = [key for key in group if key.keys and pane in key.panes]
        rows = [key_row(key, KEYS) for key in there if not key.id.startswith("pane.")]
        panes = [key for key in there if key.id.startswith("pane.")]
        if panes:
            rows.insert(0, _panes(panes))
        found.append(_block(title, rows, needle))
    if pane != keys.DETAILS and not needle:
        log: list[Row] = []
    else:
        log = [[(names.ljust(KEYS), "bright bold"), (text, "fg")] for names, text in LOG]
    found.append(_block("Output and details", log, needle))
    states: list[Row] = [
        [(f" {letter}  ", f"{ink} bold"), (word.ljust(13), ink), (text, "muted")]
        for letter, word, ink, text in STATES
    ]  # fmt: skip
    found.append(_block("How to read a row", states, needle))
    found.append(_block("Numbers", [[(" ", ""), *row] for row in NUMBERS], needle))
    found.append(_block("Tokens", [[(" ", ""), *row] for row in BUCKETS], needle))
    return [block for block in found if block]


def _block(title: str, rows: Sequence[Row], needle: str) -> list[Row]:
    kept = [row for row in rows if matches(row, needle)] if needle else list(rows)
    if needle and not kept and needle.lower() in title.lower():
        kept = list(rows)
    return [[(title, "label bold")], *kept] if kept else []


def columns(found: Sequence[Sequence[Row]], width: int) -> list[Row]:
    """Blocks in as many columns as fit, filled evenly from the left, in their order."""
    widths = [max(length(row) for row in block) for block in found]
    for count in (3, 2, 1):
        parts = _spread(found, count)
        cells = [max((widths[n] for n in part), default=0) for part in parts]
        if count == 1 or sum(cells) + GAP * (len(parts) - 1) <= width:
            break
    stacks = [_stack([found[n] for n in part]) for part in parts]
    height = max((len(stack) for stack in stacks), default=0)
    rows: list[Row] = []
    for y in range(height):
        row: Row = []
        for stack, space in zip(stacks, cells, strict=True):
            piece = stack[y] if y < len(stack) else []
            row += [*piece, (" " * (space + GAP - length(piece)), "")]
        rows.append(row)
    return rows


def _spread(found: Sequence[Sequence[Row]], count: int) -> list[list[int]]:
    """Which blocks stand in which column: in order, each column about as high as the others."""
    total = sum(len(block) + 1 for block in found)
    parts: list[list[int]] = [[]]
    tall = 0
    for number, block in enumerate(found):
        if parts[-1] and len(parts) < count and tall + len(block) / 2 > total / count:
            parts.append([])
            tall = 0
        parts[-1].append(number)
        tall += len(block) + 1
    return parts


def _stack(found: Sequence[Sequence[Row]]) -> list[Row]:
    rows: list[Row] = []
    for block in found:
        rows += [*([[]] if rows else []), *block]
    return rows


class HelpScreen(Dialog[None]):
    """The help for a pane."""

    WIDTH = 170
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll(-1)", show=False),
        Binding("down", "scroll(1)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
        Binding("pagedown", "scroll(10)", show=False),
        Binding("home", "scroll(-100000)", show=False),
        Binding("end", "scroll(100000)", show=False),
        Binding("f1", "close", show=False),
        Binding("enter", "close", show=False),
    ]

    def __init__(self, pane: str = keys.FLEET) -> None:
        super().__init__()
        self.pane = pane
        self.needle = ""

    def on_mount(self) -> None:
        """Show everything."""
        self._show()

    def _show(self) -> None:
        side = f"only: {self.needle}_" if self.needle else "type to filter"
        self.head("Help", side)
        found = blocks(self.shell.keys, self.pane, self.needle)
        rows = columns(found, self.inner_width)
        if not rows:
            rows = [[("nothing has this in it", "muted")]]
        if not self.needle:
            rows += [
                [],
                *(row for note in (CHANGE, MOUSE) for row in wrapped(note, self.inner_width, "muted")),
            ]
        self.query_one("#paper", Paper).show(rows)

    def fit(self) -> None:
        """The number of columns depends on the width."""
        self._show()
        super().fit()

    def chips(self) -> Sequence[Chip]:
        """How to move here."""
        move = "Up/Dn" if self.ink.ascii else "↑↓"
        clear = "Show all" if self.needle else "Close"
        return (Chip("a-z", "Filter"), Chip(move, "Scroll"), Chip("Esc", clear))

    def on_key(self, event: events.Key) -> None:
        """Typing filters."""
        if event.key == "backspace":
            self.needle = self.needle[:-1]
        elif (
            event.is_printable and event.character and not (event.key == "question_mark" and not self.needle)
        ):
            self.needle += event.character
        else:
            if event.key == "question_mark":
                self.dismiss(None)
            return
        event.stop()
        self.fit()

    def action_scroll(self, rows: int) -> None:
        """Scroll."""
        self.query_one("#paper", Paper).action_scroll_by(rows)

    def action_close(self) -> None:
        """Show all again, then close."""
        if self.needle:
            self.needle = ""
            self.fit()
        else:
            self.dismiss(None)
