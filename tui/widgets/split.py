"""The split below the table on large terminals: live output of the cursor's agent, and its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from agenttop.core.agents.states import ENDED
from agenttop.core.errors import AgentTopError

from ..format import clean
from ..lines import Lines
from .call_table import HEADING, call_rows
from .inspector import rule
from .log_view import LogView
from .paper import Paper

if TYPE_CHECKING:
    from agenttop.core.api import AgentDetail

    from ..app import AgentTopApp

#: Seconds the cursor rests on a row before its output is opened.
REST = 0.25
#: Seconds between two looks at the calls.
CALLS_EVERY = 2.0


class _Rule(Lines):
    """A rule with a title and a note."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.title = ""
        self.note = ""

    def say(self, title: str, note: str) -> None:
        """Change both."""
        self.title, self.note = title, note
        self.redraw()

    def build(self, width: int, height: int) -> list[Strip]:
        """The one line."""
        look = self.shell.look
        return [rule(look.plain(self.title), look.plain(self.note), width, look)]


class Split(Widget):
    """Two panes side by side for the row under the cursor. Nothing in it takes the focus."""

    DEFAULT_CSS = """
    Split { layout: horizontal; height: 20; }
    Split > #split-left { width: 1fr; }
    Split > #split-right { width: 1fr; padding-left: 1; }
    Split LogView { height: 1fr; background: $bg; }
    """

    def __init__(self) -> None:
        super().__init__(id="split")
        self._ref: str | None = None
        self._rest: Timer | None = None
        self._asking = False

    @property
    def shell(self) -> AgentTopApp:
        """The app, with its own type."""
        return cast("AgentTopApp", self.app)

    def compose(self) -> ComposeResult:
        """Rules above, output on the left, calls on the right."""
        with Vertical(id="split-left"):
            yield _Rule("split-output")
        with Vertical(id="split-right"):
            yield _Rule("split-calls")
            yield Paper(ground="bg", id="split-table")

    def on_mount(self) -> None:
        """Open the cursor's row; calls are looked at again from time to time."""
        self.set_interval(CALLS_EVERY, self._look)
        self.follow()

    def on_show(self) -> None:
        """Shown again: the cursor may have moved meanwhile."""
        self.follow()

    def follow(self) -> None:
        """The cursor may be on another row: open that when it has rested."""
        if self.shell.model.cursor == self._ref or not self.display:
            return
        if self._rest is not None:
            self._rest.stop()
        self._rest = self.set_timer(REST, self._open)

    async def _open(self) -> None:
        row, client = self.shell.model.current, self.shell.client
        if row is None or client is None or row.id == self._ref:
            return
        self._ref = row.id
        await self.query(LogView).remove()
        log = LogView(client, row.id)
        log.can_focus = False
        await self.query_one("#split-left").mount(log)
        self.query_one("#split-output", _Rule).say(f"Output  {clean(row.name)} {clean(row.id)}", log.status)
        self.query_one("#split-table", Paper).show([])
        self.query_one("#split-calls", _Rule).say(f"Calls  {clean(row.name)}", "")
        self._look()

    @on(LogView.Changed)
    def _status(self, message: LogView.Changed) -> None:
        title = self.query_one("#split-output", _Rule)
        title.say(title.title, f"{message.view.status}  l full log")

    def _look(self) -> None:
        """Ask for the calls, one question at a time, and only while they can be seen."""
        if self._asking or not self.display or self._ref is None or self.shell.screen is not self.screen:
            return
        self._asking = True
        self.run_worker(self._ask(self._ref), group="split")

    async def _ask(self, ref: str) -> None:
        client = self.shell.client
        try:
            if client is not None:
                self._show(ref, await client.inspect(ref))
        except AgentTopError as error:
            # The agent is gone or the kernel is: the rule says so in place of the count.
            self.query_one("#split-calls", _Rule).say("Calls", clean(error.what))
        finally:
            self._asking = False

    def _listen(self, detail: AgentDetail) -> None:
        """Read on where the log has ended but the agent lives: it had not begun, or began again."""
        client = self.shell.client
        for log in self.query(LogView):
            if client is not None and log.ended and detail.info.state not in ENDED:
                log.attach(client, detail.info.id)

    def _show(self, ref: str, detail: AgentDetail) -> None:
        if ref != self._ref:
            return
        self._listen(detail)
        now = self.shell.clock.time()
        rows = [HEADING, *call_rows(detail.calls, now)] if detail.calls else [[("  no calls yet", "muted")]]
        self.query_one("#split-table", Paper).show(rows[: max(1, self.size.height - 1)])
        self.query_one("#split-calls", _Rule).say(
            f"Calls  {clean(detail.info.name)}", f"{detail.calls_today} today"
        )
