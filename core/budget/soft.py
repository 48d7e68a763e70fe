"""The soft threshold: a word of warning before the limit, once per window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..journal.events import BudgetWarned

if TYPE_CHECKING:
    from ..agents.agent import Fleet


def passed(fleet: Fleet, agent: str, now: float) -> Iterator[BudgetWarned]:
    """Warnings due for the budgets that cover an agent which has just spent something."""
    for name in fleet.cover.of(fleet, agent):
        state = fleet.budgets[name]
        account = state.look(agent)
        if account is None or account.warned is not None:
            continue
        used = state.used(account, now)
        if used >= state.budget.soft:
            key = agent if state.per_agent else None
            yield BudgetWarned(agent=key, name=name, used=round(used, 6), window=account.start or 0.0)
