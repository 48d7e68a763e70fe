"""``HostsClient``: one ``KernelClient`` over the kernels of several hosts.

Lines are kept by tasks of its own, so it is used as a context manager (``async with``). Reading asks
every host that is there; acting asks the hosts its references mean, and one that is away fails at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import anyio
import anyio.abc

from ..client import KernelClient
from ..errors import KernelUnreachable
from . import following, streams
from .address import terminal_argv
from .asking import Asking
from .elsewhere import moved_fleet, moved_run
from .host import Host
from .naming import Names
from .totals import costly_first, together

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
        StopRequest,
        Target,
        TemplateInfo,
        TranscriptReport,
        TranscriptRequest,
        UsageRequest,
        UsageRow,
        WorkspaceInfo,
    )
    from ..api.verbs import A, Q, Verb
    from ..backend import Chunk
    from ..table import Delta, EventInfo, Snapshot, Window


class HostsClient(Asking, KernelClient):
    """The kernels of ``hosts`` (at least one) as if they were one.

    With one host, references, ids and event numbers are that kernel's own; with several, ids are
    ``host/id`` (see ``naming``) and event numbers this client's (see ``marks``).
    """

    def __init__(self, hosts: Sequence[Host]) -> None:
        super().__init__(hosts)
        self._last: dict[str, list[EventInfo]] = {}
        """The newest events of each host, when they were asked for last."""
        self._stack = AsyncExitStack()
        self._tasks: anyio.abc.TaskGroup | None = None

    # --- life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Call the hosts; returns when each is there or has failed its first call."""
        group = await self._stack.enter_async_context(anyio.create_task_group())
        try:
            await group.start(self._live)
            for host in self.hosts:
                await host.known()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
        cancelled = isinstance(error, anyio.get_cancelled_exc_class())
        # An error of the caller's own goes on as itself, not in a bundle.
        await self._stack.__aexit__(*((kind, error, trace) if cancelled else (None, None, None)))
        for host in self.hosts:
            host.dispose()

    async def _live(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """The lines, and everything that follows them."""
        async with anyio.create_task_group() as self._tasks:
            for host in self.hosts:
                self._tasks.start_soon(host.keep)
            task_status.started()
            await anyio.sleep_forever()

    async def close(self) -> None:
        """Hang up; streams that still run end."""
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def try_now(self) -> None:
        """A person asked: call hosts that are away without waiting."""
        for host in self.hosts:
            host.try_now()

    # --- looking ---------------------------------------------------------------------------------

    async def status(self) -> KernelStatus:
        """Of one host its kernel; of several, the first that is there, with sums."""
        found = await self._every(lambda client, names: client.status())
        for host, status in found:
            self._saw(host, status.seq)
        first = found[0][1]
        ails = "; ".join(f"{host.label}: {status.problem}" for host, status in found if status.problem)
        return first.model_copy(
            update={
                "agents": sum(status.agents for _, status in found),
                "seq": self._mark(),
                "healthy": all(status.healthy for _, status in found),
                "problem": ails if self._routes.several else first.problem,
            }
        )

    async def agents(self, *, all: bool = False, pids: bool = True) -> list[AgentInfo]:
        """The agents of every host that is there."""
        return await self._lists(lambda client: client.agents(all=all, pids=pids), Names.agent)

    async def inspect(self, ref: str) -> AgentDetail:
        """Everything about one agent."""
        return await self._one(ref, lambda client, bare: client.inspect(bare), Names.detail)

    async def kill_plan(self, request: Target) -> KillPlan:
        """What a kill would end, everywhere."""
        found = await self._targets(request, lambda client, part: client.kill_plan(part))
        plans = [self._names(host).plan(plan) for host, plan in found]
        first, *rest = plans
        for plan in rest:
            first = first.model_copy(
                update={
                    "agents": [*first.agents, *plan.agents],
                    "processes": first.processes | plan.processes,
                    "containers": first.containers | plan.containers,
                    "calls_in_flight": first.calls_in_flight + plan.calls_in_flight,
                    "waiting_for_it": [*first.waiting_for_it, *plan.waiting_for_it],
                    "untouched": first.untouched + plan.untouched,
                    "grace": max(first.grace, plan.grace),
                    "impossible": plan.impossible | first.impossible,
                }
            )
        return first

    async def templates(self) -> list[TemplateInfo]:
        """Those of the first host that is there."""
        return (await self._every(lambda client, names: client.templates()))[0][1]

    async def checks(self) -> list[CheckInfo]:
        """What doctor can only learn inside the kernels."""
        return await self._lists(lambda client: client.checks(), Names.check)

    async def agent_checks(self) -> list[CheckInfo]:
        """What the readers of agent CLIs found there."""
        return await self._lists(lambda client: client.agent_checks(), Names.check)

    async def workspace(self, ref: str, detail: Literal["", "diff", "losses"] = "") -> WorkspaceInfo:
        """Where an agent works, and what it has changed there."""
        return await self._one(ref, lambda client, bare: client.workspace(bare, detail))

    # --- acting ----------------------------------------------------------------------------------

    async def run(self, request: RunRequest) -> AgentInfo:
        """Start one agent: on its parent's host, on the host it names, or on the only one.

        On another machine it gets the environment of the login there instead of this one's.
        """
        parent = request.spec.parent
        host = self._named(request.host)
        if parent is not None and (host is None or "/" in parent):
            host, parent = await self._routes.split(parent)
        host = self._the(host, "where the agent is to run")
        names = self._names(host)
        spec = request.spec.model_copy(update={"parent": None if parent is None else names.bare(parent)})
        moved = moved_run(request.model_copy(update={"spec": spec, "host": ""}), host.there)
        return names.agent(await host.client.run(moved))

    async def fork(self, request: ForkRequest) -> AgentInfo:
        """Begin a new agent in the conversation of another, beside it."""
        return await self._one(
            request.ref,
            lambda client, bare: client.fork(request.model_copy(update={"ref": bare})),
            Names.agent,
        )

    async def up(self, request: FleetRequest) -> list[Outcome]:
        """Bring a fleet up on the only host."""
        host = self._the(None, "where the fleet is to run")
        return await host.client.up(moved_fleet(request, host.there))

    async def down(self, fleet: str, grace: float | None = None) -> list[Outcome]:
        """Stop and remove what a fleet file declared, on the only host."""
        return await self._the(None, "where the fleet runs").client.down(fleet, grace)

    async def pause(self, request: PauseRequest) -> list[Outcome]:
        """Freeze or hold."""
        return await self._act(request, lambda client, part: client.pause(part))

    async def resume(self, request: Target) -> list[Outcome]:
        """Undo freeze and hold."""
        return await self._act(request, lambda client, part: client.resume(part))

    async def stop(self, request: StopRequest) -> list[Outcome]:
        """Stop or kill."""
        return await self._act(request, lambda client, part: client.stop(part))

    async def signal(self, request: SignalRequest) -> list[Outcome]:
        """Send one signal."""
        return await self._act(request, lambda client, part: client.signal(part))

    async def restart(self, request: Target) -> list[Outcome]:
        """Start new runs."""
        return await self._act(request, lambda client, part: client.restart(part))

    async def nice(self, request: NiceRequest) -> list[Outcome]:
        """Set the scheduling priority."""
        return await self._act(request, lambda client, part: client.nice(part))

    async def remove(self, request: RemoveRequest) -> list[Outcome]:
        """Take ended agents off the table."""
        return await self._act(request, lambda client, part: client.remove(part))

    async def prune(self) -> list[Outcome]:
        """Take all ended agents off the table, on every host that is there."""
        return await self._lists(lambda client: client.prune(), Names.outcome)

    async def write(self, ref: str, data: bytes | None) -> None:
        """Write to an agent's stdin."""
        await self._one(ref, lambda client, bare: client.write(bare, data))

    async def attach(self, ref: str) -> AttachInfo:
        """How to get in front of an agent's terminal from this machine: over ssh, where it is elsewhere."""
        host, bare = await self._routes.split(ref)
        info = await host.client.attach(bare)
        self._saw(host, info.seq)
        argv = info.argv
        if not host.address.local:
            argv = terminal_argv(host.address, host.reach, argv)
        return self._names(host).attach(info, argv, self._marks.alone(info.seq))

    async def press(self, request: PressRequest) -> None:
        """Press keys in an agent's terminal."""
        await self._one(
            request.ref, lambda client, bare: client.press(request.model_copy(update={"ref": bare}))
        )

    async def history(self, ref: str, lines: int = 1_000) -> HistoryInfo:
        """What an agent's terminal shows and showed."""
        return await self._one(ref, lambda client, bare: client.history(bare, lines), Names.history)

    async def wait(self, refs: Sequence[str], timeout: float | None = None) -> list[AgentInfo]:
        """Return when all of these have ended for good, however often a line is lost meanwhile."""
        places = [await self._routes.split(ref) for ref in refs]
        found: dict[tuple[str, str], AgentInfo] = {}

        async def of(host: Host) -> None:
            bare = list(dict.fromkeys(one for its, one in places if its is host))
            ended = await streams.persistently(host, lambda client: client.wait(bare))
            for ref, info in zip(bare, ended, strict=True):
                found[host.label, ref] = self._names(host).agent(info)

        with anyio.fail_after(timeout):
            await streams.side_by_side(of, {host.label: host for host, _ in places}.values())
        return [found[host.label, bare] for host, bare in places]

    async def supply(self, keys: Mapping[str, str]) -> None:
        """Give the only host's kernel provider keys; they are never sent anywhere unasked."""
        await self._the(None, "which kernel gets the keys").client.supply(keys)

    async def shutdown(self, *, restart: bool = False) -> None:
        """End the only host's kernel."""
        await self._the(None, "which kernel is meant").client.shutdown(restart=restart)

    # --- money, calls, providers -----------------------------------------------------------------

    async def budgets(self) -> list[BudgetInfo]:
        """Every host's budgets."""
        return await self._lists(lambda client: client.budgets(), Names.budget)

    async def set_budget(self, request: BudgetRequest) -> BudgetInfo:
        """Make or replace a budget on the host of its agent, or of its name."""
        target = request.budget.target if request.budget.scope == "agent" else ""
        host = self._routes.of_budget(request.budget.name, target)
        names = self._names(host)
        return names.budget(await host.client.set_budget(names.budget_request(request)))

    async def extend_budget(self, request: ExtendRequest) -> BudgetInfo:
        """Add to a budget's limit."""
        host = self._routes.of_budget(request.name)
        names = self._names(host)
        bare = request.model_copy(update={"name": names.bare_budget(request.name)})
        return names.budget(await host.client.extend_budget(bare))

    async def remove_budget(self, name: str) -> None:
        """Take a budget away."""
        host = self._routes.of_budget(name)
        await host.client.remove_budget(self._names(host).bare_budget(name))

    async def approvals(self) -> list[ApprovalInfo]:
        """What waits for a decision anywhere, oldest first."""
        found = await self._lists(lambda client: client.approvals(), Names.approval)
        return sorted(found, key=lambda approval: approval.since)

    async def answer(self, request: AnswerRequest) -> list[Outcome]:
        """Decide about held calls."""
        return await self._act(request, lambda client, part: client.answer(part))

    async def model_calls(self, request: CallsRequest) -> list[CallInfo]:
        """Model calls of every host one by one, newest last."""
        found = await self._asked(
            request, lambda client, part: client.model_calls(part), lambda names, call: names.call(call)
        )
        found.sort(key=lambda call: call.started)
        return found[-request.limit :]

    async def usage(self, request: UsageRequest) -> list[UsageRow]:
        """Sums over settled calls; equal keys of several hosts are one row."""
        found = await self._asked(
            request, lambda client, part: client.usage(part), lambda names, row: names.usage(row, request.by)
        )
        return sorted(together(found), key=lambda row: row.keys) if self._routes.several else found

    async def transcripts(self, request: TranscriptRequest) -> TranscriptReport:
        """Sums over the transcripts of every host."""
        there = request.model_copy(update={"environ": {}})
        found = await self._every(
            lambda client, names: client.transcripts(
                request if self._routes.hosts[names.label].address.local else there
            )
        )
        first = found[0][1]
        if not self._routes.several:
            return first
        return first.model_copy(
            update={
                "rows": costly_first(
                    together([row for _, report in found for row in report.rows]), request.by
                ),
                "total": together([report.total for _, report in found])[0],
                "files": sum(report.files for _, report in found),
                "problems": sum(report.problems for _, report in found),
            }
        )

    async def providers(self) -> list[ProviderInfo]:
        """Every host's providers."""
        return await self._lists(lambda client: client.providers(), Names.provider)

    async def halt(self) -> HaltInfo:
        """The kill switch, on every host that is there."""
        return self._halted(await self._every(lambda client, names: client.halt()))

    async def unhalt(self) -> HaltInfo:
        """Undo ``halt`` on every host that is there."""
        return self._halted(await self._every(lambda client, names: client.unhalt()))

    # --- the bus, memory, and what agents ask ----------------------------------------------------

    async def call(self, verb: Verb[Q, A], request: Q) -> A:
        """Ask a verb of the host that the request names, or its agent's, or the only one."""
        host, bare = await self._meant(verb, request)
        return await host.client.call(verb, bare)

    async def follow(self, verb: Verb[Q, A], request: Q) -> AsyncIterator[A]:
        """The answers of a stream verb of one host."""
        host, bare = await self._meant(verb, request)
        async with following.closing(host.client.follow(verb, bare)) as answers:
            async for answer in answers:
                yield answer

    async def _meant(self, verb: Verb[Q, A], request: Q) -> tuple[Host, Q]:
        ref = getattr(request, verb.ref) if verb.ref else ""
        if ref and not request.host:
            host, bare = await self._routes.split(ref)
            return host, request.model_copy(update={verb.ref: bare})
        host = self._the(self._named(request.host), f"which host's {verb.name.partition('.')[0]} is meant")
        return host, request.model_copy(update={"host": ""})

    # --- following -------------------------------------------------------------------------------

    async def output(
        self, ref: str, *, follow: bool = False, run: int | None = None, tail: int | None = None
    ) -> AsyncIterator[Chunk]:
        """The raw output of a run; followed, it goes on after a lost line without gap or repeat."""
        host, bare = await self._routes.split(ref)
        if follow:
            source = following.output(host, bare, run, tail)
        else:
            source = host.client.output(bare, run=run, tail=tail)
        async with following.closing(source) as chunks:
            async for chunk in chunks:
                yield chunk

    async def events(
        self, *, since: int = 0, follow: bool = False, refs: Sequence[str] = (), kinds: Sequence[str] = ()
    ) -> AsyncIterator[EventInfo]:
        """Rows of every journal after ``since``, each once, each journal's in its order; followed, they go
        on after a lost line where they were."""
        places = self._marks.places(since)
        asked = await self._refs(refs)
        if follow and self._tasks is not None:
            source = streams.followed(self._tasks, asked, places, list(kinds), self._routes.hosts)
        else:
            there = [host for host in self._there() if host.label in asked]
            source = streams.merged(there, asked, places, list(kinds))
        async with following.closing(source) as rows:
            async for host, event in rows:
                places[host.label] = event.seq
                self._saw(host, event.seq)
                yield self._names(host).event(event, self._marks.of(places))

    async def last_events(self, count: int, refs: Sequence[str] = ()) -> list[EventInfo]:
        """The newest rows worth a look of all hosts that are there, oldest first."""
        asked = await self._refs(refs)
        found = await self._every(
            lambda client, names: client.last_events(count, asked[names.label]), among=set(asked)
        )
        kept = {host.label: events for host, events in found}
        if not refs:
            # A host that is away keeps its place among the newest.
            self._last |= kept
            kept = self._last
        found = [(host, kept[host.label]) for host in self.hosts if host.label in kept]
        rows = [(host, event) for host, events in found for event in events]
        rows.sort(key=lambda pair: pair[1].ts)
        places = {host.label: events[0].seq - 1 for host, events in found if events}
        # A host of which nothing is listed goes on from what is known of it, or from when it comes.
        missing = dict.fromkeys(self._routes.hosts, streams.FROM_NOW) | self._seen
        places = {**missing, **places}
        told: list[EventInfo] = []
        for host, event in rows:
            places[host.label] = event.seq
            self._saw(host, event.seq)
            told.append(self._names(host).event(event, self._marks.of(places)))
        return told[-count:]

    async def watch(self, window: Window = "today") -> AsyncIterator[Snapshot | Delta]:
        """One table of all hosts, rows of those that are away as last seen; a lost line does not end it."""
        if self._tasks is None:
            raise KernelUnreachable("the hosts have not been called")
        async with following.closing(
            streams.watched(self._tasks, self.hosts, self._routes.names, window, self._saw)
        ) as changes:
            async for change in changes:
                yield change

    def _halted(self, found: Sequence[tuple[Host, HaltInfo]]) -> HaltInfo:
        first = found[0][1]
        if not self._routes.several:
            return first
        return first.model_copy(
            update={
                "halted": all(info.halted for _, info in found),
                "calls_held": sum(info.calls_held for _, info in found),
                "frozen": [self._names(host).outcome(one) for host, info in found for one in info.frozen],
                "calls_seconds": max(info.calls_seconds for _, info in found),
                "seconds": max(info.seconds for _, info in found),
            }
        )
