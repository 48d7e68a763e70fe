"""What the kernel knows of its agents: plain records that the fold fills and everyone else reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, InstanceOf

from ..budget.cover import Cover
from ..budget.state import Approval, BudgetState, Kin, Pass, Reservation
from ..journal.events import Origin, Usage
from .spec import AgentSpec
from .states import ENDED, Pause, State, Waiting
from .worktree import Worktree

NOTHING = Usage()

#: Who stands in the journal for a freeze of an agent that had nothing to do: whoever needs it wakes it.
IDLE = "idle"

#: How many past runs an agent remembers; the journal has all of them.
PAST_RUNS = 10


@dataclass(slots=True)
class Meter:
    """Tokens and money counted. ``cost`` sums what has a price; ``unpriced`` counts calls without."""

    usage: Usage = NOTHING
    cost: float = 0.0
    calls: int = 0
    estimated: int = 0
    unpriced: int = 0

    def add(self, usage: Usage, cost: float | None, *, exact: bool) -> None:
        """Count one settled call."""
        self.usage = self.usage.plus(usage)
        # A sum of dollars must not show the drift of binary fractions.
        self.cost = round(self.cost + (cost or 0.0), 9)
        self.calls += 1
        self.estimated += not exact
        self.unpriced += cost is None and usage.total > 0


@dataclass(slots=True)
class Call:
    """A model call that has not been settled."""

    id: str
    run: int
    provider: str
    model: str | None
    started: float
    usage: Usage = NOTHING
    state: Literal["held", "running"] = "running"
    reason: Waiting | None = None
    detail: str = ""


@dataclass(slots=True)
class Run:
    """One OS-level life of an agent."""

    number: int
    starting: float
    ref: dict[str, Any] | None = None
    resume: str | None = None
    """The client's id of the conversation it goes on with."""
    keyboard: bool = False
    """A person types into it."""
    waits: bool = False
    """It was given nothing to do at its start."""
    ready: bool = False
    ended: float | None = None
    code: int | None = None
    signal: int | None = None
    cause: str = ""
    detail: str = ""

    @property
    def live(self) -> bool:
        """Whether the run has not ended as far as the journal knows."""
        return self.ended is None


@dataclass(slots=True)
class Freeze:
    """Proof of a freeze; ``total`` is 0 while it is asked for and not yet proven."""

    since: float
    frozen: int = 0
    total: int = 0
    mechanism: str = ""
    by: str = ""

    @property
    def idle(self) -> bool:
        """Whether it was frozen because it had nothing to do, and is to be woken by whoever needs it."""
        return self.by == IDLE


@dataclass(frozen=True, slots=True)
class ObservedFreeze:
    """A freeze of an agent that somebody else started; ``total`` is 0 while it is not yet proven."""

    name: str
    observer: str
    boot_id: str
    processes: tuple[tuple[int, int], ...]
    """Pids and start times of its tree, the topmost first."""
    since: float
    frozen: int = 0
    total: int = 0
    mechanism: str = ""
    by: str = ""


@dataclass(slots=True)
class Agent:
    """One agent. ``state`` is the state beneath a pause; ``shown`` is what people see."""

    id: str
    spec: AgentSpec
    owner: str
    created: float
    fleet: str | None = None
    origin: Origin | None = None
    """The conversation it was forked from."""
    nice: int = 0
    state: State = State.INITIALIZING
    reason: Waiting | None = None
    detail: str = ""
    since: float = 0.0
    freeze: Freeze | None = None
    hold: float | None = None
    resumed: float = 0.0
    """When a freeze was lifted last."""
    turn: str = ""
    """What the last reply of its main conversation asked for: a tool, or ``over``: nothing more."""
    run: Run | None = None
    past: list[Run] = field(default_factory=list)
    failures: int = 0
    restart_at: float | None = None
    stopping: Literal["stop", "kill"] | None = None
    calls: dict[str, Call] = field(default_factory=dict)
    total: Meter = field(default_factory=Meter)
    last: Meter = field(default_factory=Meter)
    """What the current (or last) run used."""
    task: Meter = field(default_factory=Meter)
    """What its present task used: everything since a person last started it."""
    task_since: float = 0.0
    approvals: list[str] = field(default_factory=list)
    """Open questions to a person about its calls."""
    passes: list[Pass] = field(default_factory=list)
    """Calls of it that a person let through and that have not been made yet."""
    provider: str | None = None
    session: str | None = None
    """The client's own id of its conversation, as its calls tell it."""
    worktree: Worktree | None = None
    """Its own; it stays the agent's, whatever becomes of its spec, until it is removed."""
    model: str | None = None
    context: int | None = None
    context_cached: int = 0
    context_limit: int | None = None
    progress: str = ""
    """What it says of how far its present run is; hostile."""
    percent: float | None = None

    @property
    def name(self) -> str:
        """The unique name."""
        return self.spec.name

    @property
    def cwd(self) -> str | None:
        """Where it works, as far as that was said: in its worktree, or in the folder given."""
        return self.worktree.folder if self.spec.worktree and self.worktree else self.spec.cwd

    @property
    def told(self) -> str:
        """Progress and per cent in one line; empty where it said neither."""
        share = "" if self.percent is None else f"{self.percent:.0f}%"
        return " ".join(part for part in (share, self.progress) if part)

    @property
    def pause(self) -> Pause | None:
        """The pause that shows: a freeze covers a hold."""
        if self.freeze is not None:
            return Pause.FREEZE
        return Pause.HOLD if self.hold is not None else None

    @property
    def live(self) -> bool:
        """Whether it has a run that has not ended."""
        return self.run is not None and self.run.live

    @property
    def over(self) -> bool:
        """Whether it has ended for good: no run and no restart to come."""
        return self.state in ENDED and self.restart_at is None and not self.live

    @property
    def shown(self) -> State:
        """The state people see."""
        return State.PAUSED if self.pause is not None and self.live else self.state

    @property
    def held_calls(self) -> int:
        """How many of its calls the gateway keeps."""
        return sum(call.state == "held" for call in self.calls.values())


@dataclass(slots=True)
class Fleet:
    """The fold's state: everything the journal says of this kernel's agents, up to ``seq``."""

    seq: int = 0
    agents: dict[str, Agent] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """Name → id."""
    boot_id: str = ""
    kernels: int = 0
    halted: bool = False
    """The kill switch is on: no call is forwarded."""
    budgets: dict[str, BudgetState] = field(default_factory=dict)
    """By name, in the order they were made."""
    reservations: dict[str, Reservation] = field(default_factory=dict)
    """By call."""
    approvals: dict[str, Approval] = field(default_factory=dict)
    """The open ones, oldest first."""
    passes: dict[str, str] = field(default_factory=dict)
    """Approvals that let one call through which has not been made yet → agent."""
    kin: dict[str, Kin] = field(default_factory=dict)
    """Families, by agent."""
    observed: dict[str, ObservedFreeze] = field(default_factory=dict)
    """Frozen agents that somebody else started, by id; all that the books know of observed ones."""
    sealed: int = 0
    """The highest number of a message in a seal."""
    cover: Annotated[InstanceOf[Cover], Field(exclude=True)] = field(
        default_factory=Cover, compare=False, repr=False
    )
