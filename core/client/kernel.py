"""``KernelClient``: the only way screens and commands reach a kernel.

Two implementations, ``LocalClient`` (the kernel in this process, ``agenttop.core.local``) and
``SocketClient`` (HTTP over the control socket, ``agenttop.core.remote``), pass one contract test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ..api import (
        AgentDetail,
        AgentInfo,
        AnswerRequest,
        ApprovalInfo,
        AttachInfo,
        BudgetInfo,
        BudgetRequest,
        CallInfo,
        CallsRequest,
        CheckInfo,
        Delta,
        EventInfo,
        ExtendRequest,
        FleetRequest,
        ForkRequest,
        HaltInfo,
        HistoryInfo,
        KernelStatus,
        KillPlan,
        NiceRequest,
        Outcome,
        PauseRequest,
        PressRequest,
        ProviderInfo,
        RemoveRequest,
        RunRequest,
        SignalRequest,
        Snapshot,
        StopRequest,
        Target,
        TemplateInfo,
        TranscriptReport,
        TranscriptRequest,
        UsageRequest,
        UsageRow,
        Window,
        WorkspaceInfo,
    )
    from ..api.verbs import A, Q, Verb
    from ..api.workspaces import Detail
    from ..backend import Chunk


class KernelClient(ABC):
    """One connection to one kernel. Every verb raises ``AgentTopError`` subclasses only.

    Verbs on several agents return one ``Outcome`` per agent and never stop half-way: an unknown
    reference is an outcome with an error, and the others are still done.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @abstractmethod
    async def close(self) -> None:
        """Release the connection. The kernel and its agents run on."""

    def try_now(self) -> None:
        """Call hosts that are away without waiting; one kernel's own client has none."""
        return

    @abstractmethod
    async def status(self) -> KernelStatus:
        """Who this kernel is and how it fares."""

    @abstractmethod
    async def agents(self, *, all: bool = False, pids: bool = True) -> list[AgentInfo]:
        """The live agents, or with ``all`` the ended ones too. ``pids=False`` saves the scan."""

    @abstractmethod
    async def inspect(self, ref: str) -> AgentDetail:
        """Everything about one agent.

        Raises:
            NoSuchAgent: Unknown reference.
            AmbiguousAgent: A prefix of several ids.
        """

    @abstractmethod
    async def run(self, request: RunRequest) -> AgentInfo:
        """Create and start one agent; durable and started when this returns."""

    @abstractmethod
    async def up(self, request: FleetRequest) -> list[Outcome]:
        """Bring a fleet up, idempotently: each agent was created, changed or unchanged."""

    @abstractmethod
    async def down(self, fleet: str, grace: float | None = None) -> list[Outcome]:
        """Stop and remove the agents a fleet file declared."""

    @abstractmethod
    async def pause(self, request: PauseRequest) -> list[Outcome]:
        """Freeze (verified) or hold."""

    @abstractmethod
    async def resume(self, request: Target) -> list[Outcome]:
        """Undo freeze and hold."""

    @abstractmethod
    async def stop(self, request: StopRequest) -> list[Outcome]:
        """Stop or kill, with the proof in each outcome."""

    @abstractmethod
    async def signal(self, request: SignalRequest) -> list[Outcome]:
        """Send one signal to the main programs."""

    @abstractmethod
    async def restart(self, request: Target) -> list[Outcome]:
        """Stop what runs, then start a new run of each agent."""

    @abstractmethod
    async def nice(self, request: NiceRequest) -> list[Outcome]:
        """Set the scheduling priority."""

    @abstractmethod
    async def remove(self, request: RemoveRequest) -> list[Outcome]:
        """Take ended agents off the table."""

    @abstractmethod
    async def prune(self) -> list[Outcome]:
        """Take all ended agents off the table and their output off the disk."""

    @abstractmethod
    async def kill_plan(self, request: Target) -> KillPlan:
        """What a kill would end; sends nothing."""

    @abstractmethod
    async def write(self, ref: str, data: bytes | None) -> None:
        """Write to an agent's stdin; ``None`` closes it."""

    @abstractmethod
    async def attach(self, ref: str) -> AttachInfo:
        """How to get in front of an agent's terminal; a frozen idle one is thawed.

        Raises:
            BackendError: It has no terminal, or its run has ended.
        """

    @abstractmethod
    async def press(self, request: PressRequest) -> None:
        """Press keys in an agent's terminal.

        Raises:
            BackendError: It has no terminal, or its run has ended.
        """

    @abstractmethod
    async def history(self, ref: str, lines: int = 1_000) -> HistoryInfo:
        """What an agent's terminal shows, and the last ``lines`` that scrolled away.

        Raises:
            BackendError: It has no terminal, or nothing is kept of it.
        """

    @abstractmethod
    async def fork(self, request: ForkRequest) -> AgentInfo:
        """Begin a new agent in the conversation of another.

        Raises:
            Conflict: Its client cannot, or has no conversation yet.
        """

    @abstractmethod
    async def workspace(self, ref: str, detail: Detail = "") -> WorkspaceInfo:
        """Where an agent works and what it has changed there; asks git, so not for every tick.

        Args:
            detail: ``diff`` gives the change as a patch, too; ``losses``, what deleting its worktree would
                lose.
        """

    @abstractmethod
    async def wait(self, refs: Sequence[str], timeout: float | None = None) -> list[AgentInfo]:
        """Return when all of these agents have ended for good (no restart pending).

        Raises:
            TimeoutError: ``timeout`` seconds passed first.
        """

    @abstractmethod
    def output(
        self, ref: str, *, follow: bool = False, run: int | None = None, tail: int | None = None
    ) -> AsyncIterator[Chunk]:
        """The raw output of a run (default: the last), both streams; ``tail`` bytes from the end.

        Following goes on into the next runs of the same agent until it has ended for good.
        """

    @abstractmethod
    def events(
        self, *, since: int = 0, follow: bool = False, refs: Sequence[str] = (), kinds: Sequence[str] = ()
    ) -> AsyncIterator[EventInfo]:
        """Journal rows with ``seq > since``, in order, without loss or repeat."""

    @abstractmethod
    async def last_events(self, count: int, refs: Sequence[str] = ()) -> list[EventInfo]:
        """The newest ``count`` rows worth a person's look, oldest first."""

    @abstractmethod
    def watch(self, window: Window = "today") -> AsyncIterator[Snapshot | Delta]:
        """One snapshot, then deltas, at most ten a second, coalesced for slow readers."""

    @abstractmethod
    async def budgets(self) -> list[BudgetInfo]:
        """Every budget as it stands now."""

    @abstractmethod
    async def set_budget(self, request: BudgetRequest) -> BudgetInfo:
        """Make or replace a budget; calls that fit now go on.

        Raises:
            NoSuchAgent: The agent it is for.
        """

    @abstractmethod
    async def extend_budget(self, request: ExtendRequest) -> BudgetInfo:
        """Add to a budget's limit until its present window ends.

        Raises:
            UsageError: There is no budget of this name, or it has no such limit.
        """

    @abstractmethod
    async def remove_budget(self, name: str) -> None:
        """Take a budget away.

        Raises:
            UsageError: There is none of this name.
        """

    @abstractmethod
    async def approvals(self) -> list[ApprovalInfo]:
        """What waits for a person's decision, oldest first."""

    @abstractmethod
    async def answer(self, request: AnswerRequest) -> list[Outcome]:
        """Decide about held calls; one outcome per approval."""

    @abstractmethod
    async def model_calls(self, request: CallsRequest) -> list[CallInfo]:
        """Model calls one by one, newest last."""

    @abstractmethod
    async def usage(self, request: UsageRequest) -> list[UsageRow]:
        """Sums over settled calls."""

    @abstractmethod
    async def transcripts(self, request: TranscriptRequest) -> TranscriptReport:
        """Sums over the calls in the transcripts of this machine's agent CLIs, managed or not.

        Waits until what lies there now has been read.
        """

    @abstractmethod
    async def providers(self) -> list[ProviderInfo]:
        """Every provider: key, breaker, limits, who waits."""

    @abstractmethod
    async def halt(self) -> HaltInfo:
        """The kill switch: hold every call and freeze every managed agent."""

    @abstractmethod
    async def unhalt(self) -> HaltInfo:
        """Undo ``halt``; what was paused before stays paused."""

    @abstractmethod
    async def templates(self) -> list[TemplateInfo]:
        """The templates ``run --template`` knows, and whether they could start here."""

    @abstractmethod
    async def checks(self) -> list[CheckInfo]:
        """What ``doctor`` can only learn inside the kernel: backends, gateway, providers."""

    @abstractmethod
    async def agent_checks(self) -> list[CheckInfo]:
        """What the readers of agent CLIs found, and what they did not understand; one group per CLI."""

    @abstractmethod
    async def supply(self, keys: Mapping[str, str]) -> None:
        """Give the kernel provider keys (variable → key) that its calls wait for; never stored."""

    @abstractmethod
    async def shutdown(self, *, restart: bool = False) -> None:
        """End the kernel; agents run on. With ``restart`` the caller starts a new one."""

    @abstractmethod
    async def call(self, verb: Verb[Q, A], request: Q) -> A:
        """Ask a verb of the bus, of memory or of agents' own (``api.bus``, ``api.memory``, ``api.selves``).

        Raises:
            AgentTopError: As the verb's handler says.
        """

    @abstractmethod
    def follow(self, verb: Verb[Q, A], request: Q) -> AsyncIterator[A]:
        """The answers of a verb that goes on answering (``verb.stream``)."""
