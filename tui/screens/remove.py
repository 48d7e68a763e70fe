"""Remove: ended agents off the table. Worktrees go if nothing is lost; what would be is listed first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from agenttop.core.api import Outcome, RemoveRequest, WorkspaceInfo
from agenttop.core.api import Row as FleetRow
from agenttop.core.errors import AgentTopError, from_dict

from ..format import clean
from ..model import ENDED
from ..verbs import sentences
from ..widgets.dialog import Chip, Dialog, client_of
from ..widgets.paper import Paper, Row, counted, several, wrapped

#: Things listed of one agent; more are counted.
FILES = 200


class RemoveScreen(Dialog[None]):
    """Asks before agents are removed. ``Enter`` keeps all work; ``D`` deletes what is listed, too."""

    WIDTH = 92
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act(False)", show=False),
        Binding("D", "act(True)", show=False),
        Binding("up", "scroll(-1)", show=False),
        Binding("down", "scroll(1)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
        Binding("pagedown", "scroll(10)", show=False),
    ]

    def __init__(self, rows: Sequence[FleetRow]) -> None:
        super().__init__()
        self.agents = [row for row in rows if row.state in ENDED and not row.observed]
        self.others = [row for row in rows if row not in self.agents]
        self.found: dict[str, WorkspaceInfo] | None = None
        """Of each agent, by id; ``None`` until the kernel has told."""
        self.busy = False
        self.done: list[Outcome] = []
        """What became of them, where that takes more than a toast."""

    def on_mount(self) -> None:
        """Ask what would be lost."""
        self.head(f"Remove  {several([row.name for row in self.agents])}", "asking the kernel", "bad")
        self._show()
        self.run_worker(self._ask())

    async def _ask(self) -> None:
        found: dict[str, WorkspaceInfo] = {}
        try:
            for row in self.agents:
                found[row.id] = await self.client.workspace(row.id, "losses")
        except AgentTopError as error:
            self.shell.toast(*sentences(error), "error")
            self.dismiss(None)
            return
        self.found = found
        self._show()
        self.fit()

    @property
    def losing(self) -> list[FleetRow]:
        """The agents whose worktrees have something that is nowhere else."""
        return [row for row in self.agents if self.found and self.found[row.id].losses]

    # --- what is shown ------------------------------------------------------------------------

    def _show(self) -> None:
        names = several([row.name for row in self.agents])
        side = "nothing has been done yet" if self.found is not None else "asking the kernel"
        if self.done or self.busy:
            self.head(
                f"Removed  {names}" if self.done else f"Remove  {names}", "", "good" if self.done else "bad"
            )
        else:
            self.head(f"Remove  {names}" if self.agents else "Remove", side, "bad")
        self.query_one("#paper", Paper).show(self._rows())

    def _rows(self) -> list[Row]:
        if self.done:
            return self._outcomes()
        if not self.agents:
            return [[], [(" Nothing here has ended: stop it first (x)", "warn")]]
        rows: list[Row] = [[]]
        whose = "its" if len(self.agents) == 1 else "their"
        rows.append(
            [(f" {counted(len(self.agents), 'agent')}", "bright bold"), (f" and {whose} output go", "fg")]
        )
        if self.others:
            names = several([row.name for row in self.others])
            rows.append([(f" {names} stay: not ended, or not started by agenttop", "muted")])
        for row in self.losing:
            rows += self._losses(row)
        if self.found is not None and self.losing:
            rows += [[], [(" Enter", "label bold"), (" keeps all of this where it is; ", "fg"),
                          ("D", "bad bold"), (" deletes it for good", "bad")]]  # fmt: skip
        return rows

    def _losses(self, row: FleetRow) -> list[Row]:
        assert self.found is not None
        info = self.found[row.id]
        lines = info.losses
        title = f" In the worktree of {clean(row.name)}, and nowhere else:"
        rows: list[Row] = [[], [(title, "warn bold")]]
        rows += wrapped(f"{info.folder}, branch {info.branch or '-'}", self.inner_width - 4, "muted", 3)
        rows += [[(f"   {clean(line)}", "fg")] for line in lines[:FILES]]
        if len(lines) > FILES:
            rows.append([(f"   and {len(lines) - FILES:,} more", "muted")])
        return rows

    def _outcomes(self) -> list[Row]:
        """What was done, whole: where work is must be read, and copied."""
        rows: list[Row] = []
        for outcome in self.done:
            rows += [[], [(f" {clean(outcome.name or outcome.ref)}", "bright bold")]]
            said = str(from_dict(outcome.error)) if outcome.error else outcome.done
            rows += wrapped(said, self.inner_width - 4, "bad" if outcome.error else "fg", 3)
            for note in outcome.notes:
                rows += wrapped(note, self.inner_width - 4, "muted", 3)
        return rows

    def chips(self) -> Sequence[Chip]:
        """Remove, or remove and discard."""
        if self.done:
            return (Chip("Esc", "Close"),)
        if self.found is None or not self.agents or self.busy:
            return (Chip("Esc", "Close; it goes on" if self.busy else "Cancel"),)
        if not self.losing:
            return (Chip("Enter", "Remove", "bad bold"), Chip("Esc", "Cancel"))
        return (
            Chip("Enter", "Remove, keep the work", "good bold"),
            Chip("D", "Remove, delete the work", "bad bold"),
            Chip("Esc", "Cancel"),
        )

    def fit(self) -> None:
        """The folders are broken where the box ends."""
        super().fit()
        if self.is_mounted:
            self._show()
            super().fit()

    # --- keys ---------------------------------------------------------------------------------

    def action_scroll(self, lines: int) -> None:
        """Scroll what would be lost."""
        self.query_one("#paper", Paper).action_scroll_by(lines)

    def action_act(self, discard: bool) -> None:
        """Do it; ``D`` only where the list of what is lost has been shown."""
        if self.done:
            self.dismiss(None)
        if self.found is None or not self.agents or self.busy or (discard and not self.losing):
            return
        self.busy = True
        self.fit()
        # The work belongs to the app: closing the dialog does not call it back.
        self.app.run_worker(self._act(RemoveRequest(refs=[row.id for row in self.agents], discard=discard)))

    async def _act(self, request: RemoveRequest) -> None:
        shell = self.shell
        try:
            outcomes = await client_of(shell).remove(request)
        except AgentTopError as error:
            shell.toast(*sentences(error), "error")
            outcomes = []
        self.busy = False
        if self.is_current and any(outcome.notes for outcome in outcomes):
            self.done = outcomes
            self.fit()
            return
        if outcomes:
            shell.verbs.report("removed", outcomes)
        if self.is_current:
            self.dismiss(None)
