"""Where something is to go: the name of a block, or the namespace and key of a note."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from textual.binding import Binding, BindingType

from ..format import clean
from ..memory import Whose
from ..widgets.dialog import Chip
from ..widgets.fields import Choose, Field, Option, Text
from ..widgets.form_dialog import FormDialog
from ..widgets.paper import Row, several, wrapped
from .memory_thing import Thing

Purpose = Literal["new", "promote", "archive"]
TITLES = {
    "new": "New in the memory of",
    "promote": "Promote into a block of",
    "archive": "Keep in the archive",
}


class PlaceScreen(FormDialog[Thing]):
    """Closes with the block or note it is to be: version 0, for its text is not written yet."""

    WIDTH = 84
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "act", show=False, priority=True)]

    def __init__(
        self,
        whose: Whose,
        purpose: Purpose,
        kind: Literal["block", "note"],
        spaces: Sequence[str],
        blocks: Sequence[str],
        thing: Thing | None = None,
    ) -> None:
        super().__init__()
        self.whose, self.purpose, self.thing, self.blocks = whose, purpose, thing, list(blocks)
        self.kind = Choose("kind", "Kind", [Option("block"), Option("note")], kind)
        self.kind.off = purpose != "new"
        suggested = thing.name if thing is not None and thing.kind == "block" and purpose == "archive" else ""
        if purpose == "promote":
            suggested = self.blocks[0] if self.blocks else "recalled"
        self.called = Text("name", "Name", suggested, cells=44)
        wanted = list(spaces) or ["shared"]
        shown = {f"private/{whose.id}": f"private/{clean(whose.name)}"}
        self.space = Choose(
            "space", "Namespace", [Option(name, shown.get(name, "")) for name in wanted], wanted[0]
        )
        self.limit = Text("limit", "Limit", "", cells=10, note="tokens; empty: the kernel's own")
        self.pinned = Choose("pinned", "Pinned", [Option("no"), Option("yes")], "no")

    def on_mount(self) -> None:
        """Show it."""
        of = "" if self.purpose == "archive" else f" {clean(self.whose.name)}"
        self.head(TITLES[self.purpose] + of)
        self._lay_out()
        self.form.focus()

    def _lay_out(self) -> None:
        note = self.kind.value == "note"
        self.called.label = "Key" if note else "Block"
        self.called.note = "as decisions/store" if note else ""
        fields: list[Field | None] = []
        if self.purpose == "new":
            fields.append(self.kind)
        if note:
            fields.append(self.space)
        fields.append(self.called)
        if self.purpose == "new" and not note:
            fields += [self.limit, self.pinned]
        self.form.set(fields, [[], *self._tail(note)])
        self.fit()

    def _tail(self, note: bool) -> list[Row]:
        width = self.inner_width
        if self.error:
            return wrapped(self.error, width, "bad")
        if self.purpose == "promote":
            there = self.called.value.strip() in self.blocks
            text = "It is added at the end of this block." if there else "A new block."
            if self.blocks:
                text += f" There are {several(self.blocks)}."
            return wrapped(text, width, "muted")
        if self.purpose == "archive":
            return wrapped("Who keeps it, and from which tier it comes, is kept with it.", width, "muted")
        text = (
            "Its text is written next."
            if note
            else "Its text is written next. The agent is given it at its next start or turn."
        )
        return wrapped(text, width, "muted")

    def chips(self) -> Sequence[Chip]:
        """Go on, or not."""
        word = {"new": "Write its text", "promote": "Promote", "archive": "Keep"}[self.purpose]
        return (Chip("Enter", word), Chip("Tab", "Next field"), Chip("Esc", "Cancel"))

    def action_act(self) -> None:
        """Say where."""
        name = self.called.value.strip()
        note = self.kind.value == "note"
        limit = self.limit.value.strip()
        if not name:
            self.error = "It needs a key" if note else "It needs a name"
        elif not note and self.purpose == "new" and name in self.blocks:
            self.error = f"There is a block {clean(name)}: e edits it"
        elif limit and not (limit.isdigit() and int(limit)):
            self.error = f"{clean(limit)} is not a number of tokens"
        else:
            self.dismiss(self._made(name, note, int(limit) if limit else None))
            return
        self._lay_out()

    def _made(self, name: str, note: bool, limit: int | None) -> Thing:
        if note:
            return Thing("note", self.whose, name, namespace=self.space.value)
        return Thing("block", self.whose, name, limit=limit, pinned=self.pinned.value == "yes")
