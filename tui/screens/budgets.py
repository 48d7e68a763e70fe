"""Pane 5: every budget with what is left of it and who is stopped next; below, its burn-down or the
providers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import anyio
from textual.containers import Horizontal
from textual.widget import Widget

from agenttop.core.errors import AgentTopError, KernelUnreachable

from .. import keys
from ..budgets import ORDERS, Line, lines
from ..model import WINDOWS
from ..widgets import budget_table, burn_down, next_table, provider_table
from ..widgets.header import height as header_height
from ..widgets.notice import Notice
from ..widgets.paper import Row, rule
from ..widgets.sheet import Sheet
from .pane import PaneScreen

if TYPE_CHECKING:
    from agenttop.core.api import BudgetInfo, ProviderInfo, UsageRow
    from agenttop.core.client import KernelClient

#: Seconds between two looks at the budgets, and at what was spent of the cursor's one.
EVERY, USAGE_EVERY = 1.0, 10.0
#: Free lines below the rows from which there is a lower half, and from which it has the providers too.
LOWER, BOTH = 8, 24
#: From these widths on the lower half has two columns, and the second one names agents.
WIDE, WIDER = 100, 150
#: Views of the lower half, by ``Tab``; where it has no room they take the table's place.
VIEWS = ("", "providers", "burn", "next")


class BudgetsScreen(PaneScreen):
    """Budgets, and the providers they pay for."""

    PANE: ClassVar[str] = keys.BUDGETS
    NUMBER: ClassVar[int] = 5
    DEFAULT_CSS = """
    BudgetsScreen #lower { height: 0; }
    BudgetsScreen #burn { width: 1fr; }
    BudgetsScreen #bar { width: 1; }
    BudgetsScreen #soon { width: 42; }
    BudgetsScreen #providers { height: 0; }
    """

    def __init__(self, view: str = "") -> None:
        super().__init__(id="budgets")
        self.infos: list[BudgetInfo] = []
        self.lines: list[Line] = []
        self.known = False
        self.problem = ""
        self.chosen: str | None = None
        self.order = ORDERS[0]
        self.view = view
        self.providers: list[ProviderInfo] | None = None
        self.usage: list[UsageRow] | None = None
        self._usage_of = ""
        self._usage_at = 0.0
        self._wanted = anyio.Event()

    def body(self) -> list[Widget]:
        """The table, the notice, and what lies below."""
        return [
            Sheet(id="table"), Notice(),
            Horizontal(Sheet(id="burn"), Sheet(id="bar"), Sheet(id="soon"), id="lower"),
            Sheet(id="providers"),
        ]  # fmt: skip

    # Textual calls the base class's handler too.
    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one(Notice).display = False
        self.run_worker(self._look(), group="budgets")

    # --- what is known -------------------------------------------------------------------------

    async def _look(self) -> None:
        """Ask once a second while this pane or a dialog over it is open; its end is the pane's."""
        while True:
            client = self.shell.client
            if client is not None and self.shell.pane is self:  # not below another pane
                try:
                    await self._ask(client)
                    self.problem = ""
                except KernelUnreachable:
                    self.problem = "no kernel answers"
                except AgentTopError as error:
                    self.problem = str(error)
                self.updated()
            self._wanted = anyio.Event()
            with anyio.move_on_after(EVERY):
                await self._wanted.wait()

    async def _ask(self, client: KernelClient) -> None:
        self._learned(await client.budgets())
        if "providers" in self._shown():
            self.providers = await client.providers()
        if "burn" in self._shown():
            await self._ask_usage(client)

    async def _ask_usage(self, client: KernelClient) -> None:
        from agenttop.core.api import UsageRequest

        info = self.current
        now = self.shell.clock.monotonic()
        if info is None:
            return
        name = info.budget.name
        if name == self._usage_of and self.usage is not None and now - self._usage_at < USAGE_EVERY:
            return
        if name != self._usage_of:
            self.usage, self._usage_of = None, name
        covered = [] if info.budget.scope == "fleet" else info.agents
        if info.budget.scope != "fleet" and not covered:
            self.usage = []
            return
        over = burn_down.span(info, self.shell.clock.time())
        short = self.shell.clock.time() - over.start <= 6 * burn_down.HOUR
        step: Literal["minute", "hour"] = "minute" if short else "hour"
        found = await client.usage(UsageRequest(by=[step], refs=covered, since=over.start))
        if name == self._usage_of:
            self.usage, self._usage_at = found, now

    def look_now(self) -> None:
        """Ask at once: something was changed."""
        self._wanted.set()

    def _learned(self, infos: list[BudgetInfo]) -> None:
        place = self.place
        self.infos, self.known = infos, True
        self.lines = lines(infos, self.order)
        names = [line.info.budget.name for line in self.lines]
        if self.chosen not in names:
            self.chosen = names[min(place, len(names) - 1)] if names else None

    @property
    def place(self) -> int:
        """The cursor's line."""
        return next((n for n, line in enumerate(self.lines) if line.info.budget.name == self.chosen), 0)

    @property
    def current(self) -> BudgetInfo | None:
        """The budget under the cursor."""
        return next((line.info for line in self.lines if line.info.budget.name == self.chosen), None)

    # --- layout --------------------------------------------------------------------------------

    def _body(self) -> int:
        """Lines between tabs and footer."""
        tall = self.app.size.height
        return tall - header_height(tall) - (1 if tall >= 14 else 0) - 1 - self.query_one(Notice).needed

    def _free(self) -> int:
        return self._body() - 1 - max(1, len(self.lines))

    @property
    def views(self) -> tuple[str, ...]:
        """What ``Tab`` goes round here."""
        return VIEWS[:2] if self._free() >= LOWER and self.app.size.width >= WIDE else VIEWS

    def _shown(self) -> set[str]:
        """Which of table, burn, next and providers are on screen."""
        if self._free() >= LOWER:
            if self._free() >= BOTH and not self.view:
                return {"table", "burn", "next", "providers"}
            if self.view == "providers" and len(self._provider_rows()) > self._free():
                return {"providers"}  # asked for, and seen whole
            if self.view:
                return {"table", self.view}
            return {"table", "burn", "next"} if self.app.size.width >= WIDE else {"table", "burn"}
        return {self.view or "table"}

    def _arrange(self) -> None:
        if self.view not in self.views:
            self.view = ""
        shown, free, body = self._shown(), self._free(), self._body()
        self.query_one(Notice).display = self.query_one(Notice).needed
        table, lower, providers = (self.query_one(f"#{name}") for name in ("table", "lower", "providers"))
        burn, bar, soon = (self.query_one(f"#{name}") for name in ("burn", "bar", "soon"))
        table.display = "table" in shown
        table.styles.height = "1fr"
        burn.display, soon.display = "burn" in shown, "next" in shown
        bar.display = burn.display and soon.display
        cells = next_table.WITH_AGENT if self.app.size.width >= WIDER else next_table.CELLS
        soon.styles.width = cells if burn.display else "1fr"
        lower.display = burn.display or soon.display
        below = free if "table" in shown else body
        if "providers" in shown and lower.display:
            lower.styles.height = below * 11 // 20
            providers.styles.height = below - below * 11 // 20
        else:
            lower.styles.height = min(below, 16) if lower.display and "table" in shown else below
            providers.styles.height = below
        providers.display = "providers" in shown

    # --- what is shown -------------------------------------------------------------------------

    def updated(self) -> None:
        """Something is known anew, or the pane has another size."""
        if not self.query("#providers"):
            return  # not composed yet, or being taken away
        super().updated()
        self._arrange()
        self.query_one(Notice).redraw()
        self.call_after_refresh(self._paint)

    def _paint(self) -> None:
        if not self.query("#providers"):
            return
        now = self.shell.seen_at if self.shell.lost else self.shell.clock.time()
        for name, paint in (
            ("table", self._paint_table), ("burn", self._paint_burn), ("soon", self._paint_soon),
            ("providers", self._paint_providers),
        ):  # fmt: skip
            sheet = self.query_one(f"#{name}", Sheet)
            if sheet.display and sheet.size.width and (name in ("table", "providers") or sheet.size.height):
                paint(sheet, now)
        bar = self.query_one("#bar", Sheet)
        bar.show(
            [[("┬" if not n and self.shell.look.unicode else "│", "rule")] for n in range(bar.size.height)]
        )
        if self.shell.toasts:
            self.show_toasts()

    def _paint_table(self, sheet: Sheet, now: float) -> None:
        width = sheet.size.width
        names = {row.id: row.name for row in self.shell.model.rows.values()}
        look = self.shell.look
        found = budget_table.rows(self.lines, now, names, width, self.chosen, at_least=look.glyphs.at_least)
        rows = [budget_table.heading(width), *found]
        if not self.lines:
            said = self.problem or ("no budget yet: n makes one" if self.known else "asking the kernel")
            rows.append([(f" {said}", "bad" if self.problem else "muted")])
        sheet.show(rows, fixed=1)
        sheet.bring(self.place)

    def _paint_burn(self, sheet: Sheet, now: float) -> None:
        info = self.current
        width, tall = sheet.size.width, sheet.size.height
        if info is None:
            sheet.show([rule("Burn-down", width)])
            return
        usage = self.usage if self._usage_of == info.budget.name else None
        sheet.show(burn_down.rows(info, usage, now, width, tall, ascii=not self.shell.look.unicode))

    def _paint_soon(self, sheet: Sheet, now: float) -> None:
        model = self.shell.model
        names = {row.id: row.name for row in model.rows.values()}
        observed = (sum(row.observed for row in model.rows.values()), model.observed_cost)
        sheet.show(next_table.rows(self.infos, names, observed, sheet.size.width, sheet.size.height))

    def _provider_rows(self) -> list[Row]:
        width = self.app.size.width
        head = rule("Providers", width)
        if self.providers is None:
            return [head, [(" asking the kernel", "muted")]]
        now = self.shell.seen_at if self.shell.lost else self.shell.clock.time()
        return [head, *provider_table.rows(self.providers, now, width)]

    def _paint_providers(self, sheet: Sheet, now: float) -> None:
        sheet.show(self._provider_rows(), fixed=2)

    def cursor_y(self) -> int | None:
        """The screen line of the cursor's row."""
        table = self.query_one("#table", Sheet)
        if not table.display or self.current is None:
            return None
        return table.region.y + 1 + self.place - table.top

    def on_resize(self) -> None:
        """Room comes and goes."""
        self.updated()

    # --- keys ----------------------------------------------------------------------------------

    def _to(self, place: int) -> None:
        if self.view == "providers" and "table" not in self._shown():
            self.query_one("#providers", Sheet).scroll(place - self.place)
            return
        if self.lines:
            place = max(0, min(place, len(self.lines) - 1))
            self.chosen = self.lines[place].info.budget.name
        if self.current is not None and self.current.budget.name != self._usage_of:
            self.look_now()
        self._paint()

    def do_move_up(self) -> None:
        """One row up."""
        self._to(self.place - 1)

    def do_move_down(self) -> None:
        """One row down."""
        self._to(self.place + 1)

    def do_move_page_up(self) -> None:
        """A page up."""
        self._to(self.place - max(1, self.query_one("#table", Sheet).size.height - 2))

    def do_move_page_down(self) -> None:
        """A page down."""
        self._to(self.place + max(1, self.query_one("#table", Sheet).size.height - 2))

    def do_move_home(self) -> None:
        """The first row."""
        self._to(-len(self.lines) if self.view == "providers" else 0)

    def do_move_end(self) -> None:
        """The last row."""
        self._to(2 * len(self.lines))

    def do_budget_view(self) -> None:
        """Burn-down and who is next, the providers, and round again."""
        views = self.views
        self.view = views[(views.index(self.view) + 1) % len(views)] if self.view in views else ""
        self.updated()
        self.look_now()

    def do_budget_sort(self) -> None:
        """Another order."""
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        self.lines = lines(self.infos, self.order)
        said = {"tree": "who covers whom", "stops": "who is stopped next", "used": "how much is used",
                "spent": "what was spent"}[self.order]  # fmt: skip
        self.shell.toast("Ordered by", said)
        self._paint()

    def do_look_window(self) -> None:
        """The next window of the header's sums."""
        model = self.shell.model
        self.shell.rewatch(WINDOWS[(WINDOWS.index(model.window) + 1) % len(WINDOWS)])

    def do_app_back(self) -> None:
        """Toasts, then the view, then the fleet."""
        if self.shell.toasts:
            self.shell.clear_toasts()
        elif self.view:
            self.view = ""
            self.updated()
        else:
            self.shell.pop_screen()

    # --- what acts -----------------------------------------------------------------------------

    def _current(self) -> BudgetInfo | None:
        if self.current is None:
            self.shell.toast("No budget here", "n makes one", "warn")
        return self.current

    def _changed(self, done: object) -> None:
        if done:
            self.look_now()

    def do_budget_answer(self) -> None:
        """What this budget holds; where it holds nothing, its form."""
        info = self._current()
        if info is not None and info.held:
            self.shell.open_questions(budget=info.budget.name)
        elif info is not None:
            self.do_budget_edit()

    def do_budget_new(self) -> None:
        """A new budget."""
        from .budget_form import BudgetScreen

        self.app.push_screen(BudgetScreen(), self._changed)

    def do_budget_edit(self) -> None:
        """Change the one under the cursor."""
        self._edit("usd")

    def do_budget_action(self) -> None:
        """What happens when it is used up."""
        self._edit("action")

    def _edit(self, at: str) -> None:
        from .budget_form import BudgetScreen

        if info := self._current():
            self.app.push_screen(BudgetScreen(info, at=at), self._changed)

    def do_budget_extend(self) -> None:
        """Raise its limit."""
        self._change(1)

    def do_budget_cut(self) -> None:
        """Lower its limit."""
        self._change(-1)

    def _change(self, sign: int) -> None:
        from .budget_amount import AmountScreen

        if info := self._current():
            self.app.push_screen(AmountScreen(info, sign), self._changed)

    def do_budget_remove(self) -> None:
        """Take it away, after asking."""
        from .budget_amount import RemoveBudgetScreen

        if info := self._current():
            self.app.push_screen(RemoveBudgetScreen(info), self._changed)

    def do_budget_agents(self) -> None:
        """The fleet, only the agents it covers."""
        info = self._current()
        if info is None:
            return
        if not info.agents:
            self.shell.toast("It covers no agent now", "none of those it is for is running", "warn")
            return
        model = self.shell.model
        model.only, model.only_name = frozenset(info.agents), info.budget.name
        model.filter, model.needs_only = "", False
        self.shell.do_pane_1()
        model.reorder()
        self.shell.fleet.updated()
