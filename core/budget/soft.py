"""The soft threshold: a word of warning before the limit, once per window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..journal.events import BudgetWarned

if TYPE_CHECKING:
    from ..agents.agent import Fleet


def passed(fleet: Fleet, agent: str, now: float) -> Iterator[BudgetWarned]:
    """Warnings due for the budgets that cover an agent which has just spent something."""
    for state, key in fleet.cover.places(fleet, agent):
        account = state.accounts.get(key)
        if account is None or account.warned is not None:
            continue
        used = state.used(account, now)
        if used >= state.budget.soft:
            yield BudgetWarned(
                agent=key or None,
                name=state.budget.name,
                used=round(used, 6),
                window=account.start or 0.0,
            )
