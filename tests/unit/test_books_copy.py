"""The two folds of the books share nothing that an event may change."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

from agenttop.core.agents.agent import Agent, Call, Fleet, Freeze, Run
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.budget.budget import Budget
from agenttop.core.budget.state import (
    Account,
    Approval,
    BudgetState,
    Extension,
    Kin,
    Pass,
    Reservation,
    Slot,
)
from agenttop.core.journal import books


def changeable(value: Any) -> list[Any]:
    """Everything below ``value`` that can be changed in place, but the handles of backends."""
    if is_dataclass(value) and not isinstance(value, type):
        below = [getattr(value, f.name) for f in fields(value) if f.name != "ref"]
        return [value, *(found for part in below for found in changeable(part))]
    if isinstance(value, dict):
        return [value, *(found for part in value.values() for found in changeable(part))]
    if isinstance(value, list):
        return [value, *(found for part in value for found in changeable(part))]
    return []


def test_a_copy_is_equal_and_shares_nothing_that_changes() -> None:
    agent = Agent("a1", AgentSpec(name="one", command=["true"]), "ana", 1.0)
    agent.run, agent.past, agent.freeze = Run(2, 2.0, {"pid": 1}), [Run(1, 1.0)], Freeze(3.0, 4, 4, "signal")
    agent.calls = {"c": Call("c", 2, "anthropic", None, 3.0)}
    agent.approvals, agent.passes = ["q1"], [Pass("q0", "budget", "day")]
    fleet = Fleet(7, {"a1": agent}, {"one": "a1"}, "boot", 1)
    account = Account(slots=[Slot(0.0, 1, 1)], extensions=[Extension(1, 1)])
    budget = Budget(name="day", usd=Decimal(5), window="day", rolling=True)
    fleet.budgets = {"day": BudgetState(budget, "person", 1.0, accounts={"": account})}
    fleet.reservations = {"c": Reservation("a1", 5, 7, [("day", "")])}
    fleet.approvals = {"q1": Approval("q1", "a1", "c", "budget", 3.0, "day")}
    fleet.passes, fleet.kin = {"q0": "a1"}, {"a1": Kin(children=1)}
    copy = books._copy(fleet)
    assert copy == fleet
    ours = {id(part) for part in changeable(fleet)}
    assert len(ours) == 29
    assert not ours & {id(part) for part in changeable(copy)}
