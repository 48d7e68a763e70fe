"""Budgets as the screen shows them: what is left, how long it lasts, who covers whom, what is asked for.

It knows nothing of widgets: ``BudgetInfo`` goes in, numbers, words and an order come out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .format import UNKNOWN, age, clean, money, tokens

if TYPE_CHECKING:
    from agenttop.core.api import ApprovalInfo, BudgetInfo

#: How the pane can be ordered; ``tree`` has who covers whom.
ORDERS = ("tree", "stops", "used", "spent")

#: How windows are said.
WINDOWS = {"task": "this task", "hour": "this hour", "day": "today", "total": "in total"}


class Amounts(NamedTuple):
    """One limit of a budget with what went into it, in USD or in tokens."""

    usd: bool
    spent: float
    reserved: float
    limit: float
    burn: float | None
    """USD an hour, or tokens a minute."""

    @property
    def left(self) -> float:
        """After reservations; below 0 where it was overrun (an unpriced or a smaller limit)."""
        return self.limit - self.spent - self.reserved

    @property
    def used(self) -> int:
        """Per cent that is spent."""
        return round(100 * self.spent / self.limit) if self.limit else 100

    def say(self, value: float, cells: int = 8) -> str:
        """A value of this kind: ``12.30``, or ``41k`` tokens; of a limit of cents, cents have parts."""
        if self.usd:
            return f"{value:.4f}" if 0 < self.limit < 0.1 and cells >= 7 else money(value, cells)
        return f"-{tokens(-value)}" if value < 0 else tokens(value)

    def pace(self) -> str:
        """``15.55`` (USD an hour) or ``27k/m`` (tokens a minute); ``-`` where nothing is spent."""
        if not self.burn:
            return UNKNOWN
        return money(self.burn, 6) if self.usd else f"{tokens(self.burn)}/m"


def amounts(info: BudgetInfo) -> Amounts:
    """The tighter of a budget's limits."""
    found = []
    if info.limit_usd is not None:
        found.append(
            Amounts(True, info.spent_usd, info.reserved_usd, info.limit_usd, info.burn_usd_hour)
        )  # fmt: skip
    if info.limit_tokens is not None:
        found.append(
            Amounts(
                False, info.spent_tokens, info.reserved_tokens, info.limit_tokens, info.burn_tokens_minute
            )
        )  # fmt: skip
    if not found:  # an answer without a limit: nothing can be left of it
        return Amounts(True, info.spent_usd, info.reserved_usd, 0.0, info.burn_usd_hour)
    return max(found, key=lambda one: (one.spent + one.reserved) / one.limit if one.limit else math.inf)


def stopped(info: BudgetInfo) -> bool:
    """Whether it stops somebody now: it holds a call, or nothing is left."""
    return info.held > 0 or amounts(info).left <= 0


def lasts(info: BudgetInfo) -> str:
    """How long it lasts at this pace: ``48m``, ``now``, or ``-`` where it is not used up in its window."""
    if stopped(info):
        return "now"
    return UNKNOWN if info.seconds_left is None else age(info.seconds_left)


def covers(info: BudgetInfo) -> str:
    """``fleet``, ``agent api``, ``label team=db``."""
    scope = info.budget.scope
    if scope == "fleet":
        return "fleet"
    return clean(f"{scope} {info.target_name or info.budget.target}")


def window(info: BudgetInfo) -> str:
    """``day``; with ``24h`` or ``60m`` where it is rolling."""
    if info.budget.rolling:
        return "60m" if info.budget.window == "hour" else "24h"
    return info.budget.window


# --- who covers whom ---------------------------------------------------------------------------


class Line(NamedTuple):
    """One line of the pane: the budget, and the marks of the tree before its name."""

    info: BudgetInfo
    tree: str = ""
    """One mark a level: ``│`` goes on, ``├`` branches, ``└`` ends, blank is over."""


def lines(infos: Sequence[BudgetInfo], order: str = "tree") -> list[Line]:
    """The budgets in an order: below what covers them, or flat by what is asked for."""
    if order == "stops":
        return [Line(info) for info in [*next_stopped(infos), *_never(infos)]]
    if order == "used":
        return [Line(info) for info in sorted(infos, key=lambda one: (-amounts(one).used, one.budget.name))]
    if order == "spent":
        return [Line(info) for info in sorted(infos, key=_by_spent)]
    return _tree(infos)


def _by_spent(info: BudgetInfo) -> tuple[float, float, str]:
    return (-info.spent_usd, -info.spent_tokens, info.budget.name)


def next_stopped(infos: Iterable[BudgetInfo]) -> list[BudgetInfo]:
    """Those that will stop somebody at this pace, the next one first."""
    soon = [info for info in infos if stopped(info) or info.seconds_left is not None]
    return sorted(
        soon, key=lambda one: (0.0 if stopped(one) else one.seconds_left or 0.0, one.budget.name)
    )  # fmt: skip


def _never(infos: Iterable[BudgetInfo]) -> list[BudgetInfo]:
    rest = [info for info in infos if not stopped(info) and info.seconds_left is None]
    return sorted(rest, key=lambda one: (-amounts(one).used, one.budget.name))


def _tree(infos: Sequence[BudgetInfo]) -> list[Line]:
    """Depth first. A budget whose parent is not there, or that would cover itself, stands on its own."""
    by_name = {info.budget.name: info for info in infos}
    below: dict[str, list[BudgetInfo]] = {}
    tops: list[BudgetInfo] = []
    for info in sorted(infos, key=_by_spent):
        if info.parent in by_name and not _circular(info, by_name):
            below.setdefault(str(info.parent), []).append(info)
        else:
            tops.append(info)
    found: list[Line] = []
    # A stack, not recursion: how deep budgets cover each other is not for us to say.
    waiting = [(info, "") for info in reversed(tops)]
    while waiting:
        info, tree = waiting.pop()
        found.append(Line(info, tree))
        children = below.get(info.budget.name, [])
        above = tree.replace("├", "│").replace("└", " ")
        waiting += [
            (child, above + ("└" if number == len(children) - 1 else "├"))
            for number, child in reversed(list(enumerate(children)))
        ]
    return found


def _circular(info: BudgetInfo, by_name: Mapping[str, BudgetInfo]) -> bool:
    seen: set[str] = set()
    at: BudgetInfo | None = info
    while at is not None and at.parent is not None:
        if at.budget.name in seen:
            return True
        seen.add(at.budget.name)
        at = by_name.get(at.parent)
    return False


def covering(infos: Iterable[BudgetInfo], agent: str) -> list[BudgetInfo]:
    """The budgets that cover an agent (its id), the tightest first."""
    found = [info for info in infos if agent in info.agents or info.budget.target == agent]
    return sorted(found, key=lambda one: (-amounts(one).used, one.budget.name))


# --- how much more -----------------------------------------------------------------------------


def rounded_up(value: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below ``value``; 0 for nothing."""
    if value <= 0:
        return 0.0
    power = math.floor(math.log10(value))
    for factor, exponent in ((1, power), (2, power), (5, power), (1, power + 1), (2, power + 1)):
        found = _times(factor, exponent)
        if found >= value * (1 - 1e-9):
            return found
    return _times(5, power + 1)


def beside(value: float, step: int, least: float) -> float:
    """The next amount of 1, 2, 5, 10, … above or below ``value``, and not below ``least``."""
    if step > 0:
        return rounded_up(value * 1.5) if value > 0 else least
    lower = _times(1, -6)
    for factor in (5, 2, 1):
        for exponent in (math.floor(math.log10(value)), math.floor(math.log10(value)) - 1):
            found = _times(factor, exponent)
            if found < value * (1 - 1e-9):
                lower = max(lower, found)
    return max(least, lower)


def _times(factor: int, exponent: int) -> float:
    # 2 * 10**-2 is not 0.02 in binary; 2 / 10**2 is the nearest there is to it.
    return float(factor * 10**exponent) if exponent >= 0 else factor / 10**-exponent


class Need(NamedTuple):
    """What a held call lacks, and by how much to extend its budget so that it goes through."""

    usd: float
    tokens: int


def need(question: ApprovalInfo) -> Need:
    """The suggestion: what is needed beyond what is left, rounded up to 1, 2 or 5 (a cent, a thousand)."""
    usd = max(0.0, (question.needed_usd or 0.0) - max(0.0, question.left_usd or 0.0))
    lack = max(0, (question.needed_tokens or 0) - max(0, question.left_tokens or 0))
    return Need(max(0.01, rounded_up(usd)) if usd else 0.0, max(1000, int(rounded_up(lack))) if lack else 0)
