"""Forgetting: what would be gone is counted first, and afterwards it is looked for again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.worker import Worker

from agenttop.core.errors import AgentTopError

from ..format import clean
from ..memory import Whose
from ..widgets.dialog import Chip
from ..widgets.fields import Choose, Option
from ..widgets.form_dialog import FormDialog
from ..widgets.paper import Row, counted, wrapped
from .memory_thing import Thing

if TYPE_CHECKING:
    from agenttop.core.api.memory import ForgetRequest, ForgottenInfo

THIS, WORDS, ALL = "this", "words", "all"


def summed(info: ForgottenInfo) -> str:
    """``1 block, 3 entries of recall, 2 notes``."""
    parts = [
        counted(info.blocks, "block") if info.blocks else "",
        counted(info.entries, "entry of recall", "entries of recall") if info.entries else "",
        counted(info.notes, "note") if info.notes else "",
    ]
    return ", ".join(part for part in parts if part) or "nothing"


class ForgetScreen(FormDialog[bool]):
    """Closes with ``True`` when something was forgotten."""

    WIDTH = 88
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "act", show=False, priority=True)]

    def __init__(
        self, whose: Whose, thing: Thing | None, query: str = "", *, everybody: bool = False
    ) -> None:
        super().__init__()
        self.whose, self.thing, self.query_text, self.everybody = whose, thing, query, everybody
        options = [Option(THIS, f"this {thing.kind}")] if thing is not None else []
        if query:
            shown = clean(query) if len(query) <= 30 else clean(query[:29]) + "…"
            where = "of all agents" if everybody else f"of {clean(whose.name)}"
            options.append(Option(WORDS, f"all {where} with: {shown}"))
        options.append(Option(ALL, f"everything {clean(whose.name)} has"))
        self.what = Choose("what", "Forget", options, options[0].value)
        self.counted: ForgottenInfo | None = None
        self.done: ForgottenInfo | None = None
        self.left: ForgottenInfo | None = None
        self._of = ""

    def on_mount(self) -> None:
        """Count."""
        self._lay_out()
        self.form.focus()

    def _request(self, *, dry: bool) -> ForgetRequest:
        from agenttop.core.api import memory as api

        whose, thing = self.whose, self.thing
        if self.what.value == ALL:
            return api.ForgetRequest(agent=whose.ref, everything=True, dry=dry)
        if self.what.value == WORDS:
            agent, host = ("", whose.host) if self.everybody else (whose.ref, "")
            return api.ForgetRequest(agent=agent, host=host, query=self.query_text, dry=dry)
        assert thing is not None
        if thing.kind == "block":
            return api.ForgetRequest(agent=thing.whose.ref, block=thing.name, dry=dry)
        if thing.kind == "entry":
            return api.ForgetRequest(agent=thing.whose.ref, entries=[thing.id or 0], dry=dry)
        return api.ForgetRequest(host=whose.host, namespace=thing.namespace, key=thing.name, dry=dry)

    # --- what is shown ------------------------------------------------------------------------

    def _lay_out(self) -> None:
        if self.done is None and self._of != self.what.value:
            self._of, self.counted = self.what.value, None
            _: Worker[None] = self.run_worker(self._count, exclusive=True, group="forget-count")
        title = "Forgotten" if self.done is not None else "Forget"
        subject = clean(self.thing.title) if self.thing is not None and self.what.value == THIS else ""
        good = self.done is not None and self.left is not None and summed(self.left) == "nothing"
        self.head(
            title, subject or ("" if self.done else "nothing has been done yet"), "good" if good else "bad"
        )
        self.what.off = self.done is not None
        self.form.set(
            [self.what] if self.done is None else [], [*([[]] if self.done is None else []), *self._tail()]
        )
        self.fit()

    def _tail(self) -> list[Row]:
        width = self.inner_width
        if self.done is not None:
            return self._proof(width)
        rows: list[Row] = []
        if self.counted is not None:
            gone = summed(self.counted)
            ink = "muted" if gone == "nothing" else "bright bold"
            rows.append([("would be gone  ", "label"), (gone, ink)])
        elif not self.error:
            rows.append([("counting", "muted")])
        if self.busy:
            rows.append([("forgetting: rows, indexes and the free pages of the file", "warn")])
        if self.error:
            rows += wrapped(self.error, width, "bad")
        text = (
            "Really gone: the text with all its versions, from rows, search index and the file on disk. "
            "It cannot be undone. The journal keeps that something was forgotten, not what. "
            "It is not remembered again when a later call repeats it."
        )
        if self.thing is not None and self.thing.kind == "block" and self.what.value == THIS:
            text += " What was ever moved out of this block goes with it."
        return [*rows, [], *wrapped(text, width, "muted")]

    def _proof(self, width: int) -> list[Row]:
        assert self.done is not None
        rows: list[Row] = [[("gone           ", "label"), (summed(self.done), "bright bold")]]
        if self.error:
            rows += wrapped(self.error, width, "bad")
        elif self.left is None:
            rows.append([("looking for it again", "muted")])
        elif summed(self.left) == "nothing":
            rows.append([("looked again   ", "label"), ("nothing of it is found any more", "good")])
        else:
            rows.append(
                [("looked again   ", "label"), (f"there is {summed(self.left)} since then", "bad bold")]
            )
        return rows

    def chips(self) -> Sequence[Chip]:
        """Forget, or not."""
        if self.done is not None:
            return (Chip("Enter", "Close"), Chip("Esc", "Close"))
        none = self.counted is None or summed(self.counted) == "nothing" or self.busy
        return (
            Chip("Enter", "Forget for good", "bad bold", off=none),
            Chip("←→" if not self.ink.ascii else "Lt/Rt", "What"),
            Chip("Esc", "Cancel"),
        )  # fmt: skip

    # --- what is done -------------------------------------------------------------------------

    async def _count(self) -> None:
        from agenttop.core.api import memory as api

        what = self.what.value
        try:
            found = await self.client.call(api.FORGET, self._request(dry=True))
        except AgentTopError as error:
            if what == self.what.value and self.query("#form"):
                self.error = str(error)
                self._lay_out()
            return
        if what == self.what.value and self.query("#form"):
            self.counted = found
            self._lay_out()

    def action_act(self) -> None:
        """Forget what was counted; once that is done, close."""
        if self.done is not None:
            self.dismiss(True)
        elif not self.busy and self.counted is not None and summed(self.counted) != "nothing":
            self.busy, self.error = True, ""
            self.run_worker(self._forget())
            self._lay_out()

    async def _forget(self) -> None:
        from agenttop.core.api import memory as api

        try:
            self.done = await self.client.call(api.FORGET, self._request(dry=False))
        except AgentTopError as error:
            self.busy, self.error = False, str(error)
            self._lay_out()
            return
        self.busy = False
        self._lay_out()
        try:
            self.left = await self.client.call(api.FORGET, self._request(dry=True))
        except AgentTopError as error:
            if error.code in ("not_remembered", "no_such_agent"):
                self.left = api.ForgottenInfo(dry=True)
            else:
                self.error = str(error)
        if self.query("#form"):
            self._lay_out()

    def action_close(self) -> None:
        """Close; what was forgotten stays so."""
        self.dismiss(self.done is not None)
