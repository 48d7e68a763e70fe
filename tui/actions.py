"""What the screen's keys and commands do: the verbs on agents, and the screens that open.

A key ``agent.kill`` calls ``do_agent_kill``. Screens are imported when they are first opened.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from textual.app import App

if TYPE_CHECKING:
    from agenttop.core.api import Row

    from .attaching import Attaching
    from .model import FleetModel
    from .screens.pane import PaneScreen
    from .verbs import Verbs


class Actions(App[int]):
    """The part of the app that acts; ``AgentTopApp`` gives what is declared here."""

    model: FleetModel
    verbs: Verbs
    attaching: Attaching

    @property
    @abstractmethod
    def pane(self) -> PaneScreen:
        """The pane on top, below any dialog."""

    @abstractmethod
    def toast(self, title: str, text: str = "", level: str = "info") -> None:
        """Say something that need not be answered."""

    # --- keys that act -------------------------------------------------------------------------

    def _targets(self) -> list[Row]:
        rows = self.model.targets()
        if not rows:
            self.toast("No agent here", "the table is empty", "warn")
        return rows

    def do_agent_pause(self) -> None:
        """Pause or resume."""
        if rows := self._targets():
            self.verbs.pause(rows)

    def do_agent_hold(self) -> None:
        """Hold or release."""
        if rows := self._targets():
            self.verbs.hold(rows)

    def do_agent_nice_down(self) -> None:
        """Higher priority."""
        if rows := self._targets():
            self.verbs.nice(rows, -1)

    def do_agent_nice_up(self) -> None:
        """Lower priority."""
        if rows := self._targets():
            self.verbs.nice(rows, 1)

    def do_agent_restart(self) -> None:
        """A new run."""
        if rows := self._targets():
            self.verbs.restart(rows)

    def do_agent_attach(self) -> None:
        """Get in front of the cursor's agent; its detach key comes back here."""
        if row := self.model.current:
            self.attaching.attach(row)

    # --- screens: imported when first opened ---------------------------------------------------

    def do_agent_kill(self) -> None:
        """Signals and kill, with a preview."""
        if rows := self._targets():
            self.open_kill([row.id for row in rows])

    def open_kill(self, refs: Sequence[str]) -> None:
        """The signal menu with the preview of what would die; nothing is sent before Enter."""
        from .screens.kill import KillScreen

        self.push_screen(KillScreen(refs))

    def do_agent_freeze_all(self) -> None:
        """The kill switch; the same key undoes it. Asks once."""
        header = self.model.header
        self.open_halt(undo=header is not None and header.halted)

    def open_halt(self, *, undo: bool) -> None:
        """Halt everything, or let it go on; nothing is done before Enter."""
        from .screens.halt import HaltScreen

        self.push_screen(HaltScreen(undo=undo))

    def do_agent_answer(self) -> None:
        """What waits for a person's decision."""
        row = self.model.current
        self.open_questions(agent=row.id if row is not None and row.needs else "")

    def open_questions(self, *, agent: str = "", budget: str = "", otherwise_details: bool = False) -> None:
        """The open questions, beginning with one of an agent or of a budget."""
        from .screens.approval import ApprovalScreen

        self.push_screen(ApprovalScreen(agent=agent, budget=budget, otherwise_details=otherwise_details))

    def do_agent_fork(self) -> None:
        """A new agent in the conversation of the cursor's."""
        if row := self.model.current:
            self.fork(row, "")

    def fork(self, row: Row, prompt: str) -> None:
        """Fork at once with this prompt; without one ask for it first."""
        if prompt:
            self.verbs.fork(row, prompt)
            return
        from .screens.fork import ForkScreen

        self.push_screen(ForkScreen(row))

    def do_agent_budget(self) -> None:
        """The budget of the cursor's agent: its own is changed, or a new one made."""
        if row := self.model.current:
            self.open_budget(row)

    def open_budget(self, row: Row, given: Mapping[str, str] | None = None) -> None:
        """The form for an agent's budget."""
        from .screens.budget_form import BudgetScreen

        self.push_screen(BudgetScreen(agent=row, given=given))

    def do_agent_message(self) -> None:
        """Write to the cursor's agent, as a person."""
        if row := self.model.current:
            self.open_message(row)

    def open_message(self, row: Row) -> None:
        """The form for a message to an agent."""
        if row.observed:
            self.toast(f"{row.name} has no mailbox", "observed: agenttop did not start it", "warn")
            return
        from .screens.send import SendScreen

        self.push_screen(SendScreen(row.name, host=row.host))

    def do_app_help(self) -> None:
        """Keys and how to read a row."""
        from .screens.help import HelpScreen

        self.push_screen(HelpScreen(self.pane.PANE))

    def do_app_setup(self) -> None:
        """Columns, order, colours."""
        from .screens.setup import SetupScreen

        self.push_screen(SetupScreen())

    def do_agent_new(self) -> None:
        """Launch from a template."""
        from .screens.launch import LaunchScreen

        self.push_screen(LaunchScreen())

    def do_agent_diff(self) -> None:
        """What the cursor's agent changed."""
        if row := self.model.current:
            self.open_diff(row)

    def open_diff(self, row: Row) -> None:
        """What an agent changed since it began, as a patch."""
        from .screens.diff import DiffScreen

        self.push_screen(DiffScreen(row.id, row.name))

    def do_agent_remove(self) -> None:
        """Take ended agents off the table; asks first, and lists what would be lost."""
        if rows := self._targets():
            self.open_remove(rows)

    def open_remove(self, rows: Sequence[Row]) -> None:
        """The dialog that lists what would be lost with ended agents' worktrees."""
        from .screens.remove import RemoveScreen

        self.push_screen(RemoveScreen(rows))

    def do_agent_details(self) -> None:
        """Everything about the cursor's row."""
        if row := self.model.current:
            self.open_details(row.id)

    def do_agent_logs(self) -> None:
        """Its whole output."""
        if row := self.model.current:
            self.open_details(row.id, zoom=True)

    def open_details(self, ref: str, *, zoom: bool = False, tab: str = "Output") -> None:
        """The details of one agent; ``zoom`` begins with the output filling the screen."""
        from .screens.details import DetailsScreen

        self.push_screen(DetailsScreen(ref, zoom=zoom, tab=tab))

    def do_app_palette(self) -> None:
        """Everything there is to do, by name."""
        from .screens.palette import PaletteScreen

        self.push_screen(PaletteScreen())

    def do_app_command(self) -> None:
        """The palette, ready for a command."""
        self.do_app_palette()

    def open_unreachable(self) -> None:
        """What, why and what next, while no kernel answers."""
        from .screens.unreachable import UnreachableScreen

        self.push_screen(UnreachableScreen())

    def do_app_back(self) -> None:
        """Close the screen on top, if it is not the last."""
        if len(self.screen_stack) > 1:
            self.pop_screen()

    def do_app_quit(self) -> None:
        """Leave; agents run on."""
        self.exit(0)

    # --- panes ---------------------------------------------------------------------------------

    def _open_pane(self, number: int, view: str = "") -> None:
        from .widgets.tabs import PANES, THERE

        if number not in THERE:
            self.toast(f"No {PANES[number - 1]} pane yet", "it comes with a later version", "info")
            return
        if number == self.pane.NUMBER:
            return
        while len(self.screen_stack) > 1:
            self.pop_screen()
        if number == 3:
            from .screens.bus import BusScreen

            self.push_screen(BusScreen(view or "trace"))
        if number == 4:
            from .screens.memory import MemoryScreen

            self.push_screen(MemoryScreen(view))
        if number == 5:
            from .screens.budgets import BudgetsScreen

            self.push_screen(BudgetsScreen(view))
        if number == 6:
            from .screens.events import EventsScreen

            self.push_screen(EventsScreen())

    def do_pane_1(self) -> None:
        """Fleet."""
        self._open_pane(1)

    def do_pane_2(self) -> None:
        """Tasks."""
        self._open_pane(2)

    def do_pane_3(self) -> None:
        """Bus."""
        self._open_pane(3)

    def do_pane_4(self) -> None:
        """Memory."""
        self._open_pane(4)

    def do_pane_5(self) -> None:
        """Budgets."""
        self._open_pane(5)

    def open_memory(self, ref: str) -> None:
        """The memory of one agent."""
        if self.pane.NUMBER == 4:
            self.pop_screen()
        self._open_pane(4, ref)

    def open_providers(self) -> None:
        """The providers, in the pane of the budgets they serve."""
        if self.pane.NUMBER == 5:
            self.pop_screen()
        self._open_pane(5, "providers")

    def do_pane_6(self) -> None:
        """Events."""
        self._open_pane(6)

    def do_pane_7(self) -> None:
        """Metrics."""
        self._open_pane(7)
