"""The data that crosses the one small door between people's side and the kernel.

pydantic where a request or an answer is checked; the live table, NamedTuples without it, comes from
``core.table``. Times are wall-clock seconds, sizes bytes, money USD. ``None`` means: not known.
"""

from __future__ import annotations

from ..table import (
    WINDOWS,
    Delta,
    EventInfo,
    Header,
    HostGauge,
    ProviderGauge,
    Row,
    Snapshot,
    Window,
    header_from_json,
    row_from_json,
)
from .agents import (
    AgentDetail,
    AgentInfo,
    FleetRequest,
    ForkRequest,
    KillPlan,
    LastLine,
    NiceRequest,
    ObservedInfo,
    Outcome,
    PauseRequest,
    ProcessInfo,
    RemoveRequest,
    RunRequest,
    SignalRequest,
    StopRequest,
    TemplateInfo,
    Tokens,
)
from .kernel import (
    CheckInfo,
    HaltInfo,
    KernelStatus,
)
from .money import (
    AnswerRequest,
    ApprovalInfo,
    BudgetInfo,
    BudgetRequest,
    CallInfo,
    CallsRequest,
    ExtendRequest,
    LimitInfo,
    ProviderInfo,
    UsageKey,
    UsageRequest,
    UsageRow,
)
from .target import (
    Target,
)
from .terminals import (
    AttachInfo,
    HistoryInfo,
    PressRequest,
)
from .transcripts import (
    TranscriptKey,
    TranscriptReport,
    TranscriptRequest,
    TranscriptUsage,
)
from .workspaces import (
    WorkspaceInfo,
)

__all__ = [
    "WINDOWS",
    "AgentDetail",
    "AgentInfo",
    "AnswerRequest",
    "ApprovalInfo",
    "AttachInfo",
    "BudgetInfo",
    "BudgetRequest",
    "CallInfo",
    "CallsRequest",
    "CheckInfo",
    "Delta",
    "EventInfo",
    "ExtendRequest",
    "FleetRequest",
    "ForkRequest",
    "HaltInfo",
    "Header",
    "HistoryInfo",
    "HostGauge",
    "KernelStatus",
    "KillPlan",
    "LastLine",
    "LimitInfo",
    "NiceRequest",
    "ObservedInfo",
    "Outcome",
    "PauseRequest",
    "PressRequest",
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
    "TranscriptKey",
    "TranscriptReport",
    "TranscriptRequest",
    "TranscriptUsage",
    "UsageKey",
    "UsageRequest",
    "UsageRow",
    "Window",
    "WorkspaceInfo",
    "header_from_json",
    "row_from_json",
]
