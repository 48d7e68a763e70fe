"""Budgets, approvals, the kill switch, providers."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from ...budget.budget import Budget
from .event import AgentEvent, Event


class Spent(NamedTuple):
    """What was used in one slot of time. ``slot`` is the wall-clock second it began."""

    slot: float
    usd: float
    tokens: int


class BudgetSet(Event):
    """A budget was made or replaced. ``opening`` is what its window had used before."""

    budget: Budget
    opening: list[Spent] = Field(default_factory=list)
    source: Literal["person", "config", "fleet", "spec"] = "person"
    by: str = ""


class BudgetRemoved(Event):
    """A budget acts no more."""

    name: str
    by: str = ""


class BudgetExtended(Event):
    """A person added to a budget's limit, until the end of its present window."""

    name: str
    usd: float = 0.0
    tokens: int = 0
    until: float | None = None
    """When a calendar window ends; ``None``: for good (``task``: until the next task)."""
    by: str = ""


class BudgetWarned(Event):
    """A budget passed its soft threshold, once per window."""

    name: str
    used: float
    """Fraction of the limit."""
    window: float
    """When the window began."""


class BudgetBreached(Event):
    """A call did not fit into a budget, and its hard limit acted."""

    name: str
    call: str
    action: Literal["ask", "deny", "freeze", "kill"]
    needed_usd: float | None = None
    left_usd: float | None = None
    needed_tokens: int | None = None
    left_tokens: int | None = None


class ApprovalRequested(AgentEvent):
    """A person has to decide about a held call."""

    approval: str
    call: str
    about: Literal["budget", "runaway"]
    budget: str | None = None
    session: str | None = None
    """The client's own id of the conversation that waits."""
    question: str = ""
    needed_usd: float | None = None
    left_usd: float | None = None
    needed_tokens: int | None = None
    left_tokens: int | None = None


class ApprovalAnswered(AgentEvent):
    """Somebody decided. ``once`` lets exactly one call through, ``extend`` raises the budget."""

    approval: str
    answer: Literal["once", "extend", "allow", "deny", "kill", "withdrawn"]
    usd: float = 0.0
    tokens: int = 0
    by: str = ""


class FleetHalted(Event):
    """The kill switch: every call is held, every managed agent frozen."""

    by: str = ""


class FleetUnhalted(Event):
    """The kill switch was undone."""

    by: str = ""


class BreakerMoved(Event):
    """A provider's breaker changed: ``open`` keeps all calls back, ``half-open`` tries one."""

    provider: str
    state: Literal["closed", "open", "half-open"]
    why: str = ""
