"""Model calls, what they cost, and what limits them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..agents.spec import Text
from ..budget.budget import Budget
from .model import Model
from .target import Target


class BudgetRequest(Model):
    """Make or replace a budget. For scope ``agent`` the target may be a name, an id or a prefix."""

    budget: Budget


class ExtendRequest(Model):
    """Raise a budget's limit until its present window ends."""

    name: str
    usd: float = Field(default=0.0, ge=0, le=1e9)
    tokens: int = Field(default=0, ge=0, le=10**15)


class AnswerRequest(Target):
    """Decide about held calls, by agent (``refs``) or by approval ids among the refs.

    ``once`` lets exactly one call of each through, ``extend`` adds to the budget that stopped it,
    ``allow`` clears a runaway, ``deny`` refuses the held calls, ``kill`` ends the agents.
    """

    answer: Literal["once", "extend", "allow", "deny", "kill"] = "once"
    usd: float = Field(default=0.0, ge=0, le=1e9)
    tokens: int = Field(default=0, ge=0, le=10**15)


class CallsRequest(Model):
    """Which calls to list: of some agents or all, newest last."""

    refs: list[Text] = Field(default_factory=list, max_length=20_000)
    limit: int = Field(default=100, ge=1, le=100_000)
    since: float | None = None
    held: bool = False
    """Only those the gateway keeps now."""


UsageKey = Literal["agent", "run", "task", "model", "provider", "label", "second", "minute", "hour", "day"]


class UsageRequest(Model):
    """Sums over settled calls, by any keys. ``label`` names the label whose values are told apart."""

    by: list[UsageKey] = Field(default=["agent"], max_length=6)
    label: str = ""
    refs: list[Text] = Field(default_factory=list, max_length=20_000)
    since: float | None = None
    until: float | None = None


class CallInfo(Model):
    """One model call, for the details pane and later ``agenttop calls``."""

    call: str
    started: float
    provider: str
    model: str | None = None
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    seconds: float | None = None
    first_token_seconds: float | None = None
    queued_seconds: float = 0.0
    cost_usd: float | None = None
    exact: bool = True
    state: Literal["held", "running", "settled"] = "settled"
    outcome: str = ""
    status: int | None = None
    ended_in: str = ""
    error: str = ""
    agent: str = ""
    name: str = ""
    """Name of the agent."""
    run: int | None = None
    reason: str = ""
    """Why it is held."""
    detail: str = ""
    reserved_usd: float | None = None
    attempts: int = 1
    request_id: str | None = None


class BudgetInfo(Model):
    """One budget as it stands in its present window."""

    budget: Budget
    target_name: str = ""
    """Name of the agent, for scope ``agent``."""
    source: str = "person"
    limit_usd: float | None = None
    """With extensions."""
    limit_tokens: int | None = None
    spent_usd: float = 0.0
    spent_tokens: int = 0
    reserved_usd: float = 0.0
    reserved_tokens: int = 0
    used: float = 0.0
    """Fraction of the limit that is spent (the tighter one of usd and tokens)."""
    exact: bool = True
    unpriced: int = 0
    """Calls in it without a known price; they count tokens only."""
    window_start: float | None = None
    window_end: float | None = None
    burn_usd_hour: float | None = None
    """At the pace of the last ten minutes."""
    burn_tokens_minute: float | None = None
    seconds_left: float | None = None
    """Until it is used up at this pace; ``None``: it is not, in this window."""
    agents: list[str] = Field(default_factory=list)
    """Ids of the live agents it covers."""
    next_agent: str | None = None
    """Id of the agent that will be stopped first: the one spending most of it now."""
    held: int = 0
    """Calls it holds."""
    warned: bool = False
    parent: str | None = None
    """Name of the tightest budget that covers everything this one does."""


class ApprovalInfo(Model):
    """One open question to a person."""

    approval: str
    agent: str
    name: str
    about: Literal["budget", "runaway"]
    question: str
    since: float
    call: str
    held: bool = True
    """Whether the call still waits; else its client gave up, and the answer resumes the agent."""
    budget: str | None = None
    needed_usd: float | None = None
    left_usd: float | None = None
    needed_tokens: int | None = None
    left_tokens: int | None = None
    model: str | None = None
    provider: str | None = None


class LimitInfo(Model):
    """One limit of a provider's lane: ``requests``/``tokens`` a minute, or ``concurrency``."""

    what: Literal["requests", "tokens", "input_tokens", "output_tokens", "concurrency"]
    limit: float
    left: float | None = None
    resets_at: float | None = None
    source: Literal["config", "learned"] = "config"


class ProviderInfo(Model):
    """One provider as the gateway sees it now."""

    name: str
    protocol: str
    base_url: str
    auth: str
    key: Literal["present", "missing", "clients"] = "present"
    breaker: Literal["closed", "open", "half-open"] = "closed"
    breaker_why: str = ""
    retry_at: float | None = None
    """When the lane opens again after a 429, a quota, or a broken provider."""
    running: int = 0
    waiting: int = 0
    limits: list[LimitInfo] = Field(default_factory=list)
    models: dict[str, list[LimitInfo]] = Field(default_factory=dict)
    """Limits of single models."""
    fallback: str | None = None
    calls_minute: int = 0
    errors_minute: int = 0


class UsageRow(Model):
    """Sums of settled calls under one combination of keys, in the order they were asked for."""

    keys: list[str]
    calls: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cost_usd: float | None = None
    exact: bool = True
    unpriced: int = 0
