"""What an agent changed, as a patch over the whole screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget

from agenttop.core.api import WorkspaceInfo
from agenttop.core.errors import AgentTopError

from ..format import clean
from ..widgets.dialog import Chip, Chips, client_of
from ..widgets.paper import Paper, Row, counted, rule

if TYPE_CHECKING:
    from ..app import AgentTopApp

#: How a line of a patch is inked, by what it begins with; the first that fits.
_INKS = (
    ("diff ", "label bold"), ("+++", "muted"), ("---", "muted"), ("@@", "accent"),
    ("+", "good"), ("-", "bad"), ("index ", "muted"),
    ("new file", "label"), ("deleted file", "label"), ("rename ", "label"),
    ("Binary ", "muted"), ("\\", "muted"),
)  # fmt: skip


def patch_rows(text: str) -> list[Row]:
    """The patch, a row each line; what agents write into files is made harmless."""
    return [
        [(f" {clean(line.expandtabs(4))}", _ink(line))] for line in text.split("\n")[: -1 if text else None]
    ]


def _ink(line: str) -> str:
    return next((ink for begin, ink in _INKS if line.startswith(begin)), "fg")


class DiffScreen(Screen[None]):
    """The diff of one agent since it began, new files too; ``r`` reads it again."""

    DEFAULT_CSS = """
    DiffScreen #rule { height: 1; }
    DiffScreen #patch { height: 1fr; }
    DiffScreen Chips { dock: bottom; background: $bg; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,d", "close", show=False),
        Binding("r", "read", show=False),
        Binding("n", "file(1)", show=False),
        Binding("N", "file(-1)", show=False),
    ]

    def __init__(self, ref: str, name: str) -> None:
        super().__init__()
        self.ref = ref
        self.agent = name

    def compose(self) -> Iterable[Widget]:
        """Title, patch, keys."""
        yield Paper(ground="bg", id="rule")
        yield Paper(ground="bg", focusable=True, id="patch")
        yield Chips(
            (Chip("n", "Next file"), Chip("N", "File before"), Chip("r", "Read again"), Chip("Esc", "Back"))
        )

    @property
    def patch(self) -> Paper:
        """The lines."""
        return self.query_one("#patch", Paper)

    def on_mount(self) -> None:
        """Read it."""
        self.patch.focus()
        self._say("asking git")
        self.action_read()

    def action_read(self) -> None:
        """Ask the kernel for the patch as it is now."""
        self.run_worker(self._read(), exclusive=True)

    async def _read(self) -> None:
        try:
            info = await client_of(cast("AgentTopApp", self.app)).workspace(self.ref, "diff")
        except AgentTopError as error:
            self.patch.show([[], [(f" {clean(str(error))}", "bad")]])
            self._say("")
            return
        self.patch.show(_body(info))
        sums = (
            f"+{info.insertions:,} -{info.deletions:,} in {counted(info.files, 'file')}" if info.files else ""
        )
        self._say(f"{sums}   {clean(info.branch or '')}".strip())

    def _say(self, side: str) -> None:
        title = f"Diff of {clean(self.agent)}"
        self.query_one("#rule", Paper).show([rule(title, self.app.size.width, side)])

    def action_file(self, step: int) -> None:
        """Go to the next file's first line."""
        top = self.patch.scroll_offset.y
        begins = [at for at, row in enumerate(self.patch.rows) if row and row[0][0].startswith(" diff ")]
        places = [at for at in begins if (at > top if step > 0 else at < top)]
        if places:
            self.patch.action_scroll_to_row(places[0] if step > 0 else places[-1])

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)


def _body(info: WorkspaceInfo) -> list[Row]:
    if info.diff:
        cut: list[Row] = (
            [[], [(" It goes on: agenttop diff shows all of it", "warn")]] if info.diff_cut else []
        )
        return [*patch_rows(info.diff), *cut]
    if info.problem:
        return [[], [(f" {clean(info.problem)}", "warn")]]
    if info.repository is None:
        return [[], [(f" {clean(info.folder)} is in no git repository", "muted")]]
    return [[], [(" nothing has changed since it began", "muted")]]
