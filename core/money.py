"""The verbs about money: budgets, approvals, calls and usage."""

from __future__ import annotations

from .api import (
    AnswerRequest,
    ApprovalInfo,
    BudgetInfo,
    CallInfo,
    CallsRequest,
    ExtendRequest,
    Outcome,
    UsageRequest,
    UsageRow,
)
from .budget.budget import Budget
from .errors import AgentTopError


class Money:
    """Budgets as people handle them."""

    def budgets(self) -> list[BudgetInfo]:
        """Every budget as it stands now."""
        return []

    async def set(self, budget: Budget, by: str) -> BudgetInfo:
        """Make or replace a budget."""
        raise AgentTopError("budgets are not kept yet")

    async def extend(self, request: ExtendRequest, by: str) -> BudgetInfo:
        """Add to a budget's limit."""
        raise AgentTopError("budgets are not kept yet")

    async def remove(self, name: str, by: str) -> None:
        """Take a budget away."""
        raise AgentTopError("budgets are not kept yet")

    def approvals(self) -> list[ApprovalInfo]:
        """What waits for a person."""
        return []

    async def answer(self, request: AnswerRequest, by: str) -> list[Outcome]:
        """Decide about held calls."""
        return []

    async def calls(self, request: CallsRequest) -> list[CallInfo]:
        """Model calls one by one."""
        return []

    async def usage(self, request: UsageRequest) -> list[UsageRow]:
        """Sums over settled calls."""
        return []
