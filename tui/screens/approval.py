"""What waits for a person: the held call, what it may cost, what is left, and what can be done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import anyio
from textual.binding import Binding, BindingType
from textual.widget import Widget

from agenttop.core.agents.states import Pause
from agenttop.core.api import AnswerRequest, CallsRequest, PauseRequest
from agenttop.core.errors import AgentTopError

from ..budgets import Need, beside, need
from ..format import age, clean
from ..verbs import sentences
from ..widgets import question_page as page
from ..widgets.dialog import Chip, Dialog
from ..widgets.paper import Paper, rule, wrapped
from ..widgets.question_page import Asked, Choice

if TYPE_CHECKING:
    from agenttop.core.api import ApprovalInfo, BudgetInfo, CallInfo

#: Seconds between two looks, and after another question came up by itself in which no key answers it.
EVERY, GUARD = 1.0, 0.5
#: Questions listed at once, and calls that the likely cost is guessed from.
LISTED, CALLS = 5, 20


class ApprovalScreen(Dialog[str]):
    """The open questions; one at a time is answered. Opened by a person, never by itself.

    Args:
        agent: Begin with a question of this agent (its id).
        budget: Begin with one that this budget holds.
        otherwise_details: Where the agent has no question, open its details instead.
    """

    WIDTH = 92
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act", show=False),
        Binding("up", "choose(-1)", show=False),
        Binding("down", "choose(1)", show=False),
        Binding("left", "amount(-1)", show=False),
        Binding("right", "amount(1)", show=False),
        Binding("tab", "next(1)", show=False, priority=True),
        Binding("shift+tab", "next(-1)", show=False, priority=True),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("i", "details", show=False),
        *(Binding(key, f"pick('{key}')", show=False) for key in "e1anfx"),
    ]

    def __init__(self, *, agent: str = "", budget: str = "", otherwise_details: bool = False) -> None:
        super().__init__()
        self.agent, self.budget = agent, budget
        self.otherwise_details = otherwise_details
        self.questions: list[ApprovalInfo] | None = None
        self.at = ""
        self.choice = 0
        self.more = Need(0.0, 0)
        self.infos: list[BudgetInfo] = []
        self.calls: list[CallInfo] = []
        self.problem = ""
        self.busy = False
        self._deaf_until = 0.0
        self._calls_of = ""
        self._wanted = anyio.Event()

    def body(self) -> Iterable[Widget]:
        """The question and, always in sight, the answers."""
        yield Paper(id="paper")
        yield Paper(id="choices")

    def on_mount(self) -> None:
        """Ask the kernel."""
        self.head("What waits for you", "asking the kernel", "state-needs-you")
        self.run_worker(self._look())

    # --- what is known ------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            try:
                client = self.client
                found = await client.approvals()
                self.infos = await client.budgets()
                self._learned(found)
                if self.question is not None and self._calls_of != self.question.approval:
                    self._calls_of = self.question.approval
                    self.calls = await client.model_calls(
                        CallsRequest(refs=[self.question.agent], limit=CALLS + 1)
                    )
                self.problem = ""
            except AgentTopError as error:
                self.problem = str(error)
            # An answer may come while the whole screen is being taken apart; there is nothing to leave then.
            if not self.is_attached or not self.app.is_running or not self._goes_on():
                return
            self._show()
            self._wanted = anyio.Event()
            with anyio.move_on_after(EVERY):
                await self._wanted.wait()

    def _goes_on(self) -> bool:
        """Whether there is anything to ask; else the dialog goes, and says why."""
        if self.questions is None or self.busy:
            return True
        meant = [one for one in self.questions if one.agent == self.agent] if self.agent else self.questions
        if self.otherwise_details and not meant:
            shell, agent = self.shell, self.agent
            self.dismiss(None)
            shell.open_details(agent)
            return False
        if not self.questions:
            self.shell.toast("Nothing waits for you", "no held call asks for a decision", "good")
            self.dismiss(None)
            return False
        return True

    def _learned(self, found: list[ApprovalInfo]) -> None:
        first = self.questions is None
        self.questions = sorted(found, key=lambda one: (one.since, one.approval))
        if self.question is not None or not self.questions:
            return
        wanted = [
            one for one in self.questions
            if (self.agent and one.agent == self.agent) or (self.budget and one.budget == self.budget)
        ]  # fmt: skip
        self._go_to((wanted or self.questions)[0])
        if not first:
            # The next question came up under the person's finger: a repeated key is no answer to it.
            self._deaf_until = self.shell.clock.monotonic() + GUARD

    def _go_to(self, question: ApprovalInfo) -> None:
        self.at, self.choice, self.more = question.approval, 0, need(question)
        self.otherwise_details = False
        self.query_one("#paper", Paper).action_scroll_to_row(0)

    @property
    def question(self) -> ApprovalInfo | None:
        """The one that is shown."""
        return next((one for one in self.questions or () if one.approval == self.at), None)

    @property
    def asked(self) -> Asked | None:
        """The question with everything known about it."""
        question = self.question
        if question is None:
            return None
        row = self.shell.model.rows.get(question.agent)
        return Asked(question, self.infos, self.calls, row.task if row is not None else "", self.more)

    @property
    def choices(self) -> list[Choice]:
        """What can be done with the question that is shown."""
        asked = self.asked
        return page.choices(asked, ascii=self.ink.ascii) if asked is not None else []

    @property
    def chosen(self) -> Choice | None:
        """The answer under the bar."""
        choices = self.choices
        return choices[min(self.choice, len(choices) - 1)] if choices else None

    # --- what is shown ------------------------------------------------------------------------

    def _show(self) -> None:
        asked = self.asked
        if asked is None:
            return
        question, now = asked.question, self.shell.clock.time()
        row = self.shell.model.rows.get(question.agent)
        template = f", {clean(row.template)}" if row is not None and row.template else ""
        side = f"held {age(now - question.since)}, {clean(question.agent)}{template}"
        self.head(f"{clean(question.name)} waits: {question.about}", side, "state-needs-you")
        width = self.inner_width
        most = LISTED if self.size.height >= 30 else 2
        rows = [*page.listed(self.questions or [], self.at, now, width, most), *page.rows(asked, width)]
        if self.shell.model.header is not None and self.shell.model.header.halted:
            rows.append(
                [(" The kill switch is on: nothing goes through before it is undone (^F).", "bad bold")]
            )
        if self.problem:
            rows += wrapped(self.problem, width - 2, "bad bold", 1)
        self.query_one("#paper", Paper).show(rows)
        answers = page.choice_rows(self.choices, self.choice, width)
        self.query_one("#choices", Paper).show([rule("What now", width), *answers])
        self.fit()

    def body_height(self, width: int) -> int:
        """The question, and the answers below it."""
        answers = len(self.query_one("#choices", Paper).rows)
        return len(self.query_one("#paper", Paper).rows) + 1 + answers

    def fit(self) -> None:
        """The answers stay in sight; the question above them scrolls."""
        if self.is_mounted:
            gap = 1 if self.size.height >= 26 else 0
            self.query_one("#choices").styles.height = (
                max(1, len(self.query_one("#choices", Paper).rows)) + gap
            )
        super().fit()

    def chips(self) -> Sequence[Chip]:
        """What the keys do with what is selected."""
        chosen = self.chosen
        if chosen is None:
            return (Chip("Esc", "Close"),)
        if self.busy:
            return (Chip("Esc", "Close; it goes on"),)
        words = f"Extend by {page.said(self.more)}" if chosen.id == "extend" else chosen.words
        chips = [Chip("Enter", words, "bad bold" if chosen.id == "kill" else "good bold")]
        if chosen.id == "extend":
            chips.append(Chip("Lf/Rt" if self.ink.ascii else "← →", "Amount"))
        if len(self.questions or ()) > 1:
            chips.append(Chip("Tab", "Next"))
        return (*chips, Chip("i", "Details"), Chip("Esc", "Later"))

    # --- keys ---------------------------------------------------------------------------------

    def action_choose(self, step: int) -> None:
        """Up and down the answers."""
        if self.choices and not self.busy:
            self.choice = (self.choice + step) % len(self.choices)
            self._show()

    def action_amount(self, step: int) -> None:
        """More or less, never below what the call needs."""
        question, chosen = self.question, self.chosen
        if question is None or chosen is None or self.busy or chosen.id != "extend":
            return
        least = need(question)
        self.more = Need(
            beside(self.more.usd, step, least.usd) if least.usd else 0.0,
            int(beside(self.more.tokens, step, least.tokens)) if least.tokens else 0,
        )
        self._show()

    def action_next(self, step: int) -> None:
        """Another question."""
        questions = self.questions or []
        if len(questions) > 1 and not self.busy:
            place = next((n for n, one in enumerate(questions) if one.approval == self.at), 0)
            self._go_to(questions[(place + step) % len(questions)])
            self._wanted.set()
            self._show()

    def action_page(self, step: int) -> None:
        """Scroll the question."""
        self.query_one("#paper", Paper).action_scroll_page(step)

    def action_details(self) -> None:
        """Everything about the agent."""
        if self.question is not None:
            shell, agent = self.shell, self.question.agent
            self.dismiss(None)
            shell.open_details(agent)

    def action_pick(self, key: str) -> None:
        """An answer by its letter."""
        for number, choice in enumerate(self.choices):
            if choice.key == key and not self.busy:
                self.choice = number
                self._show()
                self.action_act()
                return

    def action_act(self) -> None:
        """Do what is selected, once, to the question that is shown."""
        question, chosen = self.question, self.chosen
        if question is None or chosen is None or self.busy:
            return
        if self.shell.clock.monotonic() < self._deaf_until:
            return
        if chosen.id == "kill":
            shell, agent = self.shell, question.agent
            self.dismiss(None)
            shell.open_kill([agent])
            return
        self.busy = True
        self.fit()
        # The work belongs to the app: closing the dialog does not call an answer back.
        self.app.run_worker(self._answer(question, chosen.id, self.more), group="verbs")

    async def _answer(self, question: ApprovalInfo, choice: str, more: Need) -> None:
        shell = self.shell
        try:
            if choice == "freeze":
                outcomes = await self.client.pause(PauseRequest(refs=[question.agent], how=Pause.FREEZE))
            else:
                asked = AnswerRequest(refs=[question.approval], answer=choice)
                if choice == "extend":
                    asked = asked.model_copy(update={"usd": more.usd, "tokens": more.tokens})
                outcomes = await self.client.answer(asked)
        except AgentTopError as error:
            shell.toast(*sentences(error), "error")
            self.busy = False
            if self.is_attached:
                self.fit()
            return
        self.busy = False
        shell.verbs.report("answered", outcomes)
        others = [one for one in self.questions or () if one.approval != question.approval]
        if choice == "freeze" or not others:
            self._leave()
        elif self.is_attached:
            self._wanted.set()

    def _leave(self) -> None:
        if self.is_attached and self.is_current:
            self.dismiss("answered")
