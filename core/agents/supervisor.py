"""The supervisor: one run at a time per agent, started, watched, restarted, adopted.

Every step that a crash could cut is durable before it is taken: ``RunStarting`` before anything is
spawned, ``StopRequested`` before a signal is sent, ``RestartScheduled`` before the wait begins. A
kernel that starts again reads these and goes on where the last one was cut (``adopt_all``).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from ..backend import Adoption, Backend, Exit, Killed, Launch, RunRef, Step
from ..clock import Clock
from ..errors import AgentTopError, BackendError, BackendUnavailable, Conflict
from ..journal import events as ev
from ..journal.books import Books
from .agent import Agent, Run
from .backends import Backends
from .launch import Launcher
from .restarts import Cause, ending
from .states import Pause

log = logging.getLogger(__name__)

#: How many runs are started, adopted or frozen at the same time.
AT_ONCE = 32

#: While a backend cannot be reached, ask again after these seconds, the last one for ever.
RETRY = (0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(slots=True)
class Watched:
    """A live run this kernel watches."""

    agent: str
    number: int
    backend: Backend
    launch: Launch
    ref: RunRef
    ended: anyio.Event = field(default_factory=anyio.Event)
    stale: float | None = None
    """Since when the backend cannot tell how it fares."""


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
        self._locks: dict[str, anyio.Lock] = {}
        self._slots = anyio.CapacityLimiter(AT_ONCE)
        self.runs: dict[str, Watched] = {}
        self.touched: Callable[[str], None] = lambda agent: None
        """Called when something the journal does not say changed (a run became stale)."""

    # --- starting --------------------------------------------------------------------------------

    def lock(self, agent: str) -> anyio.Lock:
        """Held while an agent's run is being started, frozen or thawed."""
        return self._locks.setdefault(agent, anyio.Lock())

    def starting(
        self, agent: Agent, reason: Literal["start", "restart", "policy", "boot"], by: str
    ) -> ev.RunStarting:
        """The event that must be durable before ``launch`` may be called."""
        number = (agent.run.number if agent.run else 0) + 1
        return ev.RunStarting(agent=agent.id, run=number, reason=reason, by=by)

    async def start(
        self, agent: str, reason: Literal["start", "restart", "policy", "boot"], by: str = ""
    ) -> None:
        """Start a new run of an agent that has none; durable and running on return.

        Raises:
            Conflict: It runs already, or was removed.
            BackendError: It could not be started; the failed run is in the journal.
        """
        async with self.lock(agent):
            record = self._books.pending.agents.get(agent)
            if record is None:
                raise Conflict(f"{agent} cannot be started", "it was removed")
            if record.live:
                raise Conflict(f"{record.name} runs already", f"run {record.run.number if record.run else 0}")
            starting = self.starting(record, reason, by)
            await self._books.commit(starting)
            await self.launch(record, starting.run)

    async def launch(self, agent: Agent, number: int) -> None:
        """Spawn a run whose ``RunStarting`` is durable.

        Raises:
            BackendError: Nothing was started; the run is recorded as ended.
        """
        async with self._slots:
            try:
                launch = await anyio.to_thread.run_sync(self._launcher.prepare, agent, number)
                told = self._launcher.first_input(agent)
                backend = self._backends.get(agent.spec.backend)
                ref = await backend.start(launch)
            except (AgentTopError, OSError) as error:
                failure = (
                    error
                    if isinstance(error, AgentTopError)
                    else BackendError(f"cannot start {agent.name}", error.strerror or str(error))
                )
                again = await self._record_exit(agent.id, number, Exit(detail=str(failure)), "start_failed")
                if again is not None:
                    self._tasks.start_soon(self._restart_at, agent.id, again)
                raise failure from error
        try:
            await self._books.commit(ev.RunStarted(agent=agent.id, run=number, ref=ref))
        finally:
            # Even when the journal failed: the run exists, so it is watched (adoption finds it, too).
            self._watch(Watched(agent.id, number, backend, launch, ref), agent)
        if told is not None:
            await backend.write(ref, told)
            await backend.write(ref, None)

    def _watch(self, run: Watched, agent: Agent, *, ready: bool = False) -> None:
        self.runs[run.agent] = run
        self._tasks.start_soon(self._until_ended, run, name=f"run {run.agent}.{run.number}")
        if not ready:
            self._tasks.start_soon(self._until_ready, run, agent.spec.restart.start_seconds)

    async def _until_ready(self, run: Watched, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await run.ended.wait()
            return
        await self._books.record(ev.RunReady(agent=run.agent, run=run.number))

    async def _until_ended(self, run: Watched) -> None:
        for attempt in itertools.count():
            try:
                ended = await run.backend.wait(run.ref)
                break
            except BackendUnavailable as error:
                if run.stale is None:
                    run.stale = self._clock.time()
                    self.touched(run.agent)
                    log.warning("%s.%s: %s", run.agent, run.number, error)
                await anyio.sleep(RETRY[min(attempt, len(RETRY) - 1)])
        run.stale = None
        again = await self._record_exit(run.agent, run.number, ended, "exit")
        if self.runs.get(run.agent) is run:
            del self.runs[run.agent]
        run.ended.set()
        if again is not None:
            await self._restart_at(run.agent, again)

    async def _record_exit(self, agent: str, number: int, ended: Exit, cause: Cause) -> float | None:
        """Record the end of a run and what the policy makes of it, in one commit.

        Returns when it is to be restarted (wall clock), ``None`` if it is not.
        """
        record = self._books.pending.agents.get(agent)
        if record is None or record.run is None or record.run.number != number or not record.run.live:
            return None
        events = ending(record, record.run, ended, cause, self._clock.time())
        await self._books.record(*events)
        return next((event.at for event in events if isinstance(event, ev.RestartScheduled)), None)

    # --- restarting ------------------------------------------------------------------------------

    async def _restart_at(self, agent: str, at: float) -> None:
        record = self._books.pending.agents.get(agent)
        if record is None:
            return
        # The wall clock may have been set back meanwhile; nobody waits longer than the policy says.
        await anyio.sleep(max(0.0, min(at - self._clock.time(), record.spec.restart.backoff_max)))
        record = self._books.pending.agents.get(agent)
        if record is None or record.live or record.restart_at != at:
            return
        try:
            await self.start(agent, "policy")
        except AgentTopError as error:
            log.warning("restart of %s: %s", agent, error)

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

        A restart that was scheduled is called off.
        """
        async with self.lock(agent):  # a start under way ends first; it is not held during the grace
            record = self._books.pending.agents.get(agent)
            if record is None or not (record.live or record.restart_at is not None):
                return None
            await self._books.commit(ev.StopRequested(agent=agent, by=by, how=how))
            run = self.runs.get(agent)
        if run is None:
            return None
        killed = await run.backend.stop(run.ref, grace=grace, on_step=on_step)
        await self._books.record(
            ev.KillProven(
                agent=agent,
                run=run.number,
                processes=killed.processes,
                ended=killed.ended,
                survivors=list(killed.survivors),
                mechanism=killed.mechanism,
                seconds=killed.seconds,
            )
        )
        if not killed.survivors:
            await run.ended.wait()
        return killed

    # --- adopting --------------------------------------------------------------------------------

    async def adopt_all(self, rebooted: bool) -> None:
        """Find every run again that was live when the last kernel ended.

        Returns when all backends that answer have been asked; the others are asked again later.
        """
        async with anyio.create_task_group() as tasks:
            for agent in list(self._books.pending.agents.values()):
                if agent.run is not None and agent.run.live:
                    tasks.start_soon(self._adopt, agent, agent.run, rebooted)
                elif agent.restart_at is not None:
                    self._tasks.start_soon(self._restart_at, agent.id, agent.restart_at)

    async def _adopt(self, agent: Agent, run: Run, rebooted: bool) -> None:
        async with self._slots:
            launch = await anyio.to_thread.run_sync(self._launcher.describe, agent, run.number)
            try:
                backend = self._backends.get(agent.spec.backend)
                found = await backend.adopt(launch, run.ref)
            except BackendUnavailable as error:
                log.warning("cannot adopt %s yet: %s", agent.id, error)
                self._tasks.start_soon(self._adopt_later, agent, run, rebooted)
                return
            except AgentTopError as error:
                # Not even its backend can be loaded: the run is lost to us, and we say so.
                await self._record_exit(agent.id, run.number, Exit(detail=str(error)), "lost")
                return
        await self._adopted(agent, run, backend, launch, found, rebooted)

    async def _adopt_later(self, agent: Agent, run: Run, rebooted: bool) -> None:
        await anyio.sleep(RETRY[2])
        await self._adopt(agent, run, rebooted)

    async def _adopted(
        self, agent: Agent, run: Run, backend: Backend, launch: Launch, found: Adoption, rebooted: bool
    ) -> None:
        if found.state == "ended":
            cause: Cause = "reboot" if rebooted and found.exit.code is None else "exit"
            again = await self._record_exit(agent.id, run.number, found.exit, cause)
            if again is not None:
                # The back-off is waited for in the kernel's own group, not by whoever adopts.
                self._tasks.start_soon(self._restart_at, agent.id, again)
        elif found.state == "never_started" or found.ref is None:
            self._tasks.start_soon(self._start_again, agent, run.number)
        else:
            if run.ref is None:
                await self._books.commit(ev.RunStarted(agent=agent.id, run=run.number, ref=found.ref))
            watched = Watched(agent.id, run.number, backend, launch, found.ref)
            self._watch(watched, agent, ready=run.ready)
            await self._go_on(agent, watched)

    async def _start_again(self, agent: Agent, number: int) -> None:
        """The last kernel died between writing ``RunStarting`` and spawning: the run is still owed."""
        try:
            async with self.lock(agent.id):
                if agent.stopping is None:
                    await self.launch(agent, number)
                    return
            await self._record_exit(agent.id, number, Exit(), "lost")
        except AgentTopError as error:
            log.warning("start of %s.%s: %s", agent.id, number, error)

    async def _go_on(self, agent: Agent, run: Watched) -> None:
        """Finish what the last kernel had begun: a stop, or a freeze without its proof."""
        if agent.stopping is not None:
            grace = agent.spec.stop_grace if agent.stopping == "stop" else 0.0
            self._tasks.start_soon(self._finish_stop, run, grace)
        elif agent.freeze is not None and agent.freeze.total == 0:
            try:
                frozen = await run.backend.freeze(run.ref)
            except BackendError as error:
                log.warning("cannot finish the freeze of %s: %s", agent.id, error)
                return
            await self._books.record(
                ev.AgentPaused(
                    agent=agent.id,
                    how=Pause.FREEZE,
                    by="kernel",
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
        await self._books.record(
            ev.KillProven(
                agent=run.agent,
                run=run.number,
                processes=killed.processes,
                ended=killed.ended,
                survivors=list(killed.survivors),
                mechanism=killed.mechanism,
                seconds=killed.seconds,
            )
        )

    async def forget(self, agents: Iterable[Agent]) -> None:
        """Remove what ended runs left outside their folders: cgroups, containers, doors."""
        for agent in agents:
            for run in (*agent.past, *([agent.run] if agent.run else ())):
                launch = await anyio.to_thread.run_sync(self._launcher.describe, agent, run.number)
                try:
                    await self._backends.get(agent.spec.backend).forget(launch, run.ref)
                except BackendError as error:
                    log.warning("leftovers of %s.%s: %s", agent.id, run.number, error)
            self._locks.pop(agent.id, None)
