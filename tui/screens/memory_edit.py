"""A block or note edited in place. It is written on top of the version it was read in: where somebody wrote
meanwhile, both texts are shown, and neither is lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import TextArea

from agenttop.core.errors import AgentTopError

from ..format import clean, tokens
from ..widgets.dialog import Chip, Dialog
from ..widgets.memory_parts import who
from ..widgets.memory_text import MemoryText, editable
from ..widgets.paper import Paper, Row, counted, rule
from .memory_item import text_rows
from .memory_thing import Thing

#: Code of the error that says somebody else wrote.
RACE = "write_race"


class EditScreen(Dialog[bool]):
    """Closes with ``True`` when it was written. ``text`` stands in the editor instead of the thing's own."""

    WIDTH = 110
    DEFAULT_CSS = """
    EditScreen #theirs { height: 0; }
    EditScreen #said { height: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", show=False, priority=True),
        Binding("ctrl+t", "theirs", show=False, priority=True),
        Binding("escape", "leave", show=False, priority=True),
        Binding("ctrl+c", "leave", show=False, priority=True),
    ]

    def __init__(self, thing: Thing, *, text: str | None = None) -> None:
        super().__init__()
        self.thing = thing
        self.given = text
        self.base = thing.version
        self.theirs: Thing | None = None
        """What somebody else wrote meanwhile."""
        self.error = ""
        self.left_out = 0
        self.busy = True
        self._warned = False
        self._before = ""
        self._tall = 14

    def body(self) -> Iterable[Widget]:
        """The editor, their text after a race, and what there is to say."""
        yield MemoryText(id="text")
        yield Paper(id="theirs", focusable=False)
        yield Paper(id="said")

    @property
    def editor(self) -> MemoryText:
        """The text."""
        return self.query_one(MemoryText)

    def on_mount(self) -> None:
        """Read it as it is now; what is new is empty."""
        self.editor.focus()
        self._show()
        if self.thing.version:
            self.editor.read_only = True
            self.run_worker(self._read())
        else:
            self._fill(self.given if self.given is not None else self.thing.text)

    async def _read(self) -> None:
        try:
            self.thing = await self.thing.read(self.client)
        except AgentTopError as error:
            self.error = str(error)
            self._show()
            return
        if not self.query("#text"):
            return
        if self.thing.file:
            self.error = "A file cannot be edited here. agenttop export writes it to a folder."
            self._show()
            return
        self.base = self.thing.version
        self._fill(self.given if self.given is not None else self.thing.text)

    def _fill(self, text: str) -> None:
        kept, self.left_out = editable(text)
        self.editor.read_only = False
        self.editor.load_text(kept)
        self._tall = max(14, len(kept) // 60 + kept.count("\n") + 6)
        self._before = editable(self.thing.text)[0] if self.thing.version else ""
        self.busy = False
        self._show()

    @property
    def changed(self) -> bool:
        """Whether anything would be lost by closing."""
        return self.editor.text != self._before

    @on(TextArea.Changed)
    def _typed(self) -> None:
        self._warned = False
        self._show()

    # --- what is shown ------------------------------------------------------------------------

    def _show(self) -> None:
        if not self.query("#said"):
            return
        thing, new = self.thing, not self.thing.version
        side = "new" if new else f"v{self.base}"
        edge = "bad" if self.theirs is not None else "accent"
        self.head(clean(thing.title), side, edge)
        self.query_one("#said", Paper).show([self._said()])
        if self.theirs is not None:
            self._show_theirs(self.theirs)
        self.fit()

    def _said(self) -> Row:
        if self.error:
            return [(clean(self.error), "bad")]
        if self._warned:
            return [("Not saved. Esc again throws away what you typed.", "warn bold")]
        if self.busy and self.thing.version:
            return [("reading", "muted")]
        about = (len(self.editor.text.encode("utf-8", "replace")) + 3) // 4
        row: Row = [(f"about {tokens(about)} tokens", "fg")]
        limit = self.thing.limit
        if limit:
            row = [(f"about {tokens(about)} of {tokens(limit)} tokens", "bad" if about > limit else "fg")]
            if about > limit:
                row.append((": pinned, so it cannot be written" if self.thing.pinned
                            else ": its first lines go to recall", "warn"))  # fmt: skip
        if self.left_out > 0:
            row.append((f"  {counted(self.left_out, 'hidden character')} left out", "warn"))
        return row

    def _show_theirs(self, theirs: Thing) -> None:
        names = {row.id: row.name for row in self.shell.model.rows.values()}
        title = f"v{theirs.version} by {who(theirs.by, names)}: written meanwhile"
        paper = self.query_one("#theirs", Paper)
        paper.show([rule(title, self.inner_width), *text_rows(theirs.text, self.inner_width, indent=1)])

    def body_height(self, width: int) -> int:
        """Room for the text it had and some more; for two texts the whole screen."""
        return min(max(6, self.app.size.height - 8), self._tall)

    def fit(self) -> None:
        """After a race both texts have half of the room."""
        super().fit()
        theirs = self.query("#theirs")
        if theirs:
            room = max(4, self.app.size.height - 10)
            theirs.first().styles.height = (
                min(room // 2, len(self.query_one("#theirs", Paper).rows)) if self.theirs else 0
            )

    def chips(self) -> Sequence[Chip]:
        """Save, or not; after a race what to do about theirs."""
        if self.theirs is not None:
            over = f"Write yours over v{self.theirs.version}"
            return (
                Chip("^S", over, "warn bold"),
                Chip("^T", "Take theirs in below yours"),
                Chip("Esc", "Leave"),
            )
        return (Chip("^S", "Save"), Chip("^Z", "Undo"), Chip("Esc", "Leave"))

    # --- keys ---------------------------------------------------------------------------------

    def action_save(self) -> None:
        """Write it on top of the version it is based on; after a race, of theirs."""
        if self.busy:
            return
        if self.thing.version and not self.changed and self.theirs is None and self.given is None:
            self.dismiss(False)
            return
        self.busy, self.error = True, ""
        expected = self.theirs.version if self.theirs is not None else self.base
        self.run_worker(self._save(self.editor.text, expected))

    async def _save(self, text: str, expected: int) -> None:
        try:
            written, moved = await self.thing.write(self.client, text, expected)
        except AgentTopError as error:
            await self._refused(error)
            return
        gone = ", ".join(f"{clean(name)} {tokens(count)}" for name, count in moved)
        told = (
            f"moved to recall: {gone}" if gone else f"version {expected} is kept" if expected else "it is new"
        )
        self.shell.toast(f"{clean(written.title)} is v{written.version}", told, "good")
        self.dismiss(True)

    async def _refused(self, error: AgentTopError) -> None:
        self.busy, self.error = False, str(error)
        if error.code == RACE:
            try:
                self.theirs = await self.thing.read(self.client)
                self._tall = self.app.size.height
            except AgentTopError as other:
                self.error = f"{self.error} {other}"
        self._show()

    def action_theirs(self) -> None:
        """Their text below yours, to be saved on top of theirs."""
        if self.theirs is None or self.busy:
            return
        theirs, self.base = self.theirs, self.theirs.version
        self.theirs, self.error = None, ""
        kept, left = editable(theirs.text)
        self.left_out += left
        end = self.editor.document.end
        self.editor.insert(f"\n{kept}" if self.editor.text else kept, end)
        self.thing = theirs
        self._show()

    def action_leave(self) -> None:
        """Close; what was typed is asked about."""
        if not self._warned and self.query("#text") and not self.editor.read_only and self.changed:
            self._warned = True
            self._show()
            return
        self.dismiss(False)
