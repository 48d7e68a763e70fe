"""The versions of a block or note, and what is different between any two of them."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widget import Widget
from textual.worker import Worker

from agenttop.core.errors import AgentTopError

from ..format import clean, size
from ..widgets.dialog import Chip, Chips, client_of
from ..widgets.memory_parts import padded, when, who
from ..widgets.paper import Paper, Row, counted, rule
from ..widgets.sheet import under_cursor
from .diff import patch_rows
from .memory_thing import Thing

if TYPE_CHECKING:
    from agenttop.core.api.memory import VersionInfo

    from ..app import AgentTopApp

#: Lines of each text that are compared at most: more take seconds.
LINES = 20_000
#: Cells of the list at the left.
LIST = 38


def compared(old: str, new: str, before: str, after: str) -> list[str]:
    """The unified diff of two texts, without its ends of lines."""
    a, b = old.split("\n")[:LINES], new.split("\n")[:LINES]
    lines = list(difflib.unified_diff(a, b, before, after, lineterm="", n=3))
    if len(old.split("\n")) > LINES or len(new.split("\n")) > LINES:
        lines.append(f"\\ only the first {LINES:,} lines were compared")
    return lines


class VersionsScreen(Screen[str]):
    """The list at the left, the diff at the right. Closes with a text that is to be taken back."""

    DEFAULT_CSS = """
    VersionsScreen { overflow: hidden; }
    VersionsScreen #rule { height: 1; }
    VersionsScreen #versions { width: 38; height: 1fr; }
    VersionsScreen #diff { width: 1fr; height: 1fr; }
    VersionsScreen #both { height: 1fr; }
    VersionsScreen.-narrow #versions { width: 1fr; height: 8; }
    VersionsScreen.-narrow #both { layout: vertical; }
    VersionsScreen Chips { dock: bottom; background: $bg; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,v", "close", show=False),
        Binding("up,k", "choose(-1)", show=False, priority=True),
        Binding("down,j", "choose(1)", show=False, priority=True),
        Binding("space", "against", show=False),
        Binding("r", "restore", show=False),
        Binding("home,g", "choose(-1000)", show=False, priority=True),
        Binding("end,G", "choose(1000)", show=False, priority=True),
        Binding("pageup", "scroll(-12)", show=False, priority=True),
        Binding("pagedown", "scroll(12)", show=False, priority=True),
    ]

    def __init__(self, thing: Thing) -> None:
        super().__init__()
        self.thing = thing
        self.versions: Sequence[VersionInfo] = []
        self.at = 0
        self.against: int | None = None
        """The version to compare with; ``None``: the one before that under the cursor."""
        self._side = "reading"

    def compose(self) -> Iterable[Widget]:
        """Title, versions, diff, keys."""
        yield Paper(ground="bg", id="rule")
        with Horizontal(id="both"):
            yield Paper(ground="bg", id="versions")
            yield Paper(ground="bg", focusable=True, id="diff")
        yield Chips(self._chips())

    def _chips(self) -> tuple[Chip, ...]:
        move = "↑↓" if cast("AgentTopApp", self.app).look.unicode else "Up/Dn"
        return (
            Chip(move, "Version"), Chip("Space", "Compare with it"), Chip("r", "Take back"),
            Chip("PgUp/Dn", "Scroll"), Chip("Esc", "Back"),
        )  # fmt: skip

    def on_mount(self) -> None:
        """Read them."""
        self._say()
        self.run_worker(self._read())

    async def _read(self) -> None:
        try:
            self.versions = await self.thing.versions(client_of(cast("AgentTopApp", self.app)))
        except AgentTopError as error:
            self._fail(str(error))
            return
        self._side = counted(len(self.versions), "version")
        self._show()

    def _fail(self, text: str) -> None:
        if self.query("#diff"):
            self.query_one("#diff", Paper).show([[], [(f" {clean(text)}", "bad")]])
            self._side = ""
            self._say()

    def _say(self) -> None:
        if self.query("#rule"):
            title = f"Versions of {clean(self.thing.title).lower()}"
            self.query_one("#rule", Paper).show([rule(title, self.app.size.width, self._side)])

    def _show(self) -> None:
        if not self.query("#diff"):
            return
        self.set_class(self.app.size.width < 90, "-narrow")
        self._say()
        paper = self.query_one("#versions", Paper)
        paper.show([self._row(n, one) for n, one in enumerate(self.versions)])
        paper.bring(self.at)
        _: Worker[None] = self.run_worker(self._compare, exclusive=True, group="compare")

    def _row(self, number: int, one: VersionInfo) -> Row:
        names = {row.id: row.name for row in cast("AgentTopApp", self.app).model.rows.values()}
        now = cast("AgentTopApp", self.app).clock.time()
        base = self._base()
        mark = "<" if base is not None and one.version == base.version else " "
        row: Row = [
            (" ", ""), padded(f"v{one.version}", 6, "bright"), padded(when(one.at, now), 7, "muted"),
            padded(who(one.by, names), 12, "fg"), padded(size(len(one.text)), 6, "muted", right=True),
            (f" {mark}", "accent bold"),
        ]  # fmt: skip
        return under_cursor(row, LIST) if number == self.at else row

    def _base(self) -> VersionInfo | None:
        """What the version under the cursor is compared with."""
        if self.against is not None:
            return next((one for one in self.versions if one.version == self.against), None)
        return self.versions[self.at + 1] if self.at + 1 < len(self.versions) else None

    async def _compare(self) -> None:
        if not self.versions:
            return
        chosen, base = self.versions[self.at], self._base()
        old, new = (base, chosen) if base is None or base.version <= chosen.version else (chosen, base)
        before = f"v{old.version}" if old is not None else "nothing"
        assert new is not None
        text = old.text if old is not None else ""
        lines = await asyncio.to_thread(compared, text, new.text, before, f"v{new.version}")
        if not self.query("#diff"):
            return
        rows: list[Row] = patch_rows("\n".join(lines) + "\n") if lines else []
        note: list[Row] = (
            [] if rows else [[], [(f" {before} and v{new.version} have the same text", "muted")]]
        )
        if old is None and len(self.versions) == 1 and new.version > 1:
            note = [*note, [], [(" older versions are not kept any more", "muted")]]
        self.query_one("#diff", Paper).show([*rows, *note])

    def on_resize(self) -> None:
        """Beside or above each other."""
        self._show()

    def action_choose(self, step: int) -> None:
        """Another version."""
        if self.versions:
            self.at = max(0, min(len(self.versions) - 1, self.at + step))
            self._show()

    def action_against(self) -> None:
        """Compare the others with this one; again: each with the one before it."""
        if self.versions:
            here = self.versions[self.at].version
            self.against = None if self.against == here else here
            self._show()

    def action_scroll(self, rows: int) -> None:
        """Scroll the diff."""
        self.query_one("#diff", Paper).action_scroll_by(rows)

    def action_restore(self) -> None:
        """Take this version's text into the editor."""
        if self.versions and not cast("AgentTopApp", self.app).lost:
            self.dismiss(self.versions[self.at].text)

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)
