"""Throwing dead letters away: asks once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from agenttop.core.errors import AgentTopError

from ..format import clean
from ..verbs import sentences
from ..widgets.dialog import Chip, Dialog
from ..widgets.paper import Paper, Row


class DropScreen(Dialog[bool]):
    """Closes with true when something was thrown away."""

    WIDTH = 72
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act(False)", show=False),
        Binding("a", "act(True)", show=False),
    ]

    def __init__(self, agent: str, name: str, message: str, host: str, others: int) -> None:
        super().__init__()
        self.agent, self.called, self.message, self.host, self.others = agent, name, message, host, others
        self.busy = False

    def on_mount(self) -> None:
        """What it means."""
        rows: list[Row] = [
            [("message  ", "label"), (self.message, "fg")],
            [("for      ", "label"), (clean(self.called), "fg")],
            [
                ("then     ", "label"),
                ("it cannot be put back any more; the journal keeps that it was sent", "fg"),
            ],
        ]
        self.head("Throw a dead letter away", "nothing has been done yet", "bad")
        self.query_one("#paper", Paper).show(rows)
        self.fit()

    def chips(self) -> Sequence[Chip]:
        """This one, or all of this mailbox."""
        more = (Chip("a", f"All {self.others} of {clean(self.called)}", "bad"),) if self.others > 1 else ()
        return (Chip("Enter", "Throw it away", "bad bold"), *more, Chip("Esc", "Cancel"))

    def action_act(self, all: bool) -> None:
        """Do it."""
        if not self.busy and (not all or self.others > 1):
            self.busy = True
            self.run_worker(self._act([] if all else [self.message]))

    async def _act(self, ids: list[str]) -> None:
        from agenttop.core.api import bus

        try:
            request = bus.DeadActRequest(agent=self.agent, ids=ids, host=self.host)
            outcomes = await self.client.call(bus.DROP, request)
        except AgentTopError as error:
            self.shell.toast(*sentences(error), "error")
            self.dismiss(False)
            return
        self.shell.verbs.report("thrown away", outcomes)
        self.dismiss(True)
