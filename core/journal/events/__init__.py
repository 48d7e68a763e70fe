"""Every fact the kernel must not forget, one class each.

An event is what is stored: adding a field needs a default (old rows lack it), renaming or removing
one needs a migration. Times inside events are wall-clock seconds; the journal adds ``seq`` and
``ts``. No secret and no prompt, reply or mail text is ever put into an event.
"""

from __future__ import annotations

from typing import NamedTuple

from .agents import (
    AgentChanged,
    AgentCreated,
    AgentRemoved,
    FolderShared,
    KernelStarted,
    KernelStopped,
    NiceChanged,
    Origin,
    WorktreeLeft,
    WorktreeMade,
    WorktreePlanned,
)
from .budgets import (
    ApprovalAnswered,
    ApprovalRequested,
    BreakerMoved,
    BudgetBreached,
    BudgetExtended,
    BudgetRemoved,
    BudgetSet,
    BudgetWarned,
    FleetHalted,
    FleetUnhalted,
    Spent,
)
from .calls import (
    CallHeld,
    CallProgressed,
    CallReleased,
    CallSettled,
    CallStarted,
    CallThrottled,
    RequestPassed,
    conversation,
)
from .event import (
    AgentEvent,
    Event,
)
from .mail import (
    DeadlockFound,
    MailDied,
    MailSealed,
    ProgressReported,
)
from .memory import (
    MemoryExpired,
    MemoryForgotten,
    MemoryMoved,
)
from .observed import (
    ObservedEvent,
    ObservedKillProven,
    ObservedPaused,
    ObservedReniced,
    ObservedResumed,
    ObservedSignalled,
    ObservedStopRequested,
)
from .runs import (
    AgentPaused,
    AgentResumed,
    InputAwaited,
    InputGiven,
    KillProven,
    RestartGivenUp,
    RestartScheduled,
    RunExited,
    RunReady,
    RunStarted,
    RunStarting,
    StopRequested,
    TerminalAttached,
    TerminalTyped,
)
from .usage import (
    Usage,
)

__all__ = [
    "EVENTS",
    "AgentChanged",
    "AgentCreated",
    "AgentEvent",
    "AgentPaused",
    "AgentRemoved",
    "AgentResumed",
    "ApprovalAnswered",
    "ApprovalRequested",
    "BreakerMoved",
    "BudgetBreached",
    "BudgetExtended",
    "BudgetRemoved",
    "BudgetSet",
    "BudgetWarned",
    "CallHeld",
    "CallProgressed",
    "CallReleased",
    "CallSettled",
    "CallStarted",
    "CallThrottled",
    "DeadlockFound",
    "Event",
    "FleetHalted",
    "FleetUnhalted",
    "FolderShared",
    "InputAwaited",
    "InputGiven",
    "KernelStarted",
    "KernelStopped",
    "KillProven",
    "MailDied",
    "MailSealed",
    "MemoryExpired",
    "MemoryForgotten",
    "MemoryMoved",
    "NiceChanged",
    "ObservedEvent",
    "ObservedKillProven",
    "ObservedPaused",
    "ObservedReniced",
    "ObservedResumed",
    "ObservedSignalled",
    "ObservedStopRequested",
    "Origin",
    "ProgressReported",
    "Record",
    "RequestPassed",
    "RestartGivenUp",
    "RestartScheduled",
    "RunExited",
    "RunReady",
    "RunStarted",
    "RunStarting",
    "Spent",
    "StopRequested",
    "TerminalAttached",
    "TerminalTyped",
    "Usage",
    "WorktreeLeft",
    "WorktreeMade",
    "WorktreePlanned",
    "conversation",
]

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
        MemoryMoved, MemoryForgotten, MemoryExpired,
        MailSealed, MailDied, DeadlockFound, ProgressReported,
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
