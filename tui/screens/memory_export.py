"""Memory written to files on the kernel's machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from textual.binding import Binding, BindingType

from agenttop.core.errors import AgentTopError

from ..format import clean
from ..memory import Whose
from ..widgets.dialog import Chip
from ..widgets.fields import Choose, Option, Text
from ..widgets.form_dialog import FormDialog
from ..widgets.paper import Row, counted, wrapped

if TYPE_CHECKING:
    from agenttop.core.api.memory import ExportRequest

MINE = "agent"


class ExportScreen(FormDialog[bool]):
    """Asks what, how and where to; closes with ``True`` when it was written."""

    WIDTH = 92
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "act", show=False, priority=True)]

    def __init__(self, whose: Whose, spaces: Sequence[str]) -> None:
        super().__init__()
        self.whose = whose
        shown = {f"private/{whose.id}": f"private/{clean(whose.name)}"}
        options = [
            Option(MINE, f"all of {clean(whose.name)}"),
            *(Option(one, shown.get(one, "")) for one in spaces),
        ]
        self.what = Choose("what", "What", options, MINE)
        self.format = Choose(
            "format", "As", [Option("jsonl", "JSONL"), Option("markdown", "Markdown")], "jsonl"
        )
        self.target = Text("path", "To", self._suggested(), cells=58)
        self._typed = False

    def _suggested(self) -> str:
        base = os.path.join(os.path.expanduser("~"), f"memory-{clean(self.whose.name).replace('/', '-')}")
        return base if self.format.value == "markdown" else f"{base}.jsonl"

    def on_mount(self) -> None:
        """Show it."""
        self.head(f"Export memory of {clean(self.whose.name)}", clean(self.whose.host))
        self._lay_out()
        self.form.focus()

    def _lay_out(self) -> None:
        if self.form.focus_id == "path":
            self._typed = True
        elif not self._typed:
            self.target.value = self._suggested()
            self.target.at = len(self.target.value)
        kind = "A folder of Markdown files" if self.format.value == "markdown" else "One file, a line each"
        tail: list[Row] = wrapped(self.error, self.inner_width, "bad") if self.error else [
            [(f"{kind}, on the kernel's machine.", "muted")]
        ]  # fmt: skip
        if self.busy:
            tail = [[("writing", "muted")]]
        self.form.set([self.what, self.format, self.target], [[], *tail])
        self.fit()

    def chips(self) -> Sequence[Chip]:
        """Write, or not."""
        return (Chip("Enter", "Export"), Chip("Tab", "Next field"), Chip("Esc", "Cancel"))

    def _request(self) -> ExportRequest:
        from agenttop.core.api import memory as api

        path = (
            os.path.expanduser(self.target.value.strip())
            if not self.whose.host
            else self.target.value.strip()
        )
        how: Literal["jsonl", "markdown"] = "markdown" if self.format.value == "markdown" else "jsonl"
        if self.what.value == MINE:
            return api.ExportRequest(agent=self.whose.ref, path=path, format=how)
        return api.ExportRequest(host=self.whose.host, namespace=self.what.value, path=path, format=how)

    def action_act(self) -> None:
        """Write it."""
        if self.busy:
            return
        if not self.target.value.strip():
            self.error = "It needs a path"
            self._lay_out()
            return
        self.busy, self.error = True, ""
        self._lay_out()
        self.run_worker(self._act())

    async def _act(self) -> None:
        from agenttop.core.api import memory as api

        request = self._request()
        try:
            done = await self.client.call(api.EXPORT, request)
        except AgentTopError as error:
            self.busy, self.error = False, str(error)
            if self.query("#form"):
                self._lay_out()
            return
        number = (
            f"{counted(done.blocks, 'block')}, {counted(done.entries, 'entry', 'entries')}, "
            f"{counted(done.notes, 'note')}"
        )
        skipped = f"; {len(done.skipped)} left out: {clean(done.skipped[0])}" if done.skipped else ""
        self.shell.toast(
            f"Exported to {clean(request.path)}", number + skipped, "warn" if skipped else "good"
        )
        self.dismiss(True)
