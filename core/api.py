"""The data that crosses the one small door between people's side and the kernel.

pydantic where a request or an answer is checked; the live table, NamedTuples without it, comes from
``core.table``. Times are wall-clock seconds, sizes bytes, money USD. ``None`` means: not known.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .agents.spec import AgentSpec, Text
from .agents.states import Pause
from .budget.budget import Budget
from .table import (
    WINDOWS,
    Delta,
    EventInfo,
    Header,
    ProviderGauge,
    Row,
    Snapshot,
    Window,
    header_from_json,
    row_from_json,
)

__all__ = [
    "WINDOWS",
    "AgentDetail",
    "AgentInfo",
    "AnswerRequest",
    "ApprovalInfo",
    "BudgetInfo",
    "BudgetRequest",
    "CallInfo",
    "CallsRequest",
    "CheckInfo",
    "Delta",
    "EventInfo",
    "ExtendRequest",
    "FleetRequest",
    "HaltInfo",
    "Header",
    "KernelStatus",
    "KillPlan",
    "LimitInfo",
    "NiceRequest",
    "Outcome",
    "PauseRequest",
    "ProcessInfo",
    "ProviderGauge",
    "ProviderInfo",
    "RemoveRequest",
    "Row",
    "RunRequest",
    "SignalRequest",
    "Snapshot",
    "StopRequest",
    "Target",
    "TemplateInfo",
    "Tokens",
    "UsageKey",
    "UsageRequest",
    "UsageRow",
    "Window",
    "header_from_json",
    "row_from_json",
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


# --- requests ----------------------------------------------------------------------------------


class RunRequest(_Model):
    """Start one agent. ``spec.name`` may be a proposal: see ``name_given``."""

    spec: AgentSpec
    name_given: bool = True
    """False: the name was made up; a taken name gets a number instead of an error."""
    environ: dict[str, str] = Field(default_factory=dict)
    """The caller's environment; the kernel drops provider keys and keeps the rest in a 0600 file."""


class FleetRequest(_Model):
    """Bring a declared fleet up. ``fleet`` names it (the file's absolute path)."""

    fleet: str
    specs: list[AgentSpec]
    environ: dict[str, str] = Field(default_factory=dict)
    prune: bool = False
    """Also stop and remove agents this fleet declared before and does not any more."""
    budgets: list[Budget] = Field(default_factory=list, max_length=10_000)
    """The budgets it declares; those it declared before and does not any more are removed."""


class Target(_Model):
    """Which agents a verb acts on: names, ids or id prefixes; or all of them."""

    refs: list[Text] = Field(default_factory=list, max_length=20_000)
    all: bool = False
    children: bool = False
    """Also the agents' children, grandchildren and so on."""


class PauseRequest(Target):
    """Freeze or hold."""

    how: Pause = Pause.FREEZE


class StopRequest(Target):
    """Stop (TERM, grace, KILL) or kill. ``grace`` of ``None`` is the spec's own; 0 is KILL at once."""

    how: Literal["stop", "kill"] = "stop"
    grace: float | None = Field(default=None, ge=0, le=86_400)


class SignalRequest(Target):
    """Send one signal to the main program."""

    signal: int = Field(ge=1, le=64)


class NiceRequest(Target):
    """Set nice, or change it by ``delta``."""

    nice: int | None = Field(default=None, ge=-20, le=19)
    delta: int | None = Field(default=None, ge=-39, le=39)


class RemoveRequest(Target):
    """Take ended agents off the table, with their output; ``force`` kills live ones first."""

    force: bool = False


class BudgetRequest(_Model):
    """Make or replace a budget. For scope ``agent`` the target may be a name, an id or a prefix."""

    budget: Budget


class ExtendRequest(_Model):
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


class CallsRequest(_Model):
    """Which calls to list: of some agents or all, newest last."""

    refs: list[Text] = Field(default_factory=list, max_length=20_000)
    limit: int = Field(default=100, ge=1, le=100_000)
    since: float | None = None
    held: bool = False
    """Only those the gateway keeps now."""


UsageKey = Literal["agent", "run", "task", "model", "provider", "label", "second", "minute", "hour", "day"]


class UsageRequest(_Model):
    """Sums over settled calls, by any keys. ``label`` names the label whose values are told apart."""

    by: list[UsageKey] = Field(default=["agent"], max_length=6)
    label: str = ""
    refs: list[Text] = Field(default_factory=list, max_length=20_000)
    since: float | None = None
    until: float | None = None


# --- answers -----------------------------------------------------------------------------------


class Tokens(_Model):
    """Disjoint buckets of a meter."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0


class AgentInfo(_Model):
    """One agent as ``ps --json`` and ``inspect`` print it. Field names do not move."""

    model_config = ConfigDict(extra="allow")

    id: str
    name: str
    state: str
    reason: str | None = None
    backend: str
    template: str | None = None
    owner: str
    parent: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    nice: int = 0
    model: str | None = None
    pid: int | None = None
    pids: list[int] = Field(default_factory=list)
    tokens: Tokens = Tokens()
    cost_usd: float | None = None
    cost_exact: bool = True
    """False where a part was estimated."""
    unpriced: bool = False
    """True where a part has no known price: ``cost_usd`` is then a lower bound."""
    calls: int = 0
    context_tokens: int | None = None
    context_limit: int | None = None
    run: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    observed: bool = False
    detail: str = ""
    since: float | None = None
    frozen: list[int] | None = None
    """``[frozen, total]`` while frozen."""
    held_calls: int = 0
    cpu_percent: float | None = None
    memory: int | None = None
    task: str | None = None
    command: list[str] = Field(default_factory=list)
    cwd: str | None = None
    fleet: str | None = None
    restarts: int = 0


class Outcome(_Model):
    """What a verb did to one agent: one line of output, or one error."""

    ref: str
    id: str | None = None
    name: str | None = None
    done: str = ""
    """Past tense, for a person: ``frozen 5/5``, ``killed 3/3``, ``unchanged``."""
    error: dict[str, str] | None = None
    exit_code: int = 0
    """The exit status this outcome asks for on a command line."""
    proof: dict[str, Any] | None = None


class CallInfo(_Model):
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


class ProcessInfo(_Model):
    """One process of a tree, for the details pane and the kill preview."""

    pid: int
    ppid: int
    state: str
    cpu_seconds: float
    memory: int
    command: str


class AgentDetail(_Model):
    """Everything ``inspect`` and the details pane show."""

    info: AgentInfo
    spec: AgentSpec
    children: list[str] = Field(default_factory=list)
    processes: list[ProcessInfo] = Field(default_factory=list)
    calls: list[CallInfo] = Field(default_factory=list)
    calls_today: int = 0
    calls_hour: int = 0
    runs: list[dict[str, Any]] = Field(default_factory=list)
    mechanism: str = ""
    """How this run would be frozen: ``cgroup2``, ``cgroup1``, ``signal``, ``docker``."""
    folder: str = ""


class KillPlan(_Model):
    """What a kill of some agents would end and what it would leave; nothing has been sent."""

    agents: list[AgentInfo]
    processes: dict[str, list[ProcessInfo]]
    containers: dict[str, str] = Field(default_factory=dict)
    calls_in_flight: int = 0
    waiting_for_it: list[str] = Field(default_factory=list)
    untouched: int = 0
    grace: float = 10.0
    impossible: dict[str, str] = Field(default_factory=dict)
    """Choices that cannot be taken now, each with the reason."""


class KernelStatus(_Model):
    """``kernel status --json``."""

    pid: int
    version: str
    port: int
    agents: int
    started_at: float
    state_dir: str
    boot_id: str = ""
    embedded: bool = False
    seq: int = 0
    healthy: bool = True
    problem: str = ""
    """What ails the journal."""
    gateway_problem: str = ""
    """What ails the gateway's listeners or their holder."""
    cpu_seconds: float = 0.0
    memory: int = 0
    missing_keys: list[str] = Field(default_factory=list)
    """Environment variables with provider keys that calls wait for."""


class BudgetInfo(_Model):
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


class ApprovalInfo(_Model):
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


class LimitInfo(_Model):
    """One limit of a provider's lane: ``requests``/``tokens`` a minute, or ``concurrency``."""

    what: Literal["requests", "tokens", "input_tokens", "output_tokens", "concurrency"]
    limit: float
    left: float | None = None
    resets_at: float | None = None
    source: Literal["config", "learned"] = "config"


class ProviderInfo(_Model):
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


class UsageRow(_Model):
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


class HaltInfo(_Model):
    """What the kill switch did."""

    halted: bool
    calls_held: int = 0
    frozen: list[Outcome] = Field(default_factory=list)
    calls_seconds: float = 0.0
    """Until the last call was held."""
    seconds: float = 0.0
    """Until the last process was frozen (or thawed)."""


class CheckInfo(_Model):
    """One line of ``doctor``."""

    group: str
    name: str
    level: Literal["ok", "warn", "missing"]
    found: str
    hint: str = ""


class TemplateInfo(_Model):
    """A template the launch dialog offers."""

    name: str
    title: str
    ready: bool
    found: str = ""
    hint: str = ""
    backends: list[str] = Field(default_factory=list)
    model: str | None = None
