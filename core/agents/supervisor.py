"""The supervisor: one run at a time per agent, started, watched, restarted, adopted.

Every step that a crash could cut is durable before it is taken: ``RunStarting`` before anything is
spawned, ``StopRequested`` before a signal is sent, ``RestartScheduled`` before the wait begins. A
kernel that starts again reads these and goes on where the last one was cut (``adopt_all``).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from ..backend import MARKER, Adoption, Backend, Exit, Killed, Launch, RunRef, Step
from ..clock import Clock
from ..errors import AgentTopError, BackendError, BackendUnavailable, Conflict, JournalUnavailable
from ..journal import events as ev
from ..journal.books import Books
from .agent import Agent, Run
from .backends import Backends
from .launch import Launcher, Prepared
from .restarts import Cause, ending
from .states import Pause

log = logging.getLogger(__name__)

#: How many runs (or batches of them) are started or adopted at the same time.
AT_ONCE = 32

#: Threads that prepare runs; they mostly hold the interpreter's lock, so that more only get in each
#: other's way and the event loop's.
PREPARING = 2

#: How long a stop waits for the journal before it looks whether that takes anything at all.
PATIENCE = 1.0

#: While a backend cannot be reached, ask again after these seconds, the last one for ever.
RETRY = (0.5, 1.0, 2.0, 5.0, 10.0)

Reason = Literal["start", "restart", "policy", "boot", "resume"]
"""Why a run begins; only a person's start or restart begins a new task."""


@dataclass(slots=True)
class Watched:
    """A live run this kernel watches."""

    agent: str
    number: int
    backend: Backend
    launch: Launch
    """Its environment is only the run's mark: the rest is large, and may hold secrets."""
    ref: RunRef
    ended: anyio.Event = field(default_factory=anyio.Event)
    stale: float | None = None
    """Since when the backend cannot tell how it fares."""
    stopping: Literal["stop", "kill"] | None = None
    """It is being ended on request; kept here too, for a stop that the journal could not take."""


class _Begun(NamedTuple):
    """A run that has a process, and what its program is told first."""

    run: Watched
    told: bytes | None
    waits: bool


class Supervisor:
    """Owns the runs. Verbs of people come through ``Kernel``; this class knows no client."""

    def __init__(
        self, books: Books, backends: Backends, launcher: Launcher, clock: Clock, tasks: TaskGroup
    ) -> None:
        self._books = books
        self._backends = backends
        self._launcher = launcher
        self._clock = clock
        self._tasks = tasks
        # Kept by whoever holds or awaits one: at rest an agent has none.
        self._locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        self._slots = anyio.CapacityLimiter(AT_ONCE)
        self._preparing = anyio.CapacityLimiter(PREPARING)
        self.runs: dict[str, Watched] = {}
        self.touched: Callable[[str], None] = lambda agent: None
        """Called when something the journal does not say changed (a run became stale)."""
        self.conversation: Callable[[Agent], str | None] = lambda agent: None
        """What a run that the restart policy begins goes on with; ``None``: it begins anew."""
        self.watched: Callable[[str], None] = lambda agent: None
        """Called when an agent has a run that was just started or found again."""
        self.furnish: Callable[[Sequence[Agent]], Awaitable[dict[str, AgentTopError]]] = _furnished
        """Has the folders of agents ready that are started next; gives who cannot be started."""

    # --- starting --------------------------------------------------------------------------------

    def lock(self, agent: str) -> anyio.Lock:
        """Held while an agent's run is being started, frozen or thawed."""
        if agent not in self._books.pending.agents:
            return anyio.Lock()  # removed: whoever takes it finds nothing, and nothing is left of it
        lock = self._locks.get(agent)
        if lock is None:
            lock = self._locks[agent] = anyio.Lock()
        return lock

    def starting(self, agent: Agent, reason: Reason, by: str, resume: str | None = None) -> ev.RunStarting:
        """The event that must be durable before ``launch`` may be called."""
        number = (agent.run.number if agent.run else 0) + 1
        return ev.RunStarting(agent=agent.id, run=number, reason=reason, by=by, resume=resume)

    async def start(self, agent: str, reason: Reason, by: str = "", resume: str | None = None) -> None:
        """Start a new run of an agent that has none; durable and running on return.

        Args:
            resume: The client's id of the conversation to go on with, where its template can do that.

        Raises:
            Conflict: It runs already, or was removed.
            BackendError: It could not be started; the failed run is in the journal.
        """
        async with self.lock(agent):
            record = self._books.pending.agents.get(agent)
            if record is None:
                raise Conflict(f"{agent} cannot be started", "It was removed")
            if record.live:
                raise Conflict(f"{record.name} runs already", f"Run {record.run.number if record.run else 0}")
            starting = self.starting(record, reason, by, resume)
            await self._books.commit(starting)
            await self.launch(record, starting.run)

    async def launch(self, agent: Agent, number: int) -> None:
        """Spawn a run whose ``RunStarting`` is durable.

        Raises:
            BackendError: Nothing was started; the run is recorded as ended.
        """
        for failure in await self._launch_batch(agent.spec.backend, [(agent, number)]):
            if failure is not None:
                raise failure

    async def launch_all(self, owed: Sequence[tuple[Agent, int]]) -> list[AgentTopError | None]:
        """Spawn many runs whose ``RunStarting`` is durable; what went wrong with each, in their order."""
        failures: list[AgentTopError | None] = [None] * len(owed)
        by_backend: dict[str, list[int]] = {}
        for place, (agent, _) in enumerate(owed):
            by_backend.setdefault(agent.spec.backend, []).append(place)

        async def launch(name: str, places: Sequence[int]) -> None:
            found = await self._launch_batch(name, [owed[place] for place in places])
            for place, failure in zip(places, found, strict=True):
                failures[place] = failure

        async with anyio.create_task_group() as tasks:
            for name, places in by_backend.items():
                size = self._backends.batch(name)
                for first in range(0, len(places), size):
                    tasks.start_soon(launch, name, places[first : first + size])
        return failures

    async def _launch_batch(self, name: str, owed: Sequence[tuple[Agent, int]]) -> list[AgentTopError | None]:
        """Runs of one backend, spawned together and then written down together."""
        lacking = await self.furnish([agent for agent, _ in owed])
        ready = [(agent, number) for agent, number in owed if agent.id not in lacking]
        async with self._slots:
            spawned = iter(await self._spawn(name, ready) if ready else ())
        results = [lacking[agent.id] if agent.id in lacking else next(spawned) for agent, _ in owed]
        started = [
            (agent, run) for (agent, _), run in zip(owed, results, strict=True) if isinstance(run, _Begun)
        ]
        unwritten: JournalUnavailable | None = None
        try:
            if started:
                await self.happened(*(_run_started(begun.run, begun.waits) for _, begun in started))
        except JournalUnavailable as error:
            unwritten = error
        finally:
            # Even when the journal failed: the runs exist, so they are watched (adoption finds them, too).
            self._watch([(begun.run, agent) for agent, begun in started])
            for agent, begun in started:
                if begun.told is not None:
                    # Not awaited here: a program that never reads would keep the agent's lock for ever.
                    self._tasks.start_soon(self._tell, begun.run, begun.told, name=f"input {agent.id}")
        return [
            unwritten if isinstance(result, _Begun) else await self._start_failed(agent, number, result)
            for (agent, number), result in zip(owed, results, strict=True)
        ]

    async def _spawn(
        self, name: str, owed: Sequence[tuple[Agent, int]]
    ) -> list[_Begun | AgentTopError | OSError]:
        """Folders, environments and processes; nothing is awaited after the processes exist."""
        results: list[_Begun | AgentTopError | OSError] = []
        prepared = await anyio.to_thread.run_sync(self._launcher.prepare_all, owed, limiter=self._preparing)
        ready = [item for item in prepared if isinstance(item, Prepared)]
        refs: Iterator[RunRef | AgentTopError | OSError] = iter(())
        try:
            backend = self._backends.get(name)
            launches = [item.launch for item in ready]
            alone = len(launches) == 1
            refs = iter([await backend.start(launches[0])] if alone else await backend.start_all(launches))
        except (AgentTopError, OSError) as error:
            refs = itertools.repeat(error)
        for (agent, number), item in zip(owed, prepared, strict=True):
            outcome = next(refs) if isinstance(item, Prepared) else item
            if isinstance(item, Prepared) and isinstance(outcome, dict):
                run = Watched(agent.id, number, backend, _kept(item.launch), outcome)
                results.append(_Begun(run, item.told, item.waits))
            elif not isinstance(outcome, dict):
                results.append(outcome)
        return results

    async def _start_failed(self, agent: Agent, number: int, error: AgentTopError | OSError) -> AgentTopError:
        failure = (
            error
            if isinstance(error, AgentTopError)
            else BackendError(f"cannot start {agent.name}", error.strerror or str(error))
        )
        again = await self._record_exit(agent.id, number, Exit(detail=str(failure)), "start_failed")
        if again is not None:
            self._tasks.start_soon(self._restart_at, agent.id, again)
        return failure

    async def _tell(self, run: Watched, told: bytes) -> None:
        try:
            await run.backend.write(run.ref, told)
            await run.backend.write(run.ref, None)
        except BackendError as error:
            log.warning("%s.%s was not told all of its first input: %s", run.agent, run.number, error)

    async def happened(self, *events: ev.Event) -> None:
        """Commit what has been done already.

        Raises:
            JournalUnavailable: It is not written now; it will be when the journal takes it again.
        """
        try:
            await self._books.commit(*events)
        except JournalUnavailable:
            self._tasks.start_soon(self._books.record, *events, name="late facts")
            raise

    def _watch(self, runs: Sequence[tuple[Watched, Agent]]) -> None:
        """Watch runs to their end, and those that are not ready yet until they are, in one wait for all."""
        waiting: dict[float, list[Watched]] = {}
        for run, agent in runs:
            self.runs[run.agent] = run
            self._tasks.start_soon(self._until_ended, run, name=f"run {run.agent}.{run.number}")
            if agent.run is None or agent.run.number != run.number or not agent.run.ready:
                waiting.setdefault(agent.spec.restart.start_seconds, []).append(run)
            self.watched(run.agent)
        for seconds, begun in waiting.items():
            self._tasks.start_soon(self._until_ready, begun, seconds, name="ready")

    async def _until_ready(self, runs: Sequence[Watched], seconds: float) -> None:
        with anyio.move_on_after(seconds):
            for run in runs:
                await run.ended.wait()
            return
        ready = [ev.RunReady(agent=run.agent, run=run.number) for run in runs if not run.ended.is_set()]
        await self._books.record(*ready)

    async def _until_ended(self, run: Watched) -> None:
        for attempt in itertools.count():
            try:
                ended = await run.backend.wait(run.ref)
                break
            except (BackendError, OSError) as error:
                # Whatever went wrong, the run is not known to have ended: say so and ask again.
                if run.stale is None:
                    run.stale = self._clock.time()
                    self.touched(run.agent)
                    log.warning("%s.%s: %s", run.agent, run.number, error)
                await anyio.sleep(RETRY[min(attempt, len(RETRY) - 1)])
        run.stale = None
        again = await self._record_exit(run.agent, run.number, ended, "exit", run)
        if self.runs.get(run.agent) is run:
            del self.runs[run.agent]
        run.ended.set()
        if again is not None:
            await self._restart_at(run.agent, again)

    async def _record_exit(
        self, agent: str, number: int, ended: Exit, cause: Cause, run: Watched | None = None
    ) -> float | None:
        """Record the end of a run and what the policy makes of it, in one commit.

        Returns when it is to be restarted (wall clock), ``None`` if it is not.
        """
        record = self._books.pending.agents.get(agent)
        if record is None or record.run is None or record.run.number != number or not record.run.live:
            return None
        stopping = run.stopping if run is not None else None
        events = ending(record, record.run, ended, cause, self._clock.time(), stopping)
        await self._books.record(*events)
        return next((event.at for event in events if isinstance(event, ev.RestartScheduled)), None)

    # --- restarting ------------------------------------------------------------------------------

    async def _restart_at(self, agent: str, at: float) -> None:
        record = self._books.pending.agents.get(agent)
        if record is None:
            return
        # The wall clock may have been set back meanwhile; nobody waits longer than the policy says.
        await anyio.sleep(max(0.0, min(at - self._clock.time(), record.spec.restart.backoff_max)))
        while True:
            record = self._books.pending.agents.get(agent)
            if record is None or record.live or record.restart_at != at:
                return
            if self._books.pending.halted:  # nothing starts by itself in a halted fleet
                await self._books.next_commit()
                continue
            try:
                await self.start(agent, "policy", resume=self.conversation(record))
            except JournalUnavailable:
                await self._books.healthy()  # a restart that is due is not lost to a full disk
            except AgentTopError as error:
                log.warning("restart of %s: %s", agent, error)
                return

    # --- stopping --------------------------------------------------------------------------------

    async def stop(
        self,
        agent: str,
        *,
        how: Literal["stop", "kill"],
        grace: float,
        by: str = "",
        on_step: Callable[[Step], None] | None = None,
    ) -> Killed | None:
        """End an agent's run, whole tree, with proof; ``None`` if it had none.

        A restart that was scheduled is called off. A second stop while the first one's grace lasts
        has its own grace, so that a kill ends what a stop is waiting for.

        Raises:
            BackendUnavailable: Its run has not been found again yet; it is stopped when it is.
            JournalUnavailable: It cannot be written down. What runs was ended nevertheless: a full
                disk must not protect the program that fills it.
        """
        async with self.lock(agent):  # a start under way ends first; it is not held during the grace
            record = self._books.pending.agents.get(agent)
            if record is None or not (record.live or record.restart_at is not None):
                return None
            run = self.runs.get(agent) if record.live else None
            try:
                await self._books.commit(ev.StopRequested(agent=agent, by=by, how=how))
            except JournalUnavailable:
                if run is None:
                    raise
            run = run or self.runs.get(agent)
            if run is None and record.live:
                raise BackendUnavailable(
                    f"{record.name} is not stopped yet",
                    f"Backend {record.spec.backend} has not found its run again",
                    "It is stopped as soon as that answers",
                )
            if run is None:
                return None
            run.stopping = "kill" if "kill" in (how, run.stopping) else "stop"
        return await self._end(run, grace, on_step)

    async def _end(self, run: Watched, grace: float, on_step: Callable[[Step], None] | None) -> Killed | None:
        try:
            killed = await run.backend.stop(run.ref, grace=grace, on_step=on_step)
        except BackendError:
            with anyio.move_on_after(PATIENCE):
                await run.ended.wait()
                return None  # it had just ended by itself
            raise
        written = anyio.Event()

        async def write() -> None:
            await self._books.record(_proven(run, killed))
            written.set()

        self._tasks.start_soon(write, name=f"proof {run.agent}")
        while True:
            with anyio.move_on_after(PATIENCE):
                await written.wait()
                if not killed.survivors:
                    await run.ended.wait()
                return killed
            if problem := self._books.problem:
                raise JournalUnavailable(
                    f"{killed.ended} of {killed.processes} processes of {run.launch.spec.name} were ended,"
                    " but that is not written down yet",
                    problem,
                )

    # --- adopting --------------------------------------------------------------------------------

    async def adopt_all(self, rebooted: bool) -> None:
        """Find every run again that was live when the last kernel ended.

        Returns when all backends that answer have been asked; the others are asked again later.
        """
        async with anyio.create_task_group() as tasks:
            for agent in list(self._books.pending.agents.values()):
                if agent.run is not None and agent.run.live:
                    tasks.start_soon(self._adopt, agent.id, agent.run.number, rebooted)
                elif agent.restart_at is not None:
                    self._tasks.start_soon(self._restart_at, agent.id, agent.restart_at)

    def adopt_missed(self) -> None:
        """Look for runs that the journal turned out to have, after a commit that failed in doubt."""
        for agent in list(self._books.pending.agents.values()):
            if agent.run is None or not agent.run.live or agent.id in self.runs:
                continue
            if not self.lock(agent.id).locked():
                self._tasks.start_soon(self._adopt, agent.id, agent.run.number, False)

    def _owed(self, agent: str, number: int) -> tuple[Agent, Run] | None:
        """The agent and its run as the books have them now, if that still has to be found."""
        record = self._books.pending.agents.get(agent)
        if record is None or record.run is None or agent in self.runs:
            return None
        return (record, record.run) if record.run.number == number and record.run.live else None

    async def _adopt(self, agent: str, number: int, rebooted: bool) -> None:
        async with self._slots:
            # Asked anew each time: between two attempts it may have been stopped, or the books refolded.
            if (owed := self._owed(agent, number)) is None:
                return
            record, run = owed
            launch = await anyio.to_thread.run_sync(self._launcher.describe, record, number)
            try:
                backend = self._backends.get(record.spec.backend)
                found = await backend.adopt(launch, run.ref)
            except (BackendUnavailable, OSError) as error:
                log.warning("cannot adopt %s yet: %s", agent, error)
                self._tasks.start_soon(self._adopt_later, agent, number, rebooted)
                return
            except AgentTopError as error:
                # Not even its backend can be loaded: the run is lost to us, and we say so.
                await self._record_exit(agent, number, Exit(detail=str(error)), "lost")
                return
        await self._adopted(agent, number, backend, launch, found, rebooted)

    async def _adopt_later(self, agent: str, number: int, rebooted: bool) -> None:
        await anyio.sleep(RETRY[2])
        await self._adopt(agent, number, rebooted)

    async def _adopted(
        self, agent: str, number: int, backend: Backend, launch: Launch, found: Adoption, rebooted: bool
    ) -> None:
        if (owed := self._owed(agent, number)) is None:
            return
        record, run = owed
        if found.state == "ended":
            cause: Cause = "reboot" if rebooted and found.exit.code is None else "exit"
            again = await self._record_exit(agent, number, found.exit, cause)
            if again is not None:
                # The back-off is waited for in the kernel's own group, not by whoever adopts.
                self._tasks.start_soon(self._restart_at, agent, again)
        elif found.state == "never_started" or found.ref is None:
            self._tasks.start_soon(self._start_again, agent, number)
        else:
            watched = Watched(agent, number, backend, _kept(launch), found.ref)
            self._watch([(watched, record)])
            if run.ref is None:
                waits = await anyio.to_thread.run_sync(self._launcher.waits, record)
                await self._books.record(_run_started(watched, waits))
            await self._go_on(watched)

    async def _start_again(self, agent: str, number: int) -> None:
        """The last kernel died between writing ``RunStarting`` and spawning: the run is still owed."""
        try:
            async with self.lock(agent):
                if (owed := self._owed(agent, number)) is None:
                    return
                if owed[0].stopping is None:
                    await self.launch(owed[0], number)
                    return
            await self._record_exit(agent, number, Exit(), "lost")
        except AgentTopError as error:
            log.warning("start of %s.%s: %s", agent, number, error)

    async def _go_on(self, run: Watched) -> None:
        """Finish what the last kernel had begun: a stop, or a freeze."""
        agent = self._books.pending.agents.get(run.agent)
        if agent is None:
            return
        if agent.stopping is not None:
            grace = agent.spec.stop_grace if agent.stopping == "stop" else 0.0
            self._tasks.start_soon(self._finish_stop, run, grace)
        elif agent.freeze is not None:
            # Proven or not: the last kernel may have been killed as it thawed it.
            async with self.lock(agent.id):
                await self._finish_freeze(run)

    async def _finish_freeze(self, run: Watched) -> None:
        agent = self._books.pending.agents.get(run.agent)
        if agent is None or agent.freeze is None:
            return  # thawed meanwhile
        try:
            frozen = await run.backend.freeze(run.ref)
        except BackendError as error:
            log.warning("cannot finish the freeze of %s: %s", agent.id, error)
            return
        if (frozen.frozen, frozen.total) == (agent.freeze.frozen, agent.freeze.total):
            return  # as it was written down
        await self._books.record(
            ev.AgentPaused(
                agent=agent.id,
                how=Pause.FREEZE,
                by=agent.freeze.by,  # who thaws goes by who froze
                frozen=frozen.frozen,
                total=frozen.total,
                mechanism=frozen.mechanism,
                seconds=frozen.seconds,
            )
        )

    async def _finish_stop(self, run: Watched, grace: float) -> None:
        try:
            killed = await run.backend.stop(run.ref, grace=grace)
        except BackendError as error:
            log.warning("cannot finish the stop of %s: %s", run.agent, error)
            return
        await self._books.record(_proven(run, killed))

    async def forget(self, agents: Iterable[Agent]) -> None:
        """Remove what ended runs left outside their folders: cgroups, containers, doors."""
        for agent in agents:
            for run in (*agent.past, *([agent.run] if agent.run else ())):
                launch = await anyio.to_thread.run_sync(self._launcher.describe, agent, run.number)
                try:
                    await self._backends.get(agent.spec.backend).forget(launch, run.ref)
                except AgentTopError as error:  # also where its backend is not installed any more
                    log.warning("leftovers of %s.%s: %s", agent.id, run.number, error)

    def drop(self, agent: str) -> None:
        """The agent was removed: its lock is not needed any more."""
        self._locks.pop(agent, None)


async def _furnished(agents: Sequence[Agent]) -> dict[str, AgentTopError]:
    return {}


def _kept(launch: Launch) -> Launch:
    return replace(launch, env={MARKER: launch.mark})


def _run_started(run: Watched, waits: bool) -> ev.RunStarted:
    keyboard = run.backend.keyboard
    return ev.RunStarted(agent=run.agent, run=run.number, ref=run.ref, keyboard=keyboard, waits=waits)


def _proven(run: Watched, killed: Killed) -> ev.KillProven:
    return ev.KillProven(
        agent=run.agent,
        run=run.number,
        processes=killed.processes,
        ended=killed.ended,
        survivors=list(killed.survivors),
        mechanism=killed.mechanism,
        seconds=killed.seconds,
    )
