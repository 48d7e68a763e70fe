"""``LocalClient``: a ``KernelClient`` on a kernel in this process and event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from . import backend, views
from .agents import registry
from .agents.agent import Agent
from .agents.states import Pause
from .api import (
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
from .api.workspaces import Detail
from .backend import Chunk
from .client import KernelClient
from .errors import AgentTopError, BackendError, Conflict, NoSuchAgent
from .journal import describe
from .journal.events import EVENTS, Record
from .streams import closing
from .syscalls.caller import Caller

if TYPE_CHECKING:
    from .api.verbs import A, Q, Verb
    from .kernel import Kernel
    from .observe.watch import Observed

#: Rows read from the journal at once.
_PAGE = 1_000


class LocalClient(KernelClient):
    """Every verb, directly on the kernel's parts. ``owner`` is written into the journal as ``by``."""

    def __init__(self, kernel: Kernel, owner: str) -> None:
        self._kernel = kernel
        self._owner = owner

    async def close(self) -> None:
        """Nothing to release."""

    def _agent(self, ref: str, verb: str = "") -> Agent:
        """The managed agent meant; ``verb`` is what an observed one cannot be (a past participle)."""
        try:
            return registry.resolve(self._kernel.books.committed, ref)
        except NoSuchAgent:
            if verb:
                self._kernel.observed.managed_only(ref, verb)
            raise

    def _id(self, ref: str) -> str:
        """The id of an agent whose events are wanted: of a managed, an observed, or one that was observed."""
        try:
            return self._agent(ref).id
        except NoSuchAgent:
            return self._kernel.observed.id_of(ref)

    # --- looking ---------------------------------------------------------------------------------

    async def status(self) -> KernelStatus:
        """Who this kernel is and how it fares."""
        return self._kernel.status()

    async def agents(self, *, all: bool = False, pids: bool = True) -> list[AgentInfo]:
        """The live agents, or all; process ids are asked from each backend at once."""
        kernel = self._kernel
        chosen = [agent for agent in kernel.books.committed.agents.values() if all or not agent.over]
        found = await views.pids(kernel.supervisor, [agent.id for agent in chosen]) if pids else {}
        managed = [views.info(agent, kernel, found.get(agent.id)) for agent in chosen]
        return [*managed, *await kernel.observed.infos(pids=pids)]

    async def inspect(self, ref: str) -> AgentDetail:
        """Everything about one agent."""
        if (found := await self._kernel.observed.detail(ref)) is not None:
            return found
        return await views.detail(self._agent(ref), self._kernel)

    async def kill_plan(self, request: Target) -> KillPlan:
        """What a kill would end; sends nothing."""
        return await self._kernel.observed.kill_plan(
            request, lambda rest: views.kill_plan(request.model_copy(update={"refs": rest}), self._kernel)
        )

    async def templates(self) -> list[TemplateInfo]:
        """The templates, and whether they could start here."""
        return await self._kernel.templates()

    async def checks(self) -> list[CheckInfo]:
        """What doctor can only learn in here."""
        kernel = self._kernel
        found: list[CheckInfo] = []
        for name in backend.names():
            try:
                checks = await kernel.backends.get(name).check()
            except AgentTopError as error:
                found.append(CheckInfo(group=name, name=name, level="missing", found=str(error)))
                continue
            found += [CheckInfo(group=name, **check._asdict()) for check in checks]
        return [*found, *kernel.checks(), *await kernel.workspaces.checks()]

    # --- acting ----------------------------------------------------------------------------------

    async def run(self, request: RunRequest) -> AgentInfo:
        """Create and start one agent."""
        self._kernel.take_keys(request.environ)
        kernel = self._kernel
        agent = await kernel.unbroken(lambda: kernel.creation.run(request, self._owner))
        notes = (await kernel.workspaces.remarks([agent]))[agent.id]
        return views.info(agent, self._kernel, None).model_copy(update={"notes": notes})

    async def up(self, request: FleetRequest) -> list[Outcome]:
        """Bring a fleet up, idempotently."""
        self._kernel.take_keys(request.environ)
        kernel = self._kernel

        async def up() -> list[Outcome]:
            # Limits first: no agent of the fleet makes a call before it is covered.
            await kernel.money.made.declare("fleet", request.budgets, request.fleet)
            return await kernel.workspaces.remarked(await kernel.creation.up(request, self._owner))

        return await kernel.unbroken(up)

    async def down(self, fleet: str, grace: float | None = None) -> list[Outcome]:
        """Stop and remove what a fleet file declared."""
        kernel = self._kernel

        async def down() -> list[Outcome]:
            outcomes = await kernel.creation.down(fleet, self._owner, grace)
            await kernel.money.made.declare("fleet", [], fleet)
            return outcomes

        return await kernel.unbroken(down)

    async def _each(
        self,
        target: Target,
        act: Callable[[Agent], Awaitable[tuple[str, dict[str, Any] | None]]],
        observed: Callable[[Observed], Awaitable[tuple[str, dict[str, Any] | None]]],
    ) -> list[Outcome]:
        kernel = self._kernel

        async def managed(refs: list[str]) -> list[Outcome]:
            return await kernel.control.each(refs, act, all=target.all, children=target.children)

        return await kernel.unbroken(lambda: kernel.observed.each(target, managed, observed))

    async def pause(self, request: PauseRequest) -> list[Outcome]:
        """Freeze (verified) or hold."""
        control, observed = self._kernel.control, self._kernel.observed
        if request.how is Pause.HOLD:
            return await self._each(
                request, lambda agent: control.hold(agent, self._owner), lambda a: observed.refuse(a, "held")
            )
        return await self._each(
            request,
            lambda agent: control.freeze(agent, self._owner),
            lambda agent: observed.freeze(agent, self._owner),
        )

    async def resume(self, request: Target) -> list[Outcome]:
        """Undo freeze and hold."""
        return await self._each(
            request,
            lambda agent: self._kernel.control.resume(agent, self._owner),
            lambda agent: self._kernel.observed.resume(agent, self._owner),
        )

    async def stop(self, request: StopRequest) -> list[Outcome]:
        """Stop or kill, with proof."""
        return await self._each(
            request,
            lambda agent: self._kernel.control.stop(agent, request.how, request.grace, self._owner),
            lambda agent: self._kernel.observed.stop(agent, request.how, request.grace, self._owner),
        )

    async def signal(self, request: SignalRequest) -> list[Outcome]:
        """Send one signal to the main programs."""
        return await self._each(
            request,
            lambda agent: self._kernel.control.signal(agent, request.signal),
            lambda agent: self._kernel.observed.signal(agent, request.signal, self._owner),
        )

    async def restart(self, request: Target) -> list[Outcome]:
        """Stop what runs, then start new runs."""
        return await self._each(
            request,
            lambda agent: self._kernel.control.restart(agent, self._owner),
            lambda agent: self._kernel.observed.refuse(agent, "restarted"),
        )

    async def nice(self, request: NiceRequest) -> list[Outcome]:
        """Set or move nice."""
        return await self._each(
            request,
            lambda agent: self._kernel.control.nice(agent, request.nice, request.delta, self._owner),
            lambda agent: self._kernel.observed.nice(agent, request.nice, request.delta, self._owner),
        )

    async def remove(self, request: RemoveRequest) -> list[Outcome]:
        """Take ended agents off the table."""
        return await self._each(
            request,
            lambda agent: self._kernel.control.remove(
                agent, self._owner, force=request.force, discard=request.discard
            ),
            lambda agent: self._kernel.observed.refuse(agent, "removed"),
        )

    async def prune(self) -> list[Outcome]:
        """Remove all ended agents."""
        ended = [agent.id for agent in self._kernel.books.committed.agents.values() if agent.over]
        return await self.remove(RemoveRequest(refs=ended))

    async def write(self, ref: str, data: bytes | None) -> None:
        """Write to an agent's stdin; ``None`` closes it."""
        agent = self._agent(ref, "written to")
        run = self._kernel.supervisor.runs.get(agent.id)
        if run is None:
            raise Conflict(f"cannot write to {agent.name}", f"It is {agent.shown}")
        if run.backend.terminals:
            await self._kernel.terminals.write(agent, data, self._owner)
            return
        if not (agent.spec.stdin or run.backend.keyboard):
            raise BackendError(f"cannot write to {agent.name}", "It has no stdin", "Start it with --stdin")
        await self._kernel.idling.wake(agent, self._owner)
        await run.backend.write(run.ref, data)

    async def attach(self, ref: str) -> AttachInfo:
        """How to get in front of an agent's terminal."""
        return await self._kernel.terminals.attach(self._agent(ref, "attached to"), self._owner)

    async def press(self, request: PressRequest) -> None:
        """Press keys in an agent's terminal."""
        await self._kernel.terminals.press(self._agent(request.ref, "written to"), request.keys, self._owner)

    async def history(self, ref: str, lines: int = 1_000) -> HistoryInfo:
        """What an agent's terminal shows and showed."""
        return await self._kernel.terminals.history(self._agent(ref, "followed"), lines)

    async def fork(self, request: ForkRequest) -> AgentInfo:
        """Begin a new agent in the conversation of another."""
        kernel = self._kernel
        agent = await kernel.unbroken(lambda: kernel.forking.fork(request, self._owner))
        return views.info(agent, kernel, None)

    async def workspace(self, ref: str, detail: Detail = "") -> WorkspaceInfo:
        """Where an agent works and what it has changed there."""
        workspaces = self._kernel.workspaces
        if (found := await self._kernel.observed.detail(ref)) is not None:
            return await workspaces.look_at(found.info.id, found.info.cwd, detail)
        return await workspaces.look(self._agent(ref), detail)

    async def transcripts(self, request: TranscriptRequest) -> TranscriptReport:
        """Sums over the calls in transcripts."""
        return await self._kernel.transcripts.report(request)

    async def agent_checks(self) -> list[CheckInfo]:
        """What the readers of agent CLIs found."""
        return await self._kernel.transcripts.checks()

    async def supply(self, keys: Mapping[str, str]) -> None:
        """Give the kernel provider keys that its calls wait for."""
        self._kernel.take_keys(keys)

    async def shutdown(self, *, restart: bool = False) -> None:
        """End the kernel; agents run on."""
        self._kernel.finish("restart" if restart else "asked to stop")

    # --- money, calls, providers -----------------------------------------------------------------

    async def budgets(self) -> list[BudgetInfo]:
        """Every budget as it stands now."""
        return self._kernel.money.budgets()

    async def set_budget(self, request: BudgetRequest) -> BudgetInfo:
        """Make or replace a budget."""
        if request.budget.scope == "agent":
            self._kernel.observed.managed_only(request.budget.target, "given a budget")
        return await self._kernel.money.set(request.budget, self._owner)

    async def extend_budget(self, request: ExtendRequest) -> BudgetInfo:
        """Add to a budget's limit until its present window ends."""
        return await self._kernel.money.extend(request, self._owner)

    async def remove_budget(self, name: str) -> None:
        """Take a budget away."""
        await self._kernel.money.remove(name, self._owner)

    async def approvals(self) -> list[ApprovalInfo]:
        """What waits for a person's decision, oldest first."""
        return self._kernel.money.approvals()

    async def answer(self, request: AnswerRequest) -> list[Outcome]:
        """Decide about held calls."""
        return await self._kernel.money.answer(request, self._owner)

    async def model_calls(self, request: CallsRequest) -> list[CallInfo]:
        """Model calls one by one, newest last."""
        return await self._kernel.money.calls(request)

    async def usage(self, request: UsageRequest) -> list[UsageRow]:
        """Sums over settled calls."""
        return await self._kernel.money.usage(request)

    async def providers(self) -> list[ProviderInfo]:
        """Every provider: key, breaker, limits, who waits."""
        return self._kernel.providers()

    async def halt(self) -> HaltInfo:
        """The kill switch: hold every call, freeze every managed agent."""
        kernel = self._kernel
        return await kernel.unbroken(lambda: kernel.switch.halt(self._owner))

    async def unhalt(self) -> HaltInfo:
        """Undo ``halt``."""
        kernel = self._kernel
        return await kernel.unbroken(lambda: kernel.switch.unhalt(self._owner))

    # --- the bus, memory, and what agents ask ----------------------------------------------------

    async def call(self, verb: Verb[Q, A], request: Q) -> A:
        """Ask a verb as the owner."""
        return await self._kernel.syscalls.call(Caller(None, self._owner), verb, request)

    def follow(self, verb: Verb[Q, A], request: Q) -> AsyncIterator[A]:
        """The answers of a stream verb."""
        return self._kernel.syscalls.follow(Caller(None, self._owner), verb, request)

    # --- following -------------------------------------------------------------------------------

    async def wait(self, refs: Sequence[str], timeout: float | None = None) -> list[AgentInfo]:
        """Return when all of these have ended for good."""
        agents = {self._agent(ref, "waited for").id for ref in refs}
        books = self._kernel.books
        last: dict[str, AgentInfo] = {}
        with anyio.fail_after(timeout):
            while True:
                for agent_id in agents - last.keys():
                    agent = books.committed.agents.get(agent_id)
                    if agent is None:  # removed meanwhile: it has ended, and nobody knows how
                        last[agent_id] = AgentInfo(
                            id=agent_id, name=agent_id, state="terminated", backend="", owner=""
                        )
                    elif agent.over:
                        last[agent_id] = views.info(agent, self._kernel, None)
                if len(last) == len(agents):
                    return [
                        last[agent_id] for agent_id in dict.fromkeys(self._id_of(ref, last) for ref in refs)
                    ]
                await books.next_commit()

    def _id_of(self, ref: str, known: Mapping[str, AgentInfo]) -> str:
        for agent_id, info in known.items():
            if ref in (agent_id, info.name) or agent_id.startswith(ref):
                return agent_id
        return ref

    async def output(
        self, ref: str, *, follow: bool = False, run: int | None = None, tail: int | None = None
    ) -> AsyncIterator[Chunk]:
        """The raw output of a run; following goes on into the next runs."""
        agent = self._agent(ref, "followed")
        number = run or (agent.run.number if agent.run else 0)
        kernel = self._kernel
        while number:
            launch = kernel.launcher.describe(agent, number)
            offsets = None
            if tail is not None:
                offsets = {name: max(0, _size(launch.folder / name) - tail) for name in ("out", "err")}
                tail = None
            async with closing(
                kernel.backends.get(agent.spec.backend).output(launch, offsets, follow=follow)
            ) as chunks:
                async for chunk in chunks:
                    yield chunk
            if not follow or run is not None:
                return
            while True:
                current = kernel.books.committed.agents.get(agent.id)
                if current is None or current.run is None:
                    return
                if current.run.number > number:
                    agent, number = current, current.run.number
                    break
                if current.over:
                    return
                await kernel.books.next_commit()

    async def events(
        self, *, since: int = 0, follow: bool = False, refs: Sequence[str] = (), kinds: Sequence[str] = ()
    ) -> AsyncIterator[EventInfo]:
        """Journal rows after ``since``, in order, without loss or repeat."""
        wanted = {self._id(ref) for ref in refs}
        journal = self._kernel.journal
        while True:
            last = journal.last_seq
            rows = await journal.read(since, limit=_PAGE, kinds=list(kinds) or None)
            for record in rows:
                since = record.seq
                if not wanted or record.agent in wanted:
                    yield self._info(record)
            if len(rows) < _PAGE:
                since = max(since, last)
                if not follow:
                    return
                if journal.last_seq <= since:
                    await self._kernel.books.next_commit()

    async def last_events(self, count: int, refs: Sequence[str] = ()) -> list[EventInfo]:
        """The newest rows worth a person's look, oldest first."""
        agents = [self._id(ref) for ref in refs] or None
        kinds = [kind for kind in EVENTS if kind not in describe.QUIET]
        return [
            self._info(record)
            for record in await self._kernel.journal.tail(count, kinds=kinds, agents=agents)
        ]

    def _info(self, record: Record) -> EventInfo:
        agent = self._kernel.books.committed.agents.get(record.agent) if record.agent else None
        return describe.info(record, agent.name if agent else None)

    async def watch(self, window: Window = "today") -> AsyncIterator[Snapshot | Delta]:
        """One snapshot, then deltas."""
        async with closing(self._kernel.feed.watch(window)) as changes:
            async for change in changes:
                yield change


def _absent(verb: str) -> AgentTopError:
    return AgentTopError(f"this kernel cannot {verb}", "It is being built")


def _size(path: os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
