"""Every fact the kernel must not forget, one class each.

An event is what is stored: adding a field needs a default (old rows lack it), renaming or removing
one needs a migration. Times inside events are wall-clock seconds; the journal adds ``seq`` and
``ts``. No secret and no prompt, reply or mail text is ever put into an event.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ..agents.spec import AgentSpec
from ..agents.states import Pause, Waiting
from ..budget.budget import Budget


class Usage(NamedTuple):
    """Tokens of one call or a sum of calls, in disjoint buckets.

    ``reasoning`` is the part of ``output`` that was spent thinking, not a further bucket.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def cache_write(self) -> int:
        """Tokens written to the provider's cache, whatever their lifetime."""
        return self.cache_write_5m + self.cache_write_1h

    @property
    def total(self) -> int:
        """All tokens; reasoning is inside output already."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h + self.output

    @property
    def context(self) -> int:
        """Tokens that stand in the model's context after this call."""
        return self.total

    def plus(self, other: Usage) -> Usage:
        """The bucket-wise sum."""
        # Written out: this is done for every call and every sum it counts in.
        return Usage(
            self.input + other.input,
            self.cache_read + other.cache_read,
            self.cache_write_5m + other.cache_write_5m,
            self.cache_write_1h + other.cache_write_1h,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


class Event(BaseModel):
    """Base of all events. ``agent`` is the id of the agent concerned, if there is one."""

    # JSON has no NaN: a row that holds one could not be read back.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)
    kind: ClassVar[str]
    agent: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kind = cls.__name__


class AgentEvent(Event):
    """An event that concerns one agent."""

    agent: str


# --- the kernel itself -------------------------------------------------------------------------


class KernelStarted(Event):
    """A kernel took this state directory. ``boot_id`` tells reboots apart."""

    version: str
    pid: int
    boot_id: str


class KernelStopped(Event):
    """The kernel left in an orderly way."""

    reason: str = ""


# --- agents ------------------------------------------------------------------------------------


class Origin(NamedTuple):
    """The conversation a fork began in: whose it was, and the client's own id of it."""

    agent: str
    session: str


class AgentCreated(AgentEvent):
    """A new agent. Its environment lies beside the journal in a 0600 file, not in here."""

    spec: AgentSpec
    owner: str
    fleet: str | None = None
    """The fleet file that declared it, if one did."""
    origin: Origin | None = None
    """Where it was forked from."""


class AgentChanged(AgentEvent):
    """The declaration of an agent was replaced; its next run uses it."""

    spec: AgentSpec
    by: str = ""


class AgentRemoved(AgentEvent):
    """An ended agent was taken off the table."""

    by: str = ""


class WorktreePlanned(AgentEvent):
    """Where the agent's own worktree will be and on which branch: durable before git is asked for it."""

    path: str
    folder: str
    repository: str
    branch: str
    base: str
    ours: bool = True
    """The branch was made for it."""


class WorktreeMade(AgentEvent):
    """The planned worktree is there; from here on somebody may have worked in it."""

    path: str
    branch: str


class WorktreeLeft(AgentEvent):
    """What became of the worktree of a removed agent. ``kept`` is why it stays; empty: it is gone."""

    path: str
    branch: str
    repository: str
    kept: str = ""
    branch_kept: bool = False


class FolderShared(Event):
    """Agents work on the same files of a git working tree: ``agent``, which began there, and others.

    Without ``agent`` several began at once, and ``names`` has all.
    """

    folder: str
    names: list[str]
    """A few of them."""
    count: int
    """How many they are."""


class NiceChanged(AgentEvent):
    """The scheduling priority was set."""

    nice: int
    by: str = ""


# --- runs --------------------------------------------------------------------------------------


class RunStarting(AgentEvent):
    """Durable before anything is spawned, so that no crash can lose or double a run."""

    run: int
    reason: Literal["start", "restart", "policy", "boot", "resume"] = "start"
    by: str = ""
    resume: str | None = None
    """The client's own id of the conversation that this run goes on with."""


class RunStarted(AgentEvent):
    """The run exists. ``ref`` is the backend's own durable handle (never a bare pid)."""

    run: int
    ref: dict[str, Any]
    keyboard: bool = False
    """A person types into it: when its turn is over, it waits for them."""
    waits: bool = False
    """It was given nothing to do: it waits for its person from the start on."""


class RunReady(AgentEvent):
    """The run outlived ``start_seconds``; its start counts and failures are forgotten."""

    run: int


class RunExited(AgentEvent):
    """The run ended.

    ``code`` is the exit status as far as it is known (a shell's 137 stays 137); ``signal`` only
    where the signal itself was seen; both ``None`` when nobody could tell.
    """

    run: int
    code: int | None = None
    signal: int | None = None
    cause: Literal["exit", "stopped", "killed", "start_failed", "reboot", "lost", "backend"] = "exit"
    detail: str = ""
    failed: bool = False
    seconds: float = 0.0


class RestartScheduled(AgentEvent):
    """Another run follows at ``at`` (wall clock), after ``failures`` failures in a row."""

    at: float
    failures: int


class RestartGivenUp(AgentEvent):
    """``max_restarts`` failures in a row; the agent stays in ``error``."""

    failures: int


class StopRequested(AgentEvent):
    """Somebody wants the agent ended; no restart policy acts against it."""

    by: str = ""
    how: Literal["stop", "kill"] = "stop"


class KillProven(AgentEvent):
    """What a stop or kill did, checked process by process."""

    run: int
    processes: int
    ended: int
    survivors: list[int] = Field(default_factory=list)
    mechanism: str = ""
    seconds: float = 0.0


class TerminalAttached(AgentEvent):
    """A person got in front of the run's terminal."""

    run: int
    by: str = ""


class TerminalTyped(AgentEvent):
    """Somebody typed into the run's terminal from outside of it; noted at most once a minute for each
    person. What was typed is not kept: it may be a secret."""

    run: int
    by: str = ""


# --- pause -------------------------------------------------------------------------------------


class AgentPaused(AgentEvent):
    """The agent was frozen or held. ``frozen``/``total`` is the proof of a freeze."""

    how: Pause
    by: str = ""
    frozen: int = 0
    total: int = 0
    mechanism: str = ""
    seconds: float = 0.0


class AgentResumed(AgentEvent):
    """A pause was lifted; both are when ``how`` is ``None``."""

    how: Pause | None = None
    by: str = ""


class InputAwaited(AgentEvent):
    """A client asks its person something, or for a permission, while none of its calls is in flight."""

    run: int
    detail: str = ""


class InputGiven(AgentEvent):
    """The question is not open any more; ``state`` is what the client does instead."""

    run: int
    state: Literal["idle", "planning", "executing"] = "executing"
    detail: str = ""


# --- observed agents: what was done to them; they are in no other event ---------------------------


class ObservedEvent(AgentEvent):
    """Something was done to an agent that somebody else started. Nothing else keeps its name."""

    name: str
    by: str = ""


class ObservedPaused(ObservedEvent):
    """It was frozen; ``total`` is 0 while that is asked for and not yet proven.

    ``processes`` are the pids and start times of its tree, the topmost first, valid in ``boot_id``.
    """

    observer: str
    boot_id: str
    processes: list[tuple[int, int]]
    frozen: int = 0
    total: int = 0
    mechanism: str = ""
    seconds: float = 0.0


class ObservedResumed(ObservedEvent):
    """It was let go, or it ended, or somebody else let it go (``detail``)."""

    detail: str = ""


class ObservedStopRequested(ObservedEvent):
    """Somebody wants it ended."""

    how: Literal["stop", "kill"] = "stop"


class ObservedKillProven(ObservedEvent):
    """What a stop or kill did, checked process by process."""

    processes: int
    ended: int
    survivors: list[int] = Field(default_factory=list)
    mechanism: str = ""
    seconds: float = 0.0


class ObservedSignalled(ObservedEvent):
    """A signal was sent to its program."""

    signal: int
    processes: int


class ObservedReniced(ObservedEvent):
    """The system's scheduling priority of its processes was set."""

    nice: int
    processes: int


# --- model calls -------------------------------------------------------------------------------


class CallStarted(AgentEvent):
    """Durable before the request is forwarded."""

    call: str
    run: int
    provider: str
    protocol: str
    operation: str = ""
    model: str | None = None
    stream: bool = False
    reserved_usd: float | None = None
    reserved_tokens: int | None = None
    """The worst case, held against every budget that covers the agent until the call is settled."""
    approval: str | None = None
    """The approval that let this one call through its budgets, or although it looks like a runaway's; both,
    with a blank between, where two were needed."""
    client: dict[str, str] = Field(default_factory=dict)
    """Facts the client's headers tell (session, subagent), never credentials."""


def conversation(started: CallStarted) -> str | None:
    """The client's own id of the conversation a call belongs to; ``None`` for a subagent's."""
    return None if started.client.get("subagent") else started.client.get("session")


class CallProgressed(AgentEvent):
    """Usage seen so far in a call that is still running; noted each second."""

    call: str
    usage: Usage


class CallSettled(AgentEvent):
    """The truth of a call. Durable before its last chunk is passed on to the client.

    ``cost_usd`` is ``None`` where no price is known. ``exact`` is false where the provider's final
    figure was not seen (the stream was cut, the kernel crashed) and the usage is what was seen.
    """

    call: str
    run: int
    provider: str
    model: str | None = None
    usage: Usage = Usage()
    cost_usd: float | None = None
    exact: bool = True
    status: int | None = None
    outcome: Literal["ok", "error", "client_cut", "upstream_cut", "unreachable", "crash", "refused"] = "ok"
    error: str = ""
    stop_reason: str | None = None
    tools: list[str] = Field(default_factory=list)
    context_limit: int | None = None
    context_used: int | None = None
    """Tokens in the model's context after the call; ``None`` for calls that are not the main loop."""
    queued_seconds: float = 0.0
    attempts: int = 1
    """How often it was sent; more than once where a provider turned it away for now."""
    first_token_seconds: float | None = None
    seconds: float = 0.0
    request_id: str | None = None


class CallHeld(AgentEvent):
    """The gateway keeps a call; ``reason`` is why the agent waits, ``None`` for a hold by a person."""

    call: str
    reason: Waiting | None = None
    detail: str = ""


class CallReleased(AgentEvent):
    """A held call goes on."""

    call: str


class CallThrottled(AgentEvent):
    """A provider turned a call away for now (429, 529), or was not reached; the gateway tries again."""

    call: str
    provider: str
    status: int | None = None
    retry_after: float | None = None


class RequestPassed(AgentEvent):
    """A request that is not metered went to a provider (a model list, a token count)."""

    run: int
    provider: str
    method: str
    path: str
    status: int | None = None
    seconds: float = 0.0


# --- budgets, approvals, the kill switch, providers ----------------------------------------------


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


EVENTS: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        KernelStarted, KernelStopped, AgentCreated, AgentChanged, AgentRemoved, NiceChanged,
        WorktreePlanned, WorktreeMade, WorktreeLeft, FolderShared,
        RunStarting, RunStarted, RunReady, RunExited, RestartScheduled, RestartGivenUp, StopRequested,
        KillProven, TerminalAttached, TerminalTyped,
        AgentPaused, AgentResumed, CallStarted, CallProgressed, CallSettled, CallHeld,
        CallReleased, CallThrottled, RequestPassed, BudgetSet, BudgetRemoved, BudgetExtended, BudgetWarned,
        BudgetBreached, ApprovalRequested, ApprovalAnswered, FleetHalted, FleetUnhalted, BreakerMoved,
        InputAwaited, InputGiven, ObservedPaused, ObservedResumed, ObservedStopRequested,
        ObservedKillProven, ObservedSignalled, ObservedReniced,
    )
}  # fmt: skip
"""Every stored kind by name. A kind that is not here (a newer kernel wrote it) is kept but not folded."""


class Record(NamedTuple):
    """One stored row: what was written, byte for byte, and its place in the chain."""

    seq: int
    ts: float
    kind: str
    agent: str | None
    body: bytes
    hash: bytes

    def event(self) -> Event | None:
        """The typed event, or ``None`` for a kind this version does not know."""
        cls = EVENTS.get(self.kind)
        return cls.model_validate_json(self.body) if cls else None
