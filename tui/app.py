"""The screen's shell: it owns the model, the session and the look, and opens the screens."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual.driver import Driver
from textual.screen import Screen

from agenttop.core.clock import Clock, SystemClock
from agenttop.core.errors import AgentTopError
from agenttop.themes import MONO, load, textual_theme

from . import settings as saved
from .actions import Actions
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
    from agenttop.core.api import EventInfo
    from agenttop.core.client import KernelClient
    from agenttop.core.paths import Paths

    from .questions import Questions
    from .session import Arrived, Connected, Lost, Session, Trouble

#: Seconds without an update after which the second hand repaints ages itself; with updates, they do.
QUIET = 0.6


class AgentTopApp(Actions):
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
            self.pane.ticked()
        elif self.toasts:
            self.pane.show_toasts()
        self._read_events()
        self._read_questions()

    @property
    def marks(self) -> bool:
        """Whether the header marks how many need a person."""
        return self.settings.mark and "header" not in self.silenced

    @property
    def pane(self) -> PaneScreen:
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
        self.pane.updated()
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
        if self.is_running and self.trouble is not None:
            self.trouble = None
            self.toast("The kernel answers", "the table is live again", "good")
            self._restyle()

    def on_lost(self, message: Lost) -> None:
        """No kernel: the last snapshot stays readable, the dialog says what is tried."""
        if not self.is_running:  # leaving: the screens are being taken apart
            return
        first = self.trouble is None
        self.trouble = message.trouble
        if first:
            self._restyle()
            self.open_unreachable()
        else:
            self.pane.updated()

    def try_now(self) -> None:
        """Try to reach the kernel, or the hosts that are away, at once."""
        if self._session is not None:
            self._session.try_now()

    def rewatch(self, window: str) -> None:
        """Let rows and header cover another window."""
        self.model.window = window
        if self._session is not None:
            self._session.rewatch(window)
        self.pane.updated()

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
        self.pane.show_toasts()

    def clear_toasts(self) -> None:
        """Take all away, errors too."""
        self.toasts = []
        self.pane.show_toasts()

    def _expire_toasts(self) -> None:
        now = self.clock.time()
        left = [toast for toast in self.toasts if not toast.over(now)]
        if len(left) != len(self.toasts):
            self.toasts = left
            self.pane.show_toasts()
