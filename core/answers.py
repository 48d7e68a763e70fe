"""The lists that answers are made of, for both ends of the control socket."""

from __future__ import annotations

from pydantic import TypeAdapter

from .api import (
    AgentInfo,
    ApprovalInfo,
    BudgetInfo,
    CallInfo,
    CheckInfo,
    Outcome,
    ProviderInfo,
    TemplateInfo,
    UsageRow,
)

OUTCOMES: TypeAdapter[list[Outcome]] = TypeAdapter(list[Outcome])
AGENTS: TypeAdapter[list[AgentInfo]] = TypeAdapter(list[AgentInfo])
CHECKS: TypeAdapter[list[CheckInfo]] = TypeAdapter(list[CheckInfo])
BUDGETS: TypeAdapter[list[BudgetInfo]] = TypeAdapter(list[BudgetInfo])
APPROVALS: TypeAdapter[list[ApprovalInfo]] = TypeAdapter(list[ApprovalInfo])
CALLS: TypeAdapter[list[CallInfo]] = TypeAdapter(list[CallInfo])
USAGE: TypeAdapter[list[UsageRow]] = TypeAdapter(list[UsageRow])
PROVIDERS: TypeAdapter[list[ProviderInfo]] = TypeAdapter(list[ProviderInfo])
TEMPLATES: TypeAdapter[list[TemplateInfo]] = TypeAdapter(list[TemplateInfo])
