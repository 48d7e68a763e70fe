"""Open questions to people about held calls: finding them, and naming new ones."""

from __future__ import annotations

import secrets
from collections.abc import Container
from typing import Literal

from ..agents.agent import Agent, Fleet


def open_question(
    fleet: Fleet, agent: Agent, about: Literal["budget", "runaway"], budget: str | None = None
) -> str | None:
    """The question that is open about this agent and budget, if there is one: it is not asked twice."""
    for approval in agent.approvals:
        found = fleet.approvals.get(approval)
        if found is not None and found.about == about and found.budget == budget:
            return approval
    return None


def new_approval(taken: Container[str]) -> str:
    """An id that no agent can have: those are hexadecimal."""
    while (approval := f"q{secrets.token_hex(2)}") in taken:
        pass
    return approval
