"""The screen's shell: it owns the model, the session and the look, and opens the screens."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App
from textual.driver import Driver
from textual.screen import Screen

from agenttop.core.clock import Clock, SystemClock
from agenttop.core.errors import AgentTopError
from agenttop.themes import MONO, load, textual_theme

from . import settings as saved
from .attaching import Attaching
from .keys import KeyTable
from .look import Look, look, wanted_theme, wants_ascii
from .model import FleetModel
from .notices import Notices, at_terminal
from .screens.fleet import FleetScreen
from .screens.pane import PaneScreen
from .settings import Settings
from .shared import SharedFolders
from .terminal import metered, thrifty
from .verbs import Verbs
from .widgets.toast import MOST, Toast

if TYPE_CHECKING:
    from agenttop.core.api import EventInfo, Row
    from agenttop.core.client import KernelClient
    from agenttop.core.paths import Paths

    from .questions import Questions
    from .session import Arrived, Connected, Lost, Session, Trouble

#: Seconds without an update after which the second hand repaints ages itself; with updates, they do.
QUIET = 0.6


class AgentTopApp(App[int]):
    """The whole screen over one kernel.

    Args:
        connect: Gives a client; called after the first frame, and again when the kernel was lost.
        paths: Where the choices of F2 setup are kept; without it they last as long as the app.
        keys: The ``[keys]`` table of the configuration.
        theme: Overrides the saved theme.
        ascii: Draw with ASCII only; ``None`` asks the environment.
        notify: ``[notify]`` of the configuration: what is false there stays off whatever F2 setup says.
        terminal: Whether a person's terminal is there to be rung; ``None`` looks.
        clock: Wall clock; pictures and tests hold it.
        environ: The environment to judge the terminal by.

    Raises:
        UsageError: An unknown theme, or keys that cannot be.
    """

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar = []
    CSS = """
    PaneScreen { background: $bg; color: $fg; }
    Header, Tabs, Footer, Prompt, Lines, FleetTable { background: $bg; color: $fg; }
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[KernelClient]],
        *,
        paths: Paths | None = None,
        keys: Mapping[str, str | Sequence[str]] | None = None,
        theme: str | None = None,
        ascii: bool | None = None,
        window: str | None = None,
        notify: Mapping[str, bool] | None = None,
        terminal: bool | None = None,
        clock: Clock | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        env = os.environ if environ is None else environ
        self._settings_error: AgentTopError | None = None
        self.paths = paths
        self.settings = self._load_settings(paths)
        self._window = window
        self.ascii = (wants_ascii(env) or self.settings.ascii) if ascii is None else ascii
        name = wanted_theme(env, theme or self.settings.theme or None)
        self.look: Look = look(name, ascii=self.ascii)
        self.written = 0
        self.written_rate = 0.0
        # Without colour Textual's own filter takes what CSS would add.
        super().__init__(ansi_color=True if name == MONO else None)
        self.no_colour = name == MONO
        if self.no_colour and not self.no_color:
            from textual.filter import NoColor

            self._filters.append(NoColor())
        self.keys = KeyTable(keys)
        self.clock: Clock = clock or SystemClock()
        self.model = self._new_model()
        self.verbs = Verbs(self)
        self.attaching = Attaching(self)
        self._awaited = ""
        self.toasts: list[Toast] = []
        self.trouble: Trouble | None = None
        self.began = self.clock.time()
        """Since when this screen is open: questions from before are counted, not told."""
        self._questions: Questions | None = None
        self.silenced = frozenset(name for name, on in (notify or {}).items() if not on)
        """What the configuration turned off."""
        self._notices = Notices(self, env)
        self.shared = SharedFolders(self)
        self._terminal = terminal
        self.seen_at = self.clock.time()
        """When the shown rows were true; ages stand still there while no kernel answers."""
        self._connect = connect
        self._session: Session | None = None
        self._events_wanted = 0
        self._events_seq = -1
        self._events_busy = False
        self._sampled = (time.monotonic(), 0)
        self._painted = 0.0
        self.use_theme(name)

    def _load_settings(self, paths: Paths | None) -> Settings:
        if paths is None:
            return Settings()
        try:
            return saved.load(paths.screen_file)
        except AgentTopError as error:
            self._settings_error = error
            return Settings()

    def _new_model(self) -> FleetModel:
        model = FleetModel(self.clock.time)
        choice = self.settings
        model.sort, model.largest, model.tree = choice.sort, choice.largest, choice.tree
        model.window, model.show_ended = self._window or choice.window, choice.show_ended
        return model

    # --- life ----------------------------------------------------------------------------------

    def get_driver_class(self) -> type[Driver]:
        """Textual's driver for this terminal, counting what it writes."""
        return metered(super().get_driver_class(), self._count_written, lambda: self.attaching.away)

    def _count_written(self, count: int) -> None:
        self.written += count

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        if not self.attaching.away:
            super()._display(screen, thrifty(renderable))

    def get_default_screen(self) -> PaneScreen:
        """The fleet pane lies under everything."""
        self.fleet = FleetScreen()
        return self.fleet

    def on_mount(self) -> None:
        """Paint first, then connect."""
        self._leave_on_hangup()
        self.set_interval(min(10.0, max(0.2, self.settings.refresh)), self._tick)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        from .session import Session

        self._session = Session(self, self._connect, self.model.window)
        self.run_worker(self._session.run(), name="session", group="session")
        if self._settings_error is not None:
            from .verbs import sentences

            self.toast(*sentences(self._settings_error), "error")

    def _leave_on_hangup(self) -> None:
        """A terminal that went away, or a polite kill, ends the screen; agents run on."""
        import asyncio

        loop = asyncio.get_running_loop()
        for signum in (signal.SIGHUP, signal.SIGTERM):
            try:
                loop.add_signal_handler(signum, self._hung_up, signum)
            except (RuntimeError, ValueError):  # not in the main thread: tests, embedding
                return

    def _hung_up(self, signum: int) -> None:
        import asyncio

        # A writer that is blocked on a dead terminal must not keep the process.
        asyncio.get_running_loop().call_later(3.0, os._exit, 128 + signum)
        self.exit(128 + signum)

    def _tick(self) -> None:
        if not self.is_running:  # leaving: the screens are being taken apart
            return
        now, (then, before) = time.monotonic(), self._sampled
        if now > then:
            self.written_rate = (self.written - before) / (now - then)
        self._sampled = (now, self.written)
        self._expire_toasts()
        if now - self._painted > QUIET:
            self.model.refresh()
            self._pane.ticked()
        elif self.toasts:
            self._pane.show_toasts()
        self._read_events()
        self._read_questions()

    @property
    def marks(self) -> bool:
        """Whether the header marks how many need a person."""
        return self.settings.mark and "header" not in self.silenced

    @property
    def _pane(self) -> PaneScreen:
        """The pane on top, below any dialog."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, PaneScreen):
                return screen
        return self.fleet

    # --- the kernel ----------------------------------------------------------------------------

    @property
    def client(self) -> KernelClient | None:
        """The connection, while there is one."""
        return self._session.client if self._session is not None else None

    @property
    def lost(self) -> bool:
        """Whether a kernel that answered does not any more; everything shown is then stale."""
        return self.trouble is not None

    def on_arrived(self, message: Arrived) -> None:
        """One snapshot or delta."""
        if not self.is_running:
            return
        self.model.apply(message.update)
        self.seen_at = self.clock.time()
        self.model.refresh()
        self._go_to_awaited()
        self._pane.updated()
        self._painted = time.monotonic()
        self._notices.look()

    def await_row(self, agent: str) -> None:
        """Put the cursor on an agent as soon as it is in the table."""
        self._awaited = agent
        self._go_to_awaited()

    def _go_to_awaited(self) -> None:
        if self._awaited in self.model.rows:
            self.model.cursor, self._awaited = self._awaited, ""

    def on_connected(self, message: Connected) -> None:
        """The kernel is back, or there for the first time."""
        if self.trouble is not None:
            self.trouble = None
            self.toast("The kernel answers", "the table is live again", "good")
            self._restyle()

    def on_lost(self, message: Lost) -> None:
        """No kernel: the last snapshot stays readable, the dialog says what is tried."""
        first = self.trouble is None
        self.trouble = message.trouble
        if first:
            self._restyle()
            self.open_unreachable()
        else:
            self._pane.updated()

    def try_now(self) -> None:
        """Try to reach the kernel, or the hosts that are away, at once."""
        if self._session is not None:
            self._session.try_now()

    def rewatch(self, window: str) -> None:
        """Let rows and header cover another window."""
        self.model.window = window
        if self._session is not None:
            self._session.rewatch(window)
        self._pane.updated()

    def call_to_terminal(self, data: str) -> None:
        """Write what calls a person, where one sits; whole, between two updates of the screen."""
        if self._terminal is None:
            self._terminal = not self.is_headless and at_terminal()
        if self._terminal and self._driver is not None:
            self._driver.write(data)

    def follow_events(self, count: int) -> None:
        """How many of the newest events the strip has room for; 0 stops reading them."""
        self._events_wanted = count
        self._events_seq = -1
        self._read_events()

    def _read_events(self) -> None:
        """Read the newest events when the journal has grown; at most once a second, one at a time."""
        if not self._events_wanted or self._events_busy or self.client is None:
            return
        if self.model.seq != self._events_seq and not self.model.standing:
            self._events_busy = True
            self.run_worker(self._fetch_events(self._events_wanted, self.model.seq), group="events")

    def _read_questions(self) -> None:
        """Look for new questions while there are any; asked for at most once a second."""
        header = self.model.header
        if self._questions is None and header is not None and header.approvals:
            from .questions import Questions

            self._questions = Questions(self)
        if self._questions is not None and header is not None and header.approvals:
            self._questions.look()

    async def _fetch_events(self, count: int, seq: int) -> None:
        try:
            if self.client is not None:
                events: list[EventInfo] = await self.client.last_events(count)
                self._events_seq = seq
                self.fleet.show_events(events)
                self.shared.told(events)
        except AgentTopError:
            # The session meets the same trouble and reports it; the strip keeps what it has.
            self._events_seq = -1
        finally:
            self._events_busy = False

    # --- look ----------------------------------------------------------------------------------

    def use_theme(self, name: str) -> None:
        """Change theme at once (``mono`` cannot be left: the terminal asked for it).

        Raises:
            UsageError: There is no such theme.
        """
        if self.no_colour:
            name = MONO
        data = load(name)
        self.look = look(name, ascii=self.ascii)
        self.register_theme(textual_theme(data))
        self.theme = data.name
        if self.is_running:
            self._restyle()

    def _restyle(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, PaneScreen):
                screen.restyled()

    def change(self, **choices: object) -> None:
        """Change settings and keep them; an unwritable file is told once."""
        self.settings = replace(self.settings, **choices)  # type: ignore[arg-type]
        if self.paths is None:
            return
        try:
            saved.save(self.paths.screen_file, self.settings)
        except AgentTopError as error:
            from .verbs import sentences

            self.toast(*sentences(error), "warn")

    # --- toasts --------------------------------------------------------------------------------

    def toast(self, title: str, text: str = "", level: str = "info") -> None:
        """Say something that needs no answer; ``level`` is good, info, warn or error."""
        self.toasts = [*self.toasts, Toast(title, text, level, self.clock.time())][-MOST:]
        self._pane.show_toasts()

    def clear_toasts(self) -> None:
        """Take all away, errors too."""
        self.toasts = []
        self._pane.show_toasts()

    def _expire_toasts(self) -> None:
        now = self.clock.time()
        left = [toast for toast in self.toasts if not toast.over(now)]
        if len(left) != len(self.toasts):
            self.toasts = left
            self._pane.show_toasts()

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

    def do_app_help(self) -> None:
        """Keys and how to read a row."""
        from .screens.help import HelpScreen

        self.push_screen(HelpScreen(self._pane.PANE))

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
        if number == self._pane.NUMBER:
            return
        while len(self.screen_stack) > 1:
            self.pop_screen()
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

    def open_providers(self) -> None:
        """The providers, in the pane of the budgets they serve."""
        if self._pane.NUMBER == 5:
            self.pop_screen()
        self._open_pane(5, "providers")

    def do_pane_6(self) -> None:
        """Events."""
        self._open_pane(6)

    def do_pane_7(self) -> None:
        """Metrics."""
        self._open_pane(7)
