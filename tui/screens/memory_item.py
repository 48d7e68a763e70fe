"""A block, entry or note opened: its whole text, where it comes from, and what can be done to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from agenttop.core.errors import AgentTopError

from ..format import clean, clock, size, tokens
from ..widgets.dialog import Chip, Dialog
from ..widgets.memory_parts import who
from ..widgets.paper import Paper, Row, counted, wrapped
from .memory_thing import Thing

#: Characters of a text that are laid out; more is read with the command.
MOST = 200_000


def text_rows(text: str, width: int, *, indent: int = 0) -> list[Row]:
    """A text line by line, wrapped and made harmless; its own line breaks stay."""
    rows: list[Row] = []
    for line in text[:MOST].split("\n"):
        rows += wrapped(line.expandtabs(4), max(8, width - indent), "fg", indent) if line.strip() else [[]]
    if len(text) > MOST:
        rows.append([(f"… {len(text) - MOST:,} more characters: agenttop memory read shows all", "warn")])
    return rows


class ItemScreen(Dialog[str]):
    """Closes with the name of what is to be done next, or nothing."""

    WIDTH = 110
    DEFAULT_CSS = "ItemScreen #paper { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "go('edit')", show=False),
        Binding("v", "go('versions')", show=False),
        Binding("p", "go('pin')", show=False),
        Binding("plus", "go('promote')", show=False),
        Binding("minus", "go('evict')", show=False),
        Binding("a", "go('archive')", show=False),
        Binding("x,delete", "go('forget')", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "scroll(-12)", show=False),
        Binding("pagedown,space", "scroll(12)", show=False),
        Binding("home,g", "scroll(-1000000)", show=False),
        Binding("end,G", "scroll(1000000)", show=False),
        Binding("enter,q", "close", show=False),
    ]
    ACTS: ClassVar[dict[str, dict[str, tuple[str, str]]]] = {
        "block": {"edit": ("e", "Edit"), "pin": ("p", "Pin"), "evict": ("-", "Evict"),
                  "archive": ("a", "Archive"), "versions": ("v", "Versions"), "forget": ("x", "Forget")},
        "entry": {"promote": ("+", "Promote"), "archive": ("a", "Archive"), "forget": ("x", "Forget")},
        "note": {"edit": ("e", "Edit"), "promote": ("+", "Promote"), "versions": ("v", "Versions"),
                 "forget": ("x", "Forget")},
    }  # fmt: skip

    def __init__(self, thing: Thing) -> None:
        super().__init__()
        self.thing = thing
        self.problem = ""
        self.read = False

    def on_mount(self) -> None:
        """Show what is known, then read the rest."""
        self._show()
        self.run_worker(self._read())

    async def _read(self) -> None:
        try:
            self.thing = await self.thing.read(self.client)
            self.read = True
        except AgentTopError as error:
            self.problem = str(error)
        if self.query("#paper"):
            self._show()
            self.fit()

    def _show(self) -> None:
        thing = self.thing
        version = f"v{thing.version}" if thing.version else ""
        self.head(clean(thing.title), version)
        width = self.inner_width
        rows = [*self._facts(), []]
        if self.problem:
            rows += [*wrapped(self.problem, width, "bad"), []]
        if not self.read and not self.problem:
            rows.append([("reading", "muted")])
        elif thing.file and not thing.text:
            rows.append([("a file that is not text: agenttop export writes it to a folder", "muted")])
        else:
            rows += text_rows(thing.text, width)
        self.query_one("#paper", Paper).show(rows)

    def _facts(self) -> list[Row]:
        """Provenance: who, when, from which run and source; what it takes."""
        thing = self.thing
        names = {row.id: row.name for row in self.shell.model.rows.values()}
        day = _day(thing.at)
        rows: list[Row] = []
        facts = {
            "by" if thing.by else "at": f"{who(thing.by, names)}, {day}" if thing.by else day,
            "run": str(thing.run) if thing.run is not None else "",
            "source": thing.source,
            "size": f"{size(len(thing.text.encode('utf-8', 'replace')))}, "
            f"{counted(len(thing.text.splitlines()), 'line')}",
        }  # fmt: skip
        if thing.kind == "block":
            pinned = ", pinned: never moved out" if thing.pinned else ""
            facts["tokens"] = f"{tokens(thing.tokens)} of {tokens(thing.limit)}{pinned}"
        for name, text in facts.items():
            if text:
                rows.append([(f"{name:<9}", "label"), (clean(text), "fg")])
        return rows

    def fit(self) -> None:
        """Lines are as long as the box is wide."""
        if self.query("#paper"):
            self._show()
        super().fit()

    def body_height(self, width: int) -> int:
        """The text, or as much as leaves a frame of the pane to be seen."""
        return min(super().body_height(width), max(4, self.app.size.height - 9))

    def chips(self) -> Sequence[Chip]:
        """What can be done to it."""
        lost = self.shell.lost
        acts = self.ACTS[self.thing.kind].items()
        words = {"pin": "Unpin" if self.thing.pinned else "Pin"}
        found = [Chip(key, words.get(name, text), off=lost) for name, (key, text) in acts]
        move = "Up/Dn" if self.ink.ascii else "↑↓"
        return (*found, Chip(move, "Scroll"), Chip("Esc", "Close"))

    def action_go(self, name: str) -> None:
        """Close, and do that."""
        if name in self.ACTS[self.thing.kind] and not self.shell.lost:
            self.dismiss(name)

    def action_scroll(self, rows: int) -> None:
        """Scroll."""
        self.query_one("#paper", Paper).action_scroll_by(rows)


def _day(at: float) -> str:
    import time

    return f"{time.strftime('%Y-%m-%d', time.localtime(at))} {clock(at)}" if at else ""
