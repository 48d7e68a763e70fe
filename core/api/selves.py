"""What agents ask about themselves and each other."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .bus import NoRequest
from .model import Model
from .verbs import Request, Verb


class PeerInfo(Model):
    """Another agent, as far as agents are told."""

    id: str
    name: str
    state: str
    reason: str | None = None
    template: str | None = None
    team: str | None = None
    parent: str | None = None
    task: str = ""
    """The beginning of what it was asked to do; hostile."""
    progress: str = ""
    reads_mail: bool = True
    """Whether mail can be sent to it now."""
    unread: int = 0


class PeersRequest(Request):
    """Who is there."""

    all: bool = False
    """Ended ones too."""


class BudgetLeft(Model):
    """One budget that covers the asking agent."""

    name: str
    window: str
    usd_left: float | None = None
    usd_limit: float | None = None
    tokens_left: int | None = None
    tokens_limit: int | None = None
    breach: str = "ask"
    """What happens at the limit."""


class SelfInfo(Model):
    """The asking agent."""

    id: str
    name: str
    team: str | None = None
    parent: str | None = None
    children: list[str] = Field(default_factory=list)
    owner: str = ""
    run: int | None = None
    started_at: float | None = None
    unread: int = 0
    subscriptions: list[str] = Field(default_factory=list)
    namespaces: list[str] = Field(default_factory=list)
    cost_usd: float | None = None
    budgets: list[BudgetLeft] = Field(default_factory=list)


class ProgressRequest(Request):
    """How far an agent is, for whoever looks at the fleet."""

    text: Annotated[str, Field(max_length=200)] = ""
    percent: Annotated[float, Field(ge=0, le=100)] | None = None


AGENTS: Verb[PeersRequest, list[PeerInfo]] = Verb(
    "agents", PeersRequest, list[PeerInfo], "Who is there.", agents=True
)
WHOAMI: Verb[NoRequest, SelfInfo] = Verb("whoami", NoRequest, SelfInfo, "Who asks.", agents=True)
BUDGET: Verb[NoRequest, list[BudgetLeft]] = Verb(
    "budget", NoRequest, list[BudgetLeft], "What the asking agent may still spend.", agents=True
)
PROGRESS: Verb[ProgressRequest, None] = Verb(
    "progress", ProgressRequest, None, "Tell how far one is.", agents=True
)

VERBS: tuple[Verb[Any, Any], ...] = (AGENTS, WHOAMI, BUDGET, PROGRESS)
