"""Bringing agents into being: one by ``run``, many by ``up``; and taking a declared fleet down."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from .. import backend
from ..api import FleetRequest, Outcome, RunRequest
from ..errors import AgentTopError, BackendError, Conflict, UsageError
from ..journal import events as ev
from ..journal.books import Books
from ..paths import Paths
from . import beginnings, environ, registry
from .agent import Agent
from .control import Control, failed
from .spec import AgentSpec
from .supervisor import Supervisor

if TYPE_CHECKING:
    from ..workspaces.desk import Workspaces

#: Applies the spec's template, if it names one; its program is looked for in the caller's ``PATH``.
Expand = Callable[[AgentSpec, str | None], AgentSpec]

#: Applies the configuration's defaults where a spec is silent.
Complete = Callable[[AgentSpec], AgentSpec]

#: What a change of does not need a new run.
_SOFT = frozenset(
    {"nice", "labels", "output", "restart", "idle", "stop_grace", "queue", "budget", "providers", "models"}
    | {"mail", "blocks"}
    | {"branch", "base"}  # of a worktree that is made once
)


#: Agents whose first runs are started together, and whose locks are held until all of them are.
TOGETHER = 32


async def _nobody() -> Collection[str]:
    return ()


@dataclass(slots=True)
class _Wanted:
    """One declared agent on its way into the books."""

    spec: AgentSpec
    id: str
    existing: Agent | None = None
    place: list[ev.Event] = field(default_factory=list)
    """The plan of its worktree."""


@dataclass(slots=True)
class Beginning:
    """What a fork begins in."""

    origin: ev.Origin
    bring: Callable[[str], Awaitable[None]]
    """Copies the conversation into the folder of the agent of this id."""


class Creation:
    """Creates agents. What the journal gets has no environment values in it (``environ.veil``)."""

    def __init__(
        self,
        books: Books,
        supervisor: Supervisor,
        control: Control,
        paths: Paths,
        key: bytes,
        expand: Expand,
        complete: Complete,
        key_names: Callable[[], frozenset[str]],
        workspaces: Workspaces,
    ) -> None:
        self._books = books
        self._supervisor = supervisor
        self._control = control
        self._paths = paths
        self._key = key
        self._expand = expand
        self._complete = complete
        self._key_names = key_names
        self._workspaces = workspaces
        self._fleets = anyio.Lock()
        self.remembered: Callable[[], Awaitable[Collection[str]]] = _nobody
        """Ids of agents that are gone and have memory left: nobody else may come to it by their id."""

    # --- one -------------------------------------------------------------------------------------

    async def run(self, request: RunRequest, owner: str, beginning: Beginning | None = None) -> Agent:
        """Create and start one agent; durable and running on return.

        Args:
            beginning: For a fork, whose spec is whole already.

        Raises:
            Conflict: The name is taken.
            UsageError: The spec cannot be started anywhere.
            BackendError: It could not be started; nothing of it is left.
        """
        spec = request.spec if beginning else await self._ready(request.spec, request.environ)
        origin = beginning.origin if beginning else None
        left = await self.remembered()
        while (agent_id := registry.new_id(self._books.pending.agents)) in left:
            pass
        await self._keep_environments([(agent_id, spec)], request.environ)
        try:
            if beginning:
                await beginning.bring(agent_id)
            spec, place = await self._placed(agent_id, spec, request)
            created = self._created(agent_id, spec, owner, None, origin)
            # No await between the look at the names and the post: nobody can take it in between.
            resume = origin.session if origin else None
            starting = ev.RunStarting(agent=agent_id, run=1, by=owner, resume=resume)
            ticket = self._books.post(created, *place, starting)
            await ticket
        except AgentTopError:
            await self._sweep(agent_id)
            raise
        for failure in await self._start_created([agent_id]):
            if failure is not None:
                raise failure
        return self._books.committed.agents[agent_id]

    async def _placed(
        self, agent_id: str, spec: AgentSpec, request: RunRequest
    ) -> tuple[AgentSpec, list[ev.Event]]:
        """The spec with a name, and the plan of its worktree on a branch, that are free as this returns.

        Raises:
            Conflict: The name was given, and is taken.
        """
        while True:
            pending = self._books.pending
            named = spec
            if not request.name_given:
                named = spec.model_copy(update={"name": registry.free_name(pending, spec.name)})
            elif (taken := pending.names.get(spec.name)) is not None:
                raise _taken(spec.name, pending.agents[taken])
            if not spec.worktree:
                return named, []
            place = await self._workspaces.plan(agent_id, named, request.environ)
            if named.name not in self._books.pending.names and self._workspaces.free(place):
                return named, place

    async def _start_created(self, ids: Sequence[str]) -> list[AgentTopError | None]:
        """The first runs of agents that were just written down; what went wrong, in their order."""
        async with contextlib.AsyncExitStack() as locks:
            for agent_id in ids:
                await locks.enter_async_context(self._supervisor.lock(agent_id))
            agents = self._books.pending.agents
            owed = [(agents[agent_id], 1) for agent_id in ids if agent_id in agents]
            found = await self._supervisor.launch_all(owed)
        failures: dict[str, AgentTopError | None] = {
            agent_id: Conflict(f"{agent_id} was not started", "It was removed meanwhile") for agent_id in ids
        }
        failures |= {agent.id: failure for (agent, _), failure in zip(owed, found, strict=True)}
        for agent_id, failure in failures.items():
            if isinstance(failure, BackendError):
                # It never was: a name blocked by something that could not start helps nobody.
                _, facts = await self._workspaces.leave(self._books.pending.agents[agent_id])
                await self._books.record(*facts, ev.AgentRemoved(agent=agent_id, by="kernel"))
                self._supervisor.drop(agent_id)
                await self._sweep(agent_id)
        return [failures[agent_id] for agent_id in ids]

    async def _ready(self, spec: AgentSpec, caller: Mapping[str, str]) -> AgentSpec:
        if spec.template is not None:  # a template is a file, its program is looked for in folders
            spec = await anyio.to_thread.run_sync(self._expand, spec, caller.get("PATH"))
        spec = self._complete(spec)
        backend.load(spec.backend)
        if not spec.command and spec.backend != "docker":
            raise UsageError(f"{spec.name} has no command", "", "Put it after --, or name a --template")
        if spec.parent is not None:
            parent = registry.resolve(self._books.pending, spec.parent)
            spec = spec.model_copy(update={"parent": parent.id})
        return spec

    def _created(
        self,
        agent_id: str,
        spec: AgentSpec,
        owner: str,
        fleet: str | None,
        origin: ev.Origin | None = None,
    ) -> ev.AgentCreated:
        veiled = environ.veil(spec, self._key)
        return ev.AgentCreated(agent=agent_id, spec=veiled, owner=owner, fleet=fleet, origin=origin)

    async def _keep_environments(
        self, agents: Sequence[tuple[str, AgentSpec]], caller: Mapping[str, str]
    ) -> None:
        """Store what each agent's runs will find in their environment, before the agent is made.

        Raises:
            BackendError: The disk does not take it.
        """
        names = self._key_names()

        def store() -> None:
            stripped: dict[tuple[str, ...], dict[str, str]] = {}
            stored: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], Path] = {}
            for agent_id, spec in agents:
                passed, declared = tuple(spec.pass_keys), tuple(sorted(spec.env.items()))
                if passed not in stripped:
                    stripped[passed] = environ.strip(caller, names, passed)
                folder = self._paths.agent_dir(agent_id)
                environ.store(folder, stripped[passed], spec.env, same=stored.get((passed, declared)))
                beginnings.keep(folder, spec.blocks)
                stored.setdefault((passed, declared), folder)

        try:
            await anyio.to_thread.run_sync(store)
        except OSError as error:
            what = agents[0][1].name if len(agents) == 1 else f"{len(agents)} agents"
            raise BackendError(
                f"cannot keep the environment of {what}",
                f"{error.filename}: {error.strerror}",
                "Is the disk full?",
            ) from error

    async def _sweep(self, agent_id: str) -> None:
        folder = self._paths.agent_dir(agent_id)
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))

    # --- a fleet ---------------------------------------------------------------------------------

    async def up(self, request: FleetRequest, owner: str) -> list[Outcome]:
        """Create what is missing, change what differs, leave the rest alone.

        One commit makes all new agents durable; then they start at once, parents before children.
        One fleet at a time: of two who say ``up`` at once the second finds what the first has made.
        """
        async with self._fleets:
            return await self._up(request, owner)

    async def _up(self, request: FleetRequest, owner: str) -> list[Outcome]:
        outcomes: list[Outcome] = []
        wanted: list[_Wanted] = []
        ids: dict[str, str] = {}
        for spec in request.specs:
            try:
                item = await self._plan(spec, request, ids)
            except AgentTopError as error:
                outcomes.append(failed(spec.name, error))
            else:
                wanted.append(item)
                ids[spec.name] = item.id
        outcomes += await self._create(wanted, request, owner)
        outcomes += await self._adjust(wanted, request, owner)
        if request.prune:
            declared = {spec.name for spec in request.specs}
            gone = [a for a in self._of_fleet(request.fleet) if a.name not in declared]
            outcomes += await self._end(gone, owner, grace=None)
        order = {spec.name: index for index, spec in enumerate(request.specs)}
        return sorted(outcomes, key=lambda outcome: order.get(outcome.name or outcome.ref, len(order)))

    async def _plan(self, spec: AgentSpec, request: FleetRequest, ids: Mapping[str, str]) -> _Wanted:
        if spec.parent is not None and spec.parent in ids:
            spec = spec.model_copy(update={"parent": ids[spec.parent]})
            parented = await self._ready_declared(spec, request.environ)
        else:
            parented = await self._ready(spec, request.environ)
        existing_id = self._books.pending.names.get(spec.name)
        existing = self._books.pending.agents[existing_id] if existing_id else None
        if existing is not None and existing.fleet != request.fleet:
            raise _taken(spec.name, existing)
        if existing is not None:
            return _Wanted(parented, existing.id, existing)
        left = await self.remembered()
        while (agent_id := registry.new_id(self._books.pending.agents)) in ids.values() or agent_id in left:
            pass
        place = await self._workspaces.plan(agent_id, parented, request.environ)
        return _Wanted(parented, agent_id, None, place)

    async def _ready_declared(self, spec: AgentSpec, caller: Mapping[str, str]) -> AgentSpec:
        """As ``_ready`` for a spec whose parent is an id that is not in the books yet."""
        ready = await self._ready(spec.model_copy(update={"parent": None}), caller)
        return ready.model_copy(update={"parent": spec.parent})

    async def _create(self, wanted: Sequence[_Wanted], request: FleetRequest, owner: str) -> list[Outcome]:
        new = [item for item in wanted if item.existing is None]
        if not new:
            return []
        try:
            await self._keep_environments([(item.id, item.spec) for item in new], request.environ)
            clashes = [item for item in new if item.spec.name in self._books.pending.names]
            if clashes:
                raise Conflict(f"the name {clashes[0].spec.name} was taken meanwhile", "", "Run it again")
            events: list[ev.Event] = []
            for item in new:
                if not self._workspaces.free([*events, *item.place]):
                    raise Conflict(f"the branch of {item.spec.name} was taken meanwhile", "", "Run it again")
                events.append(self._created(item.id, item.spec, owner, request.fleet))
                events += item.place
                events.append(ev.RunStarting(agent=item.id, run=1, by=owner))
            await self._books.post(*events)
        except AgentTopError:
            for item in new:
                await self._sweep(item.id)
            raise
        outcomes: list[Outcome] = []

        async def start(items: Sequence[_Wanted]) -> None:
            failures = await self._start_created([item.id for item in items])
            for item, failure in zip(items, failures, strict=True):
                name = item.spec.name
                outcomes.append(
                    Outcome(ref=name, id=item.id, name=name, done="created")
                    if failure is None
                    else failed(name, failure)
                )

        async with anyio.create_task_group() as tasks:
            for first in range(0, len(new), TOGETHER):
                tasks.start_soon(start, new[first : first + TOGETHER])
        return outcomes

    async def _adjust(self, wanted: Sequence[_Wanted], request: FleetRequest, owner: str) -> list[Outcome]:
        specs = {item.id: item.spec for item in wanted if item.existing is not None}

        async def adjust(agent: Agent) -> tuple[str, None]:
            spec = environ.veil(specs[agent.id], self._key)
            if spec == agent.spec:
                if agent.live or agent.restart_at is not None:
                    return "unchanged", None
                await self._supervisor.start(agent.id, "start", owner)
                return "started", None
            place = await self._workspaces.plan(agent.id, specs[agent.id], request.environ, agent.worktree)
            await self._keep_environments([(agent.id, specs[agent.id])], request.environ)
            await self._books.commit(ev.AgentChanged(agent=agent.id, spec=spec, by=owner), *place)
            hard = spec.model_dump(exclude=set(_SOFT)) != agent_before[agent.id].model_dump(
                exclude=set(_SOFT)
            )
            if hard or not agent.live:
                await self._control.restart(agent, owner)
            elif run := self._supervisor.runs.get(agent.id):
                await run.backend.renice(run.ref, spec.nice)
            return "changed", None

        agent_before = {item.id: item.existing.spec for item in wanted if item.existing is not None}
        return await self._control.each(list(specs), adjust)

    def _of_fleet(self, fleet: str) -> list[Agent]:
        return [agent for agent in self._books.pending.agents.values() if agent.fleet == fleet]

    async def down(self, fleet: str, owner: str, grace: float | None) -> list[Outcome]:
        """Stop and remove what a fleet file declared, children before parents."""
        async with self._fleets:
            return await self._end(self._of_fleet(fleet), owner, grace)

    async def _end(self, agents: Sequence[Agent], owner: str, grace: float | None) -> list[Outcome]:
        async def end(agent: Agent) -> tuple[str, dict[str, Any] | None]:
            await self._control.stop(agent, "stop", grace, owner)
            return await self._control.remove(self._books.pending.agents.get(agent.id, agent), owner)

        return await self._control.each([agent.id for agent in reversed(agents)], end)


def _taken(name: str, agent: Agent) -> Conflict:
    return Conflict(
        f"the name {name} is taken",
        f"Agent {agent.id} has it and is {agent.shown}",
        "Choose another name, or remove that agent with agenttop rm",
    )
