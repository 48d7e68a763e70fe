"""Agents with nothing to do: frozen after a while where their spec wants that, and woken when needed.

Idle is who ended a turn and has no call under way: ``idle``, or ``waiting: input`` at a terminal. What is
frozen here stands as ``idle`` in the journal, so that only those are woken again: a freeze of a person, a
budget or the kill switch is not touched. What wakes one: something typed, a person who attaches, a message
or a task, ``resume``, a call of its own, and the end of one of its children.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio

from .. import halt
from ..clock import Clock
from ..errors import AgentTopError
from ..journal import events as ev
from ..journal.books import Books
from ..journal.events import Event, Record
from . import registry
from .agent import IDLE, Agent
from .control import Control
from .states import State, Waiting
from .supervisor import Supervisor

log = logging.getLogger(__name__)

#: What cannot be told to be unused now is looked at again after so many seconds, or sooner.
AGAIN = 60.0

#: And not sooner than after so many.
LEAST = 1.0

#: How many are frozen or woken at once.
AT_ONCE = 8


class Idling:
    """Freezes idle agents, and wakes them. ``run`` is one task of the kernel."""

    def __init__(self, books: Books, supervisor: Supervisor, control: Control, clock: Clock) -> None:
        self._books = books
        self._supervisor = supervisor
        self._control = control
        self._clock = clock
        self._due: dict[str, float] = {}
        """When each idle agent is to be frozen, by the wall clock."""
        self._used: dict[str, float] = {}
        """When somebody used an agent last, as far as the journal does not say."""
        self._not_before: dict[str, float] = {}
        self._wanted: set[str] = set()
        """Who is to be woken."""
        self._missed: set[str] = set()
        """Who is to be woken once its run is found again."""
        self._slots = anyio.CapacityLimiter(AT_ONCE)
        self._sooner = anyio.Event()
        books.listen(self._committed)
        books.on_refold(self._refolded)

    async def run(self) -> None:
        """Freeze who is due, for as long as the kernel lives."""
        async with anyio.create_task_group() as tasks:
            self._refolded()
            while True:
                self._sooner = anyio.Event()
                now = self._clock.time()
                while self._wanted:
                    tasks.start_soon(self._wake, self._wanted.pop())
                for agent_id in [key for key, due in self._due.items() if due <= now]:
                    del self._due[agent_id]
                    tasks.start_soon(self._consider, agent_id, name=f"idle {agent_id}")
                nearest = min(self._due.values(), default=None)
                # Not for longer at once: the wall clock may be set forward.
                with anyio.move_on_after(None if nearest is None else min(AGAIN, max(0.0, nearest - now))):
                    await self._sooner.wait()

    async def wake(self, agent: Agent, by: str) -> None:
        """Somebody needs the agent now: if it was frozen for being idle, it runs on return.

        Its idle time begins anew. In a halted fleet it stays frozen, as everybody, until that is undone.

        Args:
            by: Who stands in the journal for it.

        Raises:
            BackendError: It cannot be thawed.
            JournalUnavailable: That cannot be written down.
        """
        self._used[agent.id] = self._clock.time()
        self._plan(agent.id)
        record = self._books.pending.agents.get(agent.id)
        if record is None or record.freeze is None or not record.freeze.idle:
            return
        if self._books.pending.halted:
            await self._control.leave_frozen(record, halt.BY)
        else:
            await self._control.thaw(record, by, only_of=IDLE)

    def watched(self, agent_id: str) -> None:
        """A run was found again by a new kernel: it is woken if somebody needed it meanwhile."""
        if agent_id in self._missed:
            self._missed.remove(agent_id)
            self._wake_soon(agent_id)

    # --- when ------------------------------------------------------------------------------------

    def _committed(self, batch: Sequence[tuple[Record, Event]]) -> None:
        agents = self._books.committed.agents
        for record, event in batch:
            agent = agents.get(record.agent) if record.agent is not None else None
            if agent is None:
                if isinstance(event, ev.AgentRemoved):
                    self._forget(event.agent)
                continue
            if isinstance(event, ev.RunExited) and agent.spec.parent is not None:
                self._wake_soon(agent.spec.parent)
            if agent.spec.idle.freeze_after:
                if isinstance(event, ev.CallStarted | ev.CallHeld):
                    self._wake_soon(agent.id)
                self._plan(agent.id)

    def _refolded(self) -> None:
        self._due.clear()
        for agent in self._books.pending.agents.values():
            self._plan(agent.id)
            # The last kernel was killed before it could wake one that had begun something.
            if agent.calls or not _idle(agent):
                self._wake_soon(agent.id)

    def _forget(self, agent_id: str) -> None:
        for table in (self._due, self._used, self._not_before):
            table.pop(agent_id, None)
        self._missed.discard(agent_id)

    def _plan(self, agent_id: str) -> None:
        agent = self._books.pending.agents.get(agent_id)
        due = self._due_of(agent) if agent is not None else None
        if due is None:
            self._due.pop(agent_id, None)
        elif self._due.get(agent_id) != due:
            self._due[agent_id] = due
            self._sooner.set()

    def _due_of(self, agent: Agent) -> float | None:
        """When it is to be frozen as it is now; ``None`` for never."""
        after = agent.spec.idle.freeze_after
        if not after or not agent.live or agent.pause is not None or agent.stopping is not None:
            return None
        if agent.calls or agent.approvals or not _idle(agent):
            return None
        since = max(agent.since, agent.resumed, self._used.get(agent.id, 0.0))
        return max(since + after, self._not_before.get(agent.id, 0.0))

    # --- freezing --------------------------------------------------------------------------------

    async def _consider(self, agent_id: str) -> None:
        async with self._slots:
            agent = self._books.pending.agents.get(agent_id)
            if agent is None or not self._is_due(agent):
                self._plan(agent_id)
                return
            try:
                if await self._needed(agent):
                    self._later(agent_id)
                    return
                await self._control.freeze(agent, IDLE, only_if=self._is_due)
            except AgentTopError as error:
                # Such as a system where nothing can be frozen: told in the log, tried again in a while.
                log.info("%s is idle but was not frozen: %s", agent.name, error)
                self._later(agent_id)
            else:
                self._plan(agent_id)

    def _is_due(self, agent: Agent) -> bool:
        due = self._due_of(agent)
        return due is not None and due <= self._clock.time()

    async def _needed(self, agent: Agent) -> bool:
        """Whether a person sits in front of it, or a child of it works, for which it may wait."""
        run = self._supervisor.runs.get(agent.id)
        if run is None:
            return True  # it is being looked for after the kernel's start
        children = registry.children(self._books.pending, agent.id)
        if any(child.live and not _idle(child) for child in children):
            return True
        seen = await run.backend.attended(run.ref)
        if seen is not None:
            self._used[agent.id] = max(seen, self._used.get(agent.id, 0.0))
        return not self._is_due(agent)

    def _later(self, agent_id: str) -> None:
        agent = self._books.pending.agents.get(agent_id)
        after = agent.spec.idle.freeze_after if agent is not None else None
        self._not_before[agent_id] = self._clock.time() + max(LEAST, min(AGAIN, after or AGAIN))
        self._plan(agent_id)

    # --- waking ----------------------------------------------------------------------------------

    def _wake_soon(self, agent_id: str) -> None:
        agent = self._books.pending.agents.get(agent_id)
        if agent is not None and agent.freeze is not None and agent.freeze.idle:
            self._wanted.add(agent_id)
            self._sooner.set()

    async def _wake(self, agent_id: str) -> None:
        agent = self._books.pending.agents.get(agent_id)
        if agent is None:
            return
        if agent.live and agent_id not in self._supervisor.runs:
            self._missed.add(agent_id)
            return
        try:
            await self.wake(agent, "kernel")
        except AgentTopError as error:
            log.warning("%s is needed but was not woken: %s", agent.name, error)


def _idle(agent: Agent) -> bool:
    """Whether its turn is over and nobody but a person can give it the next."""
    return agent.state is State.IDLE or (agent.state is State.WAITING and agent.reason is Waiting.INPUT)
