"""Fork: a new agent in a copy of another's conversation, told something of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import ValidationError
from textual.binding import Binding, BindingType

from agenttop.core.api import ForkRequest
from agenttop.core.errors import AgentTopError, UsageError

from ..attaching import TERMINAL
from ..format import clean
from ..verbs import sentences
from ..widgets.dialog import Chip
from ..widgets.fields import Field, Text
from ..widgets.form_dialog import FormDialog
from ..widgets.paper import Row, wrapped

if TYPE_CHECKING:
    from agenttop.core.api import Row as FleetRow


class ForkScreen(FormDialog[str]):
    """Asks for prompt and name. Closes with the new agent's id when it runs."""

    WIDTH = 76
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act", show=False, priority=True),
    ]

    def __init__(self, row: FleetRow) -> None:
        super().__init__()
        self.row = row
        self.prompt = Text("prompt", "Prompt", cells=54, tall=3)
        self.named = Text("name", "Name", cells=24, note="its own with a number if empty")

    def on_mount(self) -> None:
        """Show them."""
        self.head(f"Fork {clean(self.row.name)}", clean(self.row.template or ""))
        self._lay_out()
        self.form.focus()

    def _lay_out(self) -> None:
        fields: list[Field | None] = [self.prompt, self.named]
        self.form.set(fields, [[], *self._meaning()])
        self.fit()

    def _meaning(self) -> list[Row]:
        width = self.inner_width - 2
        if self.error:
            return wrapped(self.error, width, "bad bold", 1)
        terminal = self.row.backend == TERMINAL
        then = "In its terminal it waits for you where the prompt is empty. " if terminal else ""
        name = clean(self.row.name)
        return wrapped(
            f"It begins in a copy of what was said so far; {name} goes on by itself. {then}"
            f"As its child it is covered by {name}'s budget.",
            width,
            "muted",
            1,
        )

    def chips(self) -> Sequence[Chip]:
        """Do it, or not."""
        return (Chip("Enter", "Fork", "good bold"), Chip("Tab", "Next field"), Chip("Esc", "Cancel"))

    def action_act(self) -> None:
        """Do it."""
        if self.busy:
            return
        try:
            request = asked(self.row, self.prompt.value, self.named.value)
        except UsageError as error:
            self._refused(error)
            return
        self.busy = True
        self.run_worker(self._act(request))

    async def _act(self, request: ForkRequest) -> None:
        try:
            info = await self.client.fork(request)
        except AgentTopError as error:
            self._refused(error)
            return
        self.shell.toast(f"{clean(info.name)} forked", f"from {clean(self.row.name)}", "good")
        self.dismiss(info.id)

    def _refused(self, error: AgentTopError) -> None:
        self.busy, self.error = False, " ".join(sentences(error))
        self._lay_out()


def asked(row: FleetRow, prompt: str, name: str = "") -> ForkRequest:
    """The request for what was typed.

    Raises:
        UsageError: The name is none, or the prompt cannot be.
    """
    try:
        return ForkRequest(ref=row.id, name=name.strip() or None, prompt=prompt.strip() or None)
    except ValidationError as error:
        first = error.errors()[0]
        what = str(first["loc"][0]) if first["loc"] else "it"
        raise UsageError(f"this {what} cannot be", first["msg"].removeprefix("Value error, ")) from error
