"""A budget's limit raised or lowered by an amount, and a budget taken away; each asks once."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from agenttop.core.api import BudgetRequest, ExtendRequest
from agenttop.core.budget.budget import Budget
from agenttop.core.errors import AgentTopError, UsageError

from ..budgets import Amounts, amounts, beside, covers, lasts, rounded_up
from ..format import age, clean, tokens
from ..verbs import sentences
from ..widgets.dialog import Chip, Dialog
from ..widgets.fields import Choose, Field, Option, Text
from ..widgets.form_dialog import FormDialog
from ..widgets.paper import Paper, Row, counted, wrapped
from .budget_form import _tokens, _usd

if TYPE_CHECKING:
    from agenttop.core.api import BudgetInfo

ONCE, GOOD = "this window", "for good"


class AmountScreen(FormDialog[str]):
    """Extend (``sign`` 1) or cut (-1). Closes with the budget's name when it was done."""

    WIDTH = 76
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act", show=False, priority=True),
        Binding("up", "step(1)", show=False, priority=True),
        Binding("down", "step(-1)", show=False, priority=True),
    ]

    def __init__(self, info: BudgetInfo, sign: int) -> None:
        super().__init__()
        self.info = info
        self.sign = sign
        self.of: Amounts = amounts(info)
        least = 0.01 if self.of.usd else 1000
        # A fifth of the limit to go on with; a tenth less, and cut to what is spent at most.
        first = rounded_up(self.of.limit / (5 if sign > 0 else 10))
        if sign < 0 and first >= self.of.left > 0:
            first = beside(self.of.left, -1, least)
        amount = Text(
            "amount", "Extend by" if sign > 0 else "Cut by", self._text(max(least, first)), cells=14
        )
        amount.note = "USD" if self.of.usd else "tokens"
        self.amount = amount
        self.how = Choose("how", "For", [Option(ONCE), Option(GOOD)], ONCE if sign > 0 else GOOD)
        self.how.off = sign < 0

    def _text(self, value: float) -> str:
        return f"{value:.2f}" if self.of.usd else tokens(value)

    def on_mount(self) -> None:
        """Show it."""
        verb = "Extend" if self.sign > 0 else "Cut"
        self.head(f"{verb} budget {clean(self.info.budget.name)}", covers(self.info))
        self._lay_out()
        self.form.focus()

    @property
    def value(self) -> float:
        """What was typed.

        Raises:
            UsageError: It is no amount.
        """
        found = _usd(self.amount.value) if self.of.usd else _tokens(self.amount.value)
        if found is None:
            raise UsageError("No amount was given", "", "12.50" if self.of.usd else "500k")
        return float(found)

    # --- what is shown ------------------------------------------------------------------------

    def _lay_out(self) -> None:
        fields: list[Field | None] = [self.amount, self.how]
        self.form.set(fields, [[], *self._meaning()])
        self.fit()

    def _meaning(self) -> list[Row]:
        of = self.of
        if self.error:
            return wrapped(self.error, self.inner_width - 2, "bad bold", 1)
        try:
            change = self.sign * self.value
        except UsageError:
            return [[(" type an amount", "muted")]]
        limit, left = of.limit + change, of.left + change
        rows: list[Row] = [
            [(" limit   ", "label"), (f"{of.say(of.limit)} → ", "muted"), (of.say(limit), "bright bold")],
            [(" left    ", "label"), (f"{of.say(of.left)} → ", "muted"),
             (of.say(left), "bright bold" if left > 0 else "bad bold")],
        ]  # fmt: skip
        if limit <= 0:
            rows.append([(" Nothing would be left of it: remove it instead (x).", "bad")])
        elif left <= 0:
            rows.append([(f" It is spent already: {self._stops()} at once.", "bad")])
        elif of.burn:
            seconds = left / of.burn * (3600 if of.usd else 60)
            before = lasts(self.info)
            rows.append(
                [(f" lasts   {before if before != 'now' else '0s'} → ", "muted"), (age(seconds), "fg")]
            )
        if self.info.held and self.sign > 0:
            rows.append([(f" {counted(self.info.held, 'held call')} that fits then goes on", "good")])
        return rows

    def _stops(self) -> str:
        said = {"ask": "calls are held", "deny": "calls are refused", "freeze": "agents are frozen"}
        return f"its {said.get(self.info.budget.action, 'agents are killed')}"

    def chips(self) -> Sequence[Chip]:
        """Do it, or not."""
        verb = "Extend" if self.sign > 0 else "Cut"
        move = "Up/Dn" if self.ink.ascii else "↑↓"
        colour = "good bold" if self.sign > 0 else "bad bold"
        return (
            Chip("Enter", f"{verb} by {clean(self.amount.value)}", colour),
            Chip(move, "Amount"), Chip("Tab", "For how long", off=self.sign < 0), Chip("Esc", "Cancel"),
        )  # fmt: skip

    # --- keys ---------------------------------------------------------------------------------

    def action_step(self, step: int) -> None:
        """The next amount of 1, 2, 5, 10, …"""
        least = 0.01 if self.of.usd else 1000
        try:
            value = beside(self.value, step, least)
        except UsageError:
            value = least
        self.amount.value = self._text(value)
        self.amount.at = len(self.amount.value)
        self._changed()

    def action_act(self) -> None:
        """Do it."""
        if self.busy:
            return
        try:
            value = self.value
            if self.sign < 0 and value >= self._base():
                raise UsageError("Nothing would be left of it", "", "Remove the budget instead")
        except UsageError as error:
            self._refused(error)
            return
        self.busy = True
        self.run_worker(self._act(value))

    def _base(self) -> float:
        """The limit as declared, without extensions: what a lasting change begins from."""
        declared = self.info.budget.usd if self.of.usd else self.info.budget.tokens
        return float(declared or 0)

    async def _act(self, value: float) -> None:
        name = self.info.budget.name
        try:
            if self.sign > 0 and self.how.value == ONCE:
                asked = (
                    ExtendRequest(name=name, usd=value) if self.of.usd
                    else ExtendRequest(name=name, tokens=int(value))
                )  # fmt: skip
                info = await self.client.extend_budget(asked)
            else:
                info = await self.client.set_budget(BudgetRequest(budget=self._changed_budget(value)))
        except AgentTopError as error:
            self._refused(error)
            return
        of = amounts(info)
        done = "extended" if self.sign > 0 else "cut"
        self.shell.toast(
            f"Budget {clean(name)} {done}", f"{of.say(of.left)} left of {of.say(of.limit)}", "good"
        )
        self.dismiss(name)

    def _changed_budget(self, value: float) -> Budget:
        old = self.info.budget
        change = self.sign * value
        if self.of.usd:
            fresh: dict[str, object] = {"usd": (old.usd or Decimal(0)) + Decimal(f"{change:.6f}")}
        else:
            fresh = {"tokens": (old.tokens or 0) + int(change)}
        return Budget.model_validate(old.model_dump() | fresh)

    def _refused(self, error: AgentTopError) -> None:
        self.busy, self.error = False, str(error)
        self._lay_out()


class RemoveBudgetScreen(Dialog[str]):
    """Asks once, then takes the budget away. Closes with its name when it was done."""

    WIDTH = 72
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "act", show=False)]

    def __init__(self, info: BudgetInfo) -> None:
        super().__init__()
        self.info = info
        self.busy = False

    def on_mount(self) -> None:
        """What it means."""
        of = amounts(self.info)
        number = len(self.info.agents)
        kind = "" if of.usd else " tokens"
        rows: list[Row] = [
            [("covers   ", "label"), (f"{covers(self.info)}, {counted(number, 'live agent')}", "fg")],
            [("spent    ", "label"), (f"{of.say(of.spent)} of {of.say(of.limit)}{kind}", "fg")],
        ]
        if self.info.parent:
            rows.append([("limited  ", "label"), (f"still by {clean(self.info.parent)}", "fg")])
        else:
            rows.append([("limited  ", "label"), ("by no other budget that covers all of it", "warn")])
        if self.info.held:
            rows.append(
                [("held     ", "label"), (f"{counted(self.info.held, 'call')} of it: these go on", "warn")]
            )
        rows.append([("kept     ", "label"), ("what was metered", "fg")])
        self.head(f"Remove budget {clean(self.info.budget.name)}", "nothing has been done yet", "bad")
        self.query_one("#paper", Paper).show(rows)
        self.fit()

    def chips(self) -> Sequence[Chip]:
        """Do it, or not."""
        return (Chip("Enter", "Remove it", "bad bold"), Chip("Esc", "Cancel"))

    def action_act(self) -> None:
        """Do it."""
        if not self.busy:
            self.busy = True
            self.run_worker(self._act())

    async def _act(self) -> None:
        name = self.info.budget.name
        try:
            await self.client.remove_budget(name)
        except AgentTopError as error:
            self.shell.toast(*sentences(error), "error")
            self.dismiss(None)
            return
        self.shell.toast(f"Budget {clean(name)} removed", "", "good")
        self.dismiss(name)
