"""What people do to agents that somebody else started, as far as the system lets them.

The same verbs with the same outcomes and proofs as for managed agents. What is done stands in the journal;
a freeze does before the first signal, so that no kernel forgets whom it stopped.
"""

from __future__ import annotations

import logging
import signal as signals
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeVar
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread

from ..agents import registry
from ..agents.agent import ObservedFreeze
from ..agents.control import ended, failed, proof_of
from ..agents.supervisor import Supervisor
from ..api import AgentDetail, AgentInfo, KillPlan, Outcome, Target
from ..clock import Clock
from ..errors import AgentTopError, AmbiguousAgent, BackendError, Conflict, JournalUnavailable, NoSuchAgent
from ..journal import events as ev
from ..journal.books import Books
from . import rows, views
from .acts import Acts
from .contract import Child, Found
from .gauges import Tree
from .proc import Key, Stat, read, stat
from .processes import describe
from .sightings import Sightings
from .watch import Observed, is_id, name

log = logging.getLogger(__name__)

T = TypeVar("T")
Done = tuple[str, dict[str, Any] | None]
Act = Callable[[Observed], Awaitable[Done]]

#: Seconds between TERM and KILL where nobody says otherwise: no spec does.
GRACE = 10.0
#: At so many trees something is done at once.
_AT_ONCE = 32


class ObservedControl:
    """The verbs on observed agents, and who of those that are asked for is one."""

    def __init__(
        self, books: Books, sightings: Sightings, supervisor: Supervisor, clock: Clock, boot: str
    ) -> None:
        self._books = books
        self._sightings = sightings
        self._supervisor = supervisor
        self._clock = clock
        self._boot = boot
        # Threads of their own: ending many takes as long as their graces, and others want to go on.
        self._threads = anyio.CapacityLimiter(_AT_ONCE)
        self._locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    # --- who is meant ----------------------------------------------------------------------------

    async def each(
        self, target: Target, managed: Callable[[list[str]], Awaitable[list[Outcome]]], act: Act
    ) -> list[Outcome]:
        """Do ``act`` to the observed agents among those asked for, and let ``managed`` do the rest.

        ``all`` means all managed agents: nobody ends what others started by accident.
        """
        if target.all:
            return await managed(list(target.refs))
        chosen, rest = await self.split(target.refs)
        outcomes: list[list[Outcome]] = [[] for _ in range(len(chosen) + 1)]

        async def others() -> None:
            outcomes[0] = await managed(rest)

        async def one(place: int, ref: str, agent: Observed | AgentTopError) -> None:
            outcomes[place] = [await self._one(ref, agent, act)]

        async with anyio.create_task_group() as tasks:
            if rest or not chosen:
                tasks.start_soon(others)
            for place, (ref, agent) in enumerate(chosen.items(), 1):
                tasks.start_soon(one, place, ref, agent)
        return [outcome for part in outcomes for outcome in part]

    async def split(self, refs: Sequence[str]) -> tuple[dict[str, Observed | AgentTopError], list[str]]:
        """The observed agents that are meant, by reference, and the references that mean others.

        A subagent is an error: it has no process of its own.
        """
        chosen: dict[str, Observed | AgentTopError] = {}
        rest = []
        for ref in refs:
            found = await self.sighted(ref)
            if found is None:
                rest.append(ref)
            elif isinstance(found, Observed):
                if not any(found.id == other.id for other in chosen.values() if isinstance(other, Observed)):
                    chosen[ref] = found
            else:
                chosen[ref] = found if isinstance(found, AgentTopError) else subagent(*found)
        return chosen, rest

    async def sighted(self, ref: str) -> Observed | tuple[Observed, Child] | AgentTopError | None:
        """Who is observed under this reference; ``None``: it means a managed agent, or nobody."""
        try:
            registry.resolve(self._books.committed, ref)
        except AmbiguousAgent:
            return None
        except NoSuchAgent:
            try:
                return await self._sightings.known(ref)
            except NoSuchAgent:
                return self._remembered(ref)
            except AgentTopError as error:
                return error
        return None

    def _remembered(self, ref: str) -> Observed | None:
        """A frozen one that is not looked for any more: it must be possible to let it go."""
        for key, freeze in self._books.committed.observed.items():
            if ref in (key, freeze.name):
                main = freeze.processes[0]
                process = describe(main[0], read(f"/proc/{main[0]}/cmdline"), 0.0)
                if process is not None and process.key == main:
                    return Observed(key, freeze.observer, (process,), None, None, None)
        return None

    def managed_only(self, ref: str, verb: str) -> None:
        """Refuse what only a managed agent can have done to it; ``verb`` is a past participle.

        Raises:
            Conflict: The reference means an observed agent of the last look, or a subagent.
        """
        found = self._sightings.find(ref)
        if isinstance(found, Observed):
            raise refusal(found, verb)
        if found is not None:
            raise subagent(*found)

    def id_of(self, ref: str) -> str:
        """The id of an observed agent, of a subagent, or of one that ended and whose full id this is.

        Raises:
            NoSuchAgent: It cannot be one.
        """
        found = self._sightings.find(ref)
        if isinstance(found, Observed):
            return found.id
        if found is not None:
            return rows.child_id(*found)
        if is_id(ref):
            return ref
        raise NoSuchAgent(f"no agent {ref[:80]!r}", "", "`agenttop ps --all` lists every agent")

    async def infos(self, *, pids: bool = True) -> list[AgentInfo]:
        """All observed agents and their subagents, looked at now."""
        await self._sightings.look()
        return await self._shown(partial(views.infos, self._sightings, self._clock.time(), pids=pids))

    async def detail(self, ref: str) -> AgentDetail | None:
        """Everything about an observed agent or a subagent; ``None``: the reference means no such.

        Raises:
            AmbiguousAgent: A prefix of several ids.
        """
        found = await self.sighted(ref)
        if found is None:
            return None
        if isinstance(found, AgentTopError):
            raise found
        now = self._clock.time()
        if isinstance(found, Observed):
            return await self._shown(partial(views.detail, self._sightings, found, now))
        return await self._shown(partial(views.child_detail, self._sightings, *found, now))

    async def kill_plan(
        self, request: Target, managed: Callable[[list[str]], Awaitable[KillPlan]]
    ) -> KillPlan:
        """What a kill would end and leave, of both kinds.

        Raises:
            AgentTopError: What one of the references means is no agent with processes.
        """
        chosen, rest = ({}, list(request.refs)) if request.all else await self.split(request.refs)
        agents = []
        for agent in chosen.values():
            if isinstance(agent, AgentTopError):
                raise agent
            agents.append(agent)
        others = await managed(rest) if rest or not agents else None
        if not agents:
            return others or await managed(rest)
        own = await self._shown(partial(views.plan, self._sightings, agents, self._clock.time()))
        return views.joined(others, own)

    async def _one(self, ref: str, agent: Observed | AgentTopError, act: Act) -> Outcome:
        if isinstance(agent, AgentTopError):
            return failed(ref, agent)
        try:
            done, proof = await act(agent)
        except AgentTopError as error:
            return failed(ref, error).model_copy(update={"id": agent.id, "name": name(agent)})
        survivors = bool(proof and proof.get("survivors"))
        return Outcome(
            ref=ref, id=agent.id, name=name(agent), done=done, proof=proof, exit_code=int(survivors)
        )

    # --- pause -----------------------------------------------------------------------------------

    async def freeze(self, agent: Observed, by: str) -> Done:
        """Stop the whole tree in RAM, with proof.

        Raises:
            Conflict: It has ended.
            BackendError: Not every process could be stopped (those that were run on again), or may be.
        """
        async with self._lock(agent.id):
            acts = await self._acts(agent, "frozen")
            asked = ev.ObservedPaused(
                agent=agent.id,
                name=name(agent),
                by=by,
                observer=agent.observer,
                boot_id=self._boot,
                processes=await self._keys(agent, acts),
            )
            await self._books.commit(asked)
            try:
                frozen = await self._thread(acts.freeze)
                if not frozen.complete or not frozen.total:
                    raise BackendError(
                        f"{name(agent)} is not frozen",
                        f"Only {frozen.frozen} of {frozen.total} processes stopped, so all were let go again",
                    )
            except (BackendError, OSError):
                # Nothing is called resumed that may be stopped: if this fails too, it stays in the books.
                await self._thread(acts.thaw)
                await self._books.record(ev.ObservedResumed(agent=agent.id, name=name(agent), by="kernel"))
                raise
            proven = {
                "processes": await self._keys(agent, acts),
                "frozen": frozen.frozen,
                "total": frozen.total,
                "mechanism": frozen.mechanism,
                "seconds": frozen.seconds,
            }
            await self._supervisor.happened(asked.model_copy(update=proven))
        await self._sightings.look()
        return f"frozen {frozen.frozen}/{frozen.total}", frozen._asdict()

    async def resume(self, agent: Observed, by: str) -> Done:
        """Let the whole tree go on, whoever stopped it.

        Raises:
            BackendError: Not every process goes on, or may be told to.
        """
        async with self._lock(agent.id):
            acts = await self._acts(agent, "resumed")
            stopped, total = await self._thread(acts.stopped)
            recorded = agent.id in self._books.pending.observed
            if not stopped and not recorded:
                return "not paused", None
            thawed = await self._thread(acts.thaw)
            if not thawed.complete and not thawed.background:
                raise BackendError(
                    f"{name(agent)} is not resumed", f"Only {thawed.going} of {total} processes go on"
                )
            await self._supervisor.happened(ev.ObservedResumed(agent=agent.id, name=name(agent), by=by))
        await self._sightings.look()
        if thawed.background:
            return "resumed, but its shell took the terminal back: type fg there", None
        return "resumed", None

    # --- ending ----------------------------------------------------------------------------------

    async def stop(self, agent: Observed, how: Literal["stop", "kill"], grace: float | None, by: str) -> Done:
        """End the whole tree, with proof.

        Raises:
            Conflict: It has ended (``kill`` only).
            BackendError: Part of it may not be signalled.
        """
        if grace is None:
            grace = GRACE if how == "stop" else 0.0
        async with self._lock(agent.id):
            try:
                acts = await self._acts(agent, "stopped" if how == "stop" else "killed")
            except Conflict:
                if how == "kill":
                    raise
                return "not running", None
            first = self._books.journal.last_seq + 1
            await self._books.commit(
                ev.ObservedStopRequested(agent=agent.id, name=name(agent), by=by, how=how)
            )
            killed = await self._thread(partial(acts.stop, grace))
            await self._supervisor.happened(
                ev.ObservedKillProven(
                    agent=agent.id,
                    name=name(agent),
                    by=by,
                    processes=killed.processes,
                    ended=killed.ended,
                    survivors=list(killed.survivors),
                    mechanism=killed.mechanism,
                    seconds=killed.seconds,
                )
            )
        await self._sightings.look()
        return ended(how, killed), proof_of(killed, first, self._books.journal.last_seq)

    # --- the rest --------------------------------------------------------------------------------

    async def signal(self, agent: Observed, signum: int, by: str) -> Done:
        """Send one signal to the program: below a shim that is its worker, for shims pass signals on."""
        acts = await self._acts(agent, "signalled")
        parents = {process.ppid for process in agent.processes}
        keys = [process.key for process in agent.processes if process.pid not in parents]
        count = await self._thread(partial(acts.signal, signum, keys))
        await self._books.commit(
            ev.ObservedSignalled(agent=agent.id, name=name(agent), by=by, signal=signum, processes=count)
        )
        return f"{signals.Signals(signum).name} sent to {count}", None

    async def nice(self, agent: Observed, value: int | None, delta: int | None, by: str) -> Done:
        """Set the system's nice value of its processes, or move it; its model calls are not scheduled here.

        Raises:
            BackendError: This user may not, for some of them.
        """
        acts = await self._acts(agent, "reniced")
        main = await self._thread(partial(stat, agent.main.pid))
        now = main.nice if main is not None else 0
        wanted = value if value is not None else max(-20, min(19, now + (delta or 0)))
        done, total = await self._thread(partial(acts.renice, wanted))
        await self._books.commit(
            ev.ObservedReniced(agent=agent.id, name=name(agent), by=by, nice=wanted, processes=done)
        )
        if done < total:
            raise BackendError(
                f"{name(agent)} is not reniced",
                f"{total - done} of {total} processes did not take nice {wanted}",
                "Only root may give more than the usual share",
            )
        await self._sightings.look()
        return f"nice {wanted}", None

    async def refuse(self, agent: Observed, verb: str) -> Done:
        """What only a managed agent can have done to it.

        Raises:
            Conflict: Always.
        """
        raise refusal(agent, verb)

    # --- between the looks -----------------------------------------------------------------------

    async def noticed(self) -> None:
        """Compare the last look with the books: frozen agents that ended, or that somebody else let go."""
        look = self._sightings.last
        for key, freeze in list(self._books.committed.observed.items()):
            if key in self._locks or not freeze.total or look.frozen.get(key) is not freeze:
                continue
            main = _alive(freeze.processes[0])
            if main is None:
                detail = await self._left_behind(freeze)
            elif not (tree.stopped if (tree := look.trees.get(key)) else main.stopped):
                detail = "let go by somebody else"
            else:
                continue
            try:
                await self._books.commit(ev.ObservedResumed(agent=key, name=freeze.name, detail=detail))
            except JournalUnavailable:
                return  # it is noticed again

    async def _left_behind(self, freeze: ObservedFreeze) -> str:
        """Let go what an agent that ended while it was frozen left stopped: nobody else knows of it.

        Not what is another agent's now, as a worker is whose shim died: its row says that it is stopped.
        """
        shown = {key for tree in self._sightings.last.trees.values() for key in tree.keys}
        left = [key for key in freeze.processes[1:] if key not in shown and _alive(key)]
        if not left:
            return "ended while frozen"
        thawed = await self._thread(Acts(left[0], left[1:]).thaw)
        return f"ended while frozen; {thawed.total} processes that it left were let go"

    async def finish(self) -> None:
        """Go on with freezes that the last kernel's end cut: they were asked for, and not proven.

        What ended since is forgotten, also where nobody looks for observed agents any more.
        """
        for key, freeze in list(self._books.committed.observed.items()):
            async with self._lock(key):
                try:
                    if _alive(freeze.processes[0]) is None:
                        detail = await self._left_behind(freeze)
                        await self._books.record(
                            ev.ObservedResumed(agent=key, name=freeze.name, detail=detail)
                        )
                    elif not freeze.total:
                        await self._frozen_again(key, freeze)
                except OSError as error:  # no descriptors left: it stays in the books, and can be resumed
                    log.warning("the freeze of %s was not finished: %s", freeze.name, error)

    async def _frozen_again(self, key: str, freeze: ObservedFreeze) -> None:
        acts = Acts(freeze.processes[0], freeze.processes)
        frozen = await self._thread(acts.freeze)
        if not frozen.complete or not frozen.total:
            await self._thread(acts.thaw)
            await self._books.record(ev.ObservedResumed(agent=key, name=freeze.name, by="kernel"))
            return
        main = freeze.processes[0]
        rest = [process.key for process in await self._thread(acts.look) if process.key != main]
        proven = ev.ObservedPaused(
            agent=key,
            name=freeze.name,
            by=freeze.by,
            observer=freeze.observer,
            boot_id=freeze.boot_id,
            processes=[main, *rest],
            frozen=frozen.frozen,
            total=frozen.total,
            mechanism=frozen.mechanism,
            seconds=frozen.seconds,
        )
        await self._books.record(proven)

    # --- pieces ----------------------------------------------------------------------------------

    def _lock(self, agent: str) -> anyio.Lock:
        lock = self._locks.get(agent)
        if lock is None:
            lock = self._locks[agent] = anyio.Lock()
        return lock

    async def _thread(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call, limiter=self._threads)

    async def _shown(self, call: Callable[[], T]) -> T:
        """Off the event loop: the first price that is asked for reads the price lists."""
        return await anyio.to_thread.run_sync(call)

    async def _acts(self, agent: Observed, done: str) -> Acts:
        """The tree as it was last seen, and was when it was frozen; checked that we may act on all of it."""
        known: list[Key] = [process.key for process in agent.processes]
        tree = self._sightings.last.trees.get(agent.id)
        known += await self._thread(partial(stayed, agent.main, tree)) if tree is not None else ()
        freeze = self._books.pending.observed.get(agent.id)
        known += freeze.processes if freeze is not None else ()
        acts = Acts(agent.main.key, known, self._clock.time)
        forbidden = await self._thread(acts.forbidden)
        if forbidden:
            whose = rows.account(agent.main.uid)
            pids = " ".join(str(process.pid) for process in forbidden[:8])
            raise BackendError(
                f"{name(agent)} cannot be {done}",
                f"It belongs to {whose}, and this user may not signal its processes ({pids})",
                "Only its owner and root may",
            )
        if not await self._thread(acts.look):
            raise Conflict(f"{name(agent)} cannot be {done}", "It has ended")
        return acts

    async def _keys(self, agent: Observed, acts: Acts) -> list[Key]:
        found = await self._thread(acts.look)
        rest = sorted(process.key for process in found if process.key != agent.main.key)
        return [agent.main.key, *rest]


def _alive(key: Key) -> Stat | None:
    """The process, unless it has ended or the pid is another's."""
    found = stat(key[0])
    return found if found is not None and found.key == key and found.alive else None


def stayed(main: Found, tree: Tree) -> list[Key]:
    """Those of a tree, as it was, that are still in it by their session, wherever their parents are.

    What descends from the agent is found without that; what has put itself into a session of its own and
    away from its parent since has left it.
    """
    sessions = {process.session for process in tree.processes if process.key == main.key}
    return [key for key in tree.keys if (now := _alive(key)) is not None and now.session in sessions]


def refusal(agent: Observed, verb: str) -> Conflict:
    """The error for what only a managed agent can have done to it; ``verb`` is a past participle."""
    why = {
        "held": "so its model calls do not pass the gateway",
        "given a budget": "so its model calls do not pass the gateway",
        "restarted": "so how it was started is not known",
        "followed": "so its output is not kept here",
        "attached to": "so its terminal is not ours",
        "removed": "and leaves the table by itself when it ends",
    }.get(verb, "")
    text = "It is observed: not started by this kernel"
    return Conflict(
        f"{name(agent)} cannot be {verb}",
        f"{text}, {why}" if why else text,
        "Freeze, resume, stop, kill, signal and nice work on it",
    )


def subagent(agent: Observed, child: Child) -> Conflict:
    """The error for a verb on a subagent."""
    return Conflict(
        f"{rows.child_name(agent, child)} has no process of its own",
        f"It is a subagent inside {name(agent)}",
        f"Act on {name(agent)}",
    )
