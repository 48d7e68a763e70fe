"""The details of one agent: what it says, what runs, what it asked the models, and how it fares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import anyio
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from agenttop.core.agents.states import ENDED
from agenttop.core.api import AgentDetail, BudgetInfo, CallInfo, EventInfo
from agenttop.core.api import Row as FleetRow
from agenttop.core.errors import AgentTopError, KernelUnreachable

from .. import keys
from ..attaching import TERMINAL
from ..budgets import covering
from ..folder import FolderWatch
from ..verbs import sentences
from ..widgets import details_page as page
from ..widgets.call_table import HEADING as CALLS_HEADING
from ..widgets.call_table import call_rows, graph_rows, wide_heading, wide_rows
from ..widgets.details_head import DetailsHead
from ..widgets.footer import Footer, Prompt
from ..widgets.gauge import Live
from ..widgets.log_view import LogView
from ..widgets.paper import Paper, Row, rule
from ..widgets.process_tree import HEADING as PROCESS_HEADING
from ..widgets.process_tree import table
from ..widgets.toast import Toasts
from ..widgets.workspace_page import page as folder_page
from ..widgets.workspace_page import section
from .pane import PaneScreen

if TYPE_CHECKING:
    from agenttop.core.client import KernelClient

#: From this size on, output, processes and calls stand side by side; below, each is a tab.
WIDE, TALL = 110, 26
#: Seconds between two looks at the processes and calls.
EVERY = 1.0
#: Calls that the calls' own tab asks for.
CALLS = 500

TABS = ("Output", "Calls", "Mail", "Memory", "Files", "Events", "Spec")
NARROW_TABS = ("Output", "Processes", "Calls", "Mail", "Memory", "Files", "Events", "Spec")
PANES = ("output", "processes", "calls")


class DetailsScreen(PaneScreen):
    """Everything about one agent. Its acting keys act on this agent, whatever is tagged."""

    PANE: ClassVar[str] = keys.DETAILS
    NUMBER: ClassVar[int] = 0
    DEFAULT_CSS = """
    DetailsScreen #head { height: 4; }
    DetailsScreen #main { height: 1fr; }
    DetailsScreen #left { width: 51%; }
    DetailsScreen #split { width: 1; height: 1fr; }
    DetailsScreen #right { width: 1fr; }
    DetailsScreen .rule { height: 1; }
    DetailsScreen #log { height: 1fr; }
    DetailsScreen #page { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "pane(1)", show=False, priority=True),
        Binding("shift+tab", "pane(-1)", show=False, priority=True),
        Binding("enter", "zoom", show=False),
        *(Binding(str(number), f"tab({number})", show=False) for number in range(1, 9)),
    ]

    def __init__(self, ref: str, *, zoom: bool = False, tab: str = "Output") -> None:
        super().__init__(id="details")
        self.ref = ref
        self.zoomed = zoom
        self.full_log = zoom
        self.tab = tab
        self.pane = "output"
        self.detail: AgentDetail | None = None
        self.events: list[EventInfo] = []
        self.budgets: list[BudgetInfo] = []
        """Those that cover this agent, the tightest first."""
        self.calls: list[CallInfo] | None = None
        """As many as the calls' own tab shows; the overview has the last ones."""
        self.problem = ""
        self.folder = FolderWatch(lambda: self.shell.client, ref, self.updated)
        self._cpu: dict[int, float | None] = {}
        self._before: tuple[float, dict[int, float]] | None = None
        self._client: KernelClient | None = None

    def compose(self) -> Iterable[Widget]:
        """Head, tabs, the panes, footer."""
        yield DetailsHead(id="head")
        with Horizontal(id="main"):
            with Vertical(id="left"):
                yield Paper(ground="bg", id="output-rule")
                yield LogView(id="log")
                yield Paper(ground="bg", id="processes-rule")
                yield Paper(ground="bg", focusable=True, id="processes")
            yield Paper(ground="bg", id="split")
            with Vertical(id="right"):
                yield Paper(ground="bg", id="calls-rule")
                yield Paper(ground="bg", focusable=True, id="calls")
                yield Paper(ground="bg", id="rest")
            yield Paper(ground="bg", focusable=True, id="page")
        yield Footer(self.PANE)
        yield Prompt()
        yield Toasts()

    def on_mount(self) -> None:
        """Begin to look."""
        for name in PANES:
            self.query_one(f"#{name}-rule").add_class("rule")
        if self.observed and self.tab == "Output" and not self.zoomed:
            self.tab = "Spec"  # what is known of it; its output is not ours
        self._arrange()
        self.run_worker(self._look(), group="inspect")
        self.run_worker(self.folder.run(), group="folder")

    # --- what is known ------------------------------------------------------------------------

    async def _look(self) -> None:
        """Ask once a second for as long as the screen is open; a kernel that is away is waited for."""
        while self._whole():
            client = self.shell.client
            if client is not None:
                self._listen(client)
                try:
                    detail = await client.inspect(self.ref)
                    if not self._whole():
                        return
                    self._learned(detail)
                    await self._learn_money(client)
                    if self.tab == "Events":
                        self.events = await client.last_events(500, [self.ref])
                except KernelUnreachable as error:
                    self.problem = error.what if error.code == "host_away" else "no kernel answers"
                except AgentTopError as error:
                    self.problem = str(error)
            if self._whole():
                self.updated()
            await anyio.sleep(EVERY)

    def _whole(self) -> bool:
        """False once the screen is being taken apart; whoever waited for something meanwhile looks first."""
        return bool(self.query("#log"))

    async def _learn_money(self, client: KernelClient) -> None:
        from agenttop.core.api import CallsRequest

        info = self.detail.info if self.detail is not None else None
        if info is None:
            return
        self.budgets = covering(await client.budgets(), info.id)
        if self.tab == "Calls":
            self.calls = await client.model_calls(CallsRequest(refs=[info.id], limit=CALLS))

    @property
    def observed(self) -> bool:
        """Whether somebody else started it."""
        row = self.shell.model.rows.get(self.ref)
        return row is not None and row.observed

    def _listen(self, client: KernelClient) -> None:
        if client is not self._client and not self.observed:
            self._client = client
            self.log_view.attach(client, self.ref, terminal=self.in_terminal)

    def _learned(self, detail: AgentDetail) -> None:
        now = self.shell.clock.monotonic()
        used = {process.pid: process.cpu_seconds for process in detail.processes}
        if self._before is not None and now > self._before[0]:
            then, before = self._before
            self._cpu = {
                pid: max(0.0, 100 * (seconds - before[pid]) / (now - then)) if pid in before else None
                for pid, seconds in used.items()
            }
        self._before = (now, used)
        self.detail, self.problem = detail, ""
        if self.log_view.ended and detail.info.state not in ENDED and self._client is not None:
            # A new run: it speaks again.
            self.log_view.attach(self._client, self.ref, terminal=self.in_terminal)
        if self.log_view.window.run is None:
            self.log_view.window.run = detail.info.run

    @property
    def in_terminal(self) -> bool:
        """Whether it has a terminal, of which the text is shown."""
        info = self.detail.info if self.detail is not None else None
        rows = self.shell.model.rows
        row = rows.get(self.ref) or next((row for row in rows.values() if row.name == self.ref), None)
        return TERMINAL in (info.backend if info else "", row.backend if row else "")

    @property
    def live(self) -> Live | None:
        """Everything known now, or nothing yet."""
        if self.detail is None:
            return None
        model = self.shell.model
        cores = model.header.host_cores if model.header is not None else 1
        now = self.shell.seen_at if self.shell.lost else self.shell.clock.time()
        names = {row.id: row.name for row in model.rows.values()}
        return Live(self.detail, model.rows.get(self.detail.info.id), now, self._cpu, cores, names)

    @property
    def log_view(self) -> LogView:
        """The output."""
        return self.query_one("#log", LogView)

    # --- what is shown ------------------------------------------------------------------------

    @property
    def wide(self) -> bool:
        """Whether the panes fit side by side."""
        return self.app.size.width >= WIDE and self.app.size.height >= TALL

    @property
    def tabs(self) -> tuple[str, ...]:
        """The tabs at this size."""
        return TABS if self.wide else NARROW_TABS

    @property
    def overview(self) -> bool:
        """Whether several panes are shown."""
        return self.wide and self.tab == "Output" and not self.zoomed

    def _arrange(self) -> None:
        """Show what belongs to this tab at this size."""
        if self.tab not in self.tabs:
            self.tab = "Output"
        several = self.overview
        if several:
            shown = set(PANES)
        elif self.tab == "Output":
            shown = {self.pane if self.zoomed and self.wide else "output"}
        else:
            shown = {self.tab.lower()} & set(PANES)
        full = self.full_log and self.zoomed and shown == {"output"}
        self.query_one("#head").styles.height = 1 if full or self.app.size.height < 16 else 4
        for name in PANES:
            self.query_one(f"#{name}-rule").display = name in shown
            self.query_one("#log" if name == "output" else f"#{name}").display = name in shown
        left, right = self.query_one("#left"), self.query_one("#right")
        left.display = bool(shown & {"output", "processes"})
        right.display = "calls" in shown
        left.styles.width = "51%" if several else "1fr"
        self.query_one("#split").display = self.query_one("#rest").display = several
        self.query_one("#page").display = not shown
        self._focus(shown)
        self.updated()

    def _focus(self, shown: set[str]) -> None:
        if not shown:
            self.query_one("#page").focus()
            return
        if self.pane not in shown:
            self.pane = next(name for name in PANES if name in shown)
        self.query_one("#log" if self.pane == "output" else f"#{self.pane}").focus()

    def updated(self) -> None:
        """Something changed: say it all anew; rows that are equal are not painted again."""
        heads = self.query(DetailsHead)
        if not heads:
            return  # not composed yet, or being taken away
        live = self.live
        header = self.shell.model.header
        halted = header is not None and header.halted
        heads.first().show(live, self.tabs, self.tab, self.problem, halted=halted)
        self._show_rule("output", self.log_view.status)
        self.query_one("#split", Paper).show([[("│", "rule")]] * self.app.size.height)
        self.query_one(Footer).offer_attach(bool(live and live.row and live.row.attach))
        if live is not None:
            self._show_processes(live)
            self._show_calls(live)
            self._show_page(live)

    def _show_rule(self, name: str, side: str) -> None:
        paper = self.query_one(f"#{name}-rule", Paper)
        width = paper.size.width or self.app.size.width
        row = rule(name.capitalize(), width, side)
        if self.pane == name and self.overview:
            row[0] = ("▌ ", "accent")
        paper.show([row])

    def _show_processes(self, live: Live) -> None:
        processes = live.detail.processes
        info = live.detail.info
        side = f"{len(processes)} processes" if len(processes) != 1 else "1 process"
        if live.detail.mechanism:
            side += f", freeze by {live.detail.mechanism}"
        if info.frozen:
            side += f", {info.frozen[0]} frozen"
        self._show_rule("processes", side)
        rows = [PROCESS_HEADING, *table(processes, self._cpu)]
        if not processes:
            rows = [[(" no process: ", "muted"), (page.ending(info), "fg")]]
        self.query_one("#processes", Paper).show(rows)
        height = self.query_one("#main").size.height
        tall = min(len(rows), max(4, height // 3)) if self.overview else None
        self.query_one("#processes").styles.height = tall if tall is not None else "1fr"

    def _show_calls(self, live: Live) -> None:
        detail = live.detail
        self._show_rule("calls", f"{detail.calls_today} today, {detail.calls_hour} this hour")
        paper = self.query_one("#calls", Paper)
        rows: list[Row] = []
        if live.row is not None and self.app.size.height >= 20:
            ascii = not self.shell.look.unicode
            tall = 3 if self.app.size.height >= TALL else 1
            rows += graph_rows(live.row.spark, max(20, paper.size.width - 1), tall, ascii=ascii)
        if self.overview:
            calls = detail.calls
            rows += [CALLS_HEADING, *call_rows(calls, live.now)]
        else:
            calls = self.calls if self.calls is not None else detail.calls
            rows += [wide_heading(paper.size.width), *wide_rows(calls, live.now, paper.size.width)]
        if not calls:
            none = "observed: its calls do not pass the gateway" if self.observed else "no model call yet"
            rows.append([(f" {none}", "muted")])
        paper.show(rows)
        paper.styles.height = "1fr"
        if self.overview:
            rest = self.query_one("#rest", Paper)
            wide = rest.size.width
            budgets = page.budget_rows(self.budgets, wide, observed=self.observed)
            folder = section(self.folder.info, wide)
            rest.show([*budgets, *folder, *page.later(wide)])
            rest.styles.height = len(rest.rows)
            paper.styles.height = max(
                4, min(len(rows) + 1, self.query_one("#main").size.height - len(rest.rows) - 1)
            )

    def _show_page(self, live: Live) -> None:
        paper = self.query_one("#page", Paper)
        if not paper.display:
            return
        if self.tab == "Files":
            paper.show(folder_page(self.folder.info, paper.size.width))
        else:
            paper.show(page.rows(self.tab, live, self.events, paper.size.width))

    def ticked(self) -> None:
        """A second went by."""
        self.updated()
        if self.shell.toasts:
            self.show_toasts()

    def restyled(self) -> None:
        """Another theme, or the kernel was lost or found."""
        self.query_one(Footer).redraw()
        for widget in self.query(Widget):
            widget.refresh()
        self.updated()

    def show_toasts(self) -> None:
        """Lay out the toasts anew, above the footer."""
        self.query_one(Toasts).place(None, 4, self.app.size.height - 1, self.app.size.width)

    def _fit(self) -> None:
        self._arrange()

    @on(LogView.Changed)
    def _log_changed(self) -> None:
        self._show_rule("output", self.log_view.status)

    @on(LogView.Failed)
    def _log_failed(self, message: LogView.Failed) -> None:
        if isinstance(message.error, KernelUnreachable):
            self._client = None  # read on as soon as a kernel answers; the dialog says the rest
            return
        self.shell.toast(*sentences(message.error), "error")

    # --- keys ---------------------------------------------------------------------------------

    def action_pane(self, step: int) -> None:
        """The next pane; where there is only one, the next tab."""
        prompt = self.query_one(Prompt)
        if prompt.display:
            return
        if self.overview:
            self.pane = PANES[(PANES.index(self.pane) + step) % len(PANES)]
            self._focus(set(PANES))
            self.updated()
        else:
            at = (self.tabs.index(self.tab) + step) % len(self.tabs)
            self.action_tab(at + 1)

    def action_tab(self, number: int) -> None:
        """Go to a tab by its number."""
        if number <= len(self.tabs):
            self.tab, self.zoomed, self.full_log = self.tabs[number - 1], False, False
            self._arrange()

    def action_zoom(self) -> None:
        """One pane over the whole screen, or all again."""
        if self.wide and self.tab == "Output":
            self.zoomed, self.full_log = not self.zoomed, False
            self._arrange()

    def do_agent_logs(self) -> None:
        """The output over the whole screen, or all again."""
        full = not (self.full_log and self.zoomed)
        self.tab, self.pane, self.zoomed, self.full_log = "Output", "output", full, full
        self._arrange()

    def do_app_back(self) -> None:
        """Undo one thing after another: search, zoom, the screen."""
        log = self.log_view
        if self.shell.toasts:
            self.shell.clear_toasts()
        elif log.needle:
            log.search("")
            self.updated()
        elif self.zoomed and self.wide and not self.full_log:
            self.action_zoom()
        else:
            self.dismiss(None)

    def do_events_follow(self) -> None:
        """Follow the output, or stop here."""
        self.log_view.action_toggle_follow()

    def do_look_search(self) -> None:
        """Search the output upwards; ``n`` and ``N`` go on."""
        log = self.log_view
        if not log.display:
            self.action_tab(1)

        def changed(text: str) -> bool:
            log.needle = text
            log.refresh()
            return True

        def done(text: str | None) -> None:
            log.search(text or "")
            self._focus({"output"})
            self.updated()

        self.pane = "output"
        self.ask("Search:", "", changed, done)

    def _rows(self) -> list[FleetRow]:
        row = self.shell.model.rows.get(self.detail.info.id) if self.detail is not None else None
        if row is None:
            self.shell.toast("This agent is not on the table", "nothing was done", "warn")
        return [row] if row is not None else []

    def do_agent_pause(self) -> None:
        """Pause or resume."""
        if rows := self._rows():
            self.shell.verbs.pause(rows)

    def do_agent_hold(self) -> None:
        """Hold or release."""
        if rows := self._rows():
            self.shell.verbs.hold(rows)

    def do_agent_nice_down(self) -> None:
        """Higher priority."""
        if rows := self._rows():
            self.shell.verbs.nice(rows, -1)

    def do_agent_nice_up(self) -> None:
        """Lower priority."""
        if rows := self._rows():
            self.shell.verbs.nice(rows, 1)

    def do_agent_restart(self) -> None:
        """A new run."""
        if rows := self._rows():
            self.shell.verbs.restart(rows)

    def do_agent_fork(self) -> None:
        """A new agent in its conversation."""
        for row in self._rows():
            self.shell.fork(row, "")

    def do_agent_attach(self) -> None:
        """Get in front of it; the detach key comes back here."""
        for row in self._rows():
            self.shell.attaching.attach(row)

    def do_agent_message(self) -> None:
        """Write to it, as a person."""
        for row in self._rows():
            self.shell.open_message(row)

    def do_agent_answer(self) -> None:
        """What waits for a person's decision about its calls."""
        self.shell.open_questions(agent=self.detail.info.id if self.detail is not None else self.ref)

    def do_agent_budget(self) -> None:
        """Its own budget: changed, or a new one made."""
        for row in self._rows():
            self.shell.open_budget(row)

    def do_agent_diff(self) -> None:
        """What it changed since it began."""
        for row in self._rows():
            self.shell.open_diff(row)

    def do_agent_remove(self) -> None:
        """Take it off the table, if it has ended; asks first."""
        if rows := self._rows():
            self.shell.open_remove(rows)

    def do_agent_kill(self) -> None:
        """Signals and kill, with a preview."""
        self.shell.open_kill([self.detail.info.id if self.detail is not None else self.ref])
