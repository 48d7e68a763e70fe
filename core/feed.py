"""The live table for screens: one snapshot, then coalesced deltas, after each commit.

A slow reader never makes the kernel's memory grow: what it has not read yet is a set of agent ids,
and the rows are built when it reads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from .agents.agent import Agent
from .agents.sampler import Sampler
from .agents.supervisor import Supervisor
from .api import Delta, Header, Row, Snapshot
from .budget import views as budgets
from .clock import Clock
from .gateway.lanes import Lanes
from .gateway.meters import Meters
from .journal.books import Books
from .journal.events import Event, Record
from .mail.gauge import NO_MAIL, MailGauge
from .rows import HeaderBuilder, Machine, build

if TYPE_CHECKING:
    from .observe.sightings import Sightings

#: Seconds between two deltas to one reader: at most ten a second.
SPACING = 0.1

#: Rows built in one go: model calls stream on the same loop, and must not feel how large the fleet is.
AT_ONCE = 16


class _Reader:
    """One open watch: which agents it has not seen the newest of."""

    def __init__(self, window: str) -> None:
        self.window = window
        self.dirty: set[str] = set()
        self.header = False
        self._wake = anyio.Event()

    def wake(self) -> None:
        self._wake.set()

    async def wait(self) -> None:
        await self._wake.wait()
        self._wake = anyio.Event()

    def take(self) -> tuple[set[str], bool]:
        dirty, header = self.dirty, self.header
        self.dirty, self.header = set(), False
        return dirty, header


class Feed:
    """Builds rows from the committed books and hands them to every open watch."""

    def __init__(
        self,
        books: Books,
        meters: Meters,
        supervisor: Supervisor,
        clock: Clock,
        started: float,
        problem: Callable[[], str],
        machine: Machine | None = None,
        lanes: Lanes | None = None,
        terminals: Callable[[str], bool] = lambda backend: False,
    ) -> None:
        """``terminals`` tells of a backend's name whether its runs have any."""
        self._terminals = terminals
        self._problem = problem
        self._books = books
        self._meters = meters
        self._supervisor = supervisor
        self._clock = clock
        self._readers: set[_Reader] = set()
        self.sightings: Sightings | None = None
        """Agents that somebody else started; they have rows, too."""
        self._headers = HeaderBuilder(clock, started, machine, lanes)
        self._shares: dict[str, int] = {}
        """Per cent used of each budget, as the rows have it."""
        self.last_words: Callable[[Agent], str] = lambda agent: ""
        """What an agent that failed said last."""
        self.tiers: Callable[[str], tuple[int, int, int] | None] = lambda agent: None
        """What an agent has in each tier of its memory."""
        self.mail: Callable[[Agent], MailGauge] = lambda agent: NO_MAIL
        """An agent's mail, and for whose reply it waits."""
        self.sampler = Sampler(supervisor, clock, self.touch)
        supervisor.touched = self.touch
        books.listen(self._committed)

    @property
    def readers(self) -> int:
        """How many watches are open."""
        return len(self._readers)

    @property
    def windows(self) -> set[str]:
        """The windows that somebody looks at."""
        return {reader.window for reader in self._readers}

    def sighted(self, agents: Iterable[str]) -> None:
        """Rows of observed agents changed, came or went."""
        agents = list(agents)
        for reader in self._readers:
            reader.dirty.update(agents)
            reader.header = True
            reader.wake()

    def touch(self, agent: str) -> None:
        """Something visible of this agent changed that is not in the journal."""
        for reader in self._readers:
            reader.dirty.add(agent)

    def _committed(self, batch: Sequence[tuple[Record, Event]]) -> None:
        if not self._readers:
            return
        touched = {record.agent for record, event in batch if record.agent is not None}
        for reader in self._readers:
            reader.dirty |= touched
            reader.header = True
            reader.wake()

    async def run(self) -> None:
        """Once a second: sample, let rates fall, wake the readers."""
        while True:
            await anyio.sleep(1.0)
            if not self._readers:
                continue
            await self.measure()
            active = [agent for agent, gauge in self._meters.agents.items() if gauge.hour.slots]
            active += self._spent_by_others()
            for reader in self._readers:
                reader.dirty.update(active)
                reader.header = True
                reader.wake()

    def _spent_by_others(self) -> list[str]:
        """Agents whose budgets' per cents moved: what one spends stands in the rows of all it covers."""
        fleet = self._books.committed
        shares = budgets.shares(fleet, self._clock.time())
        moved = {name for name in shares.keys() | self._shares if shares.get(name) != self._shares.get(name)}
        self._shares = shares
        if not moved:
            return []
        return [agent for agent in fleet.agents if not moved.isdisjoint(fleet.cover.of(fleet, agent))]

    async def measure(self) -> None:
        """Look at the agents' gauges and at the kernel's own use."""
        await self.sampler.tick()
        self._headers.tick()

    def row(self, agent_id: str, window: str, now: float) -> Row | None:
        """The agent's row now, or ``None`` if it is gone."""
        agent = self._books.committed.agents.get(agent_id)
        if agent is None:
            return self.sightings.row(agent_id, window) if self.sightings is not None else None
        run = self._supervisor.runs.get(agent_id)
        return build(
            agent,
            self._meters,
            self.sampler.loads.get(agent_id),
            window,
            now,
            run.stale if run else None,
            budgets.per_cent(self._books.committed, agent_id, now),
            agent.live and self._terminals(agent.spec.backend),
            self.last_words(agent),
            self.mail(agent),
            self.tiers(agent_id),
        )

    def header(self, window: str) -> Header:
        """The header now."""
        header = self._headers.build(
            self._books.committed, self._meters, self.sampler.loads, window, self._problem()
        )
        return self.sightings.header(header, window) if self.sightings is not None else header

    async def watch(self, window: str) -> AsyncIterator[Snapshot | Delta]:
        """One snapshot, then deltas; ends only with its reader."""
        reader = _Reader(window)
        if not self._readers:
            await self.sampler.tick()
        self._readers.add(reader)
        try:
            if self.sightings is not None:
                self.sightings.begin()
            now = self._clock.time()
            sent: dict[str, Row] = {}
            observed = self.sightings.ids(window) if self.sightings is not None else ()
            for agent_id in (*self._books.committed.agents, *observed):
                if (row := self.row(agent_id, window, now)) is not None:
                    sent[agent_id] = row
            header = self.header(window)
            yield Snapshot(self._books.committed.seq, now, window, header, tuple(sent.values()))
            while True:
                await reader.wait()
                dirty, _ = reader.take()
                seq, now = self._books.committed.seq, self._clock.time()
                rows: list[Row] = []
                gone: list[str] = []
                for number, agent_id in enumerate(dirty, 1):
                    if number % AT_ONCE == 0:
                        # What moves meanwhile is in the next delta, too.
                        await anyio.lowlevel.checkpoint()
                    row = self.row(agent_id, window, now)
                    if row is None:
                        if sent.pop(agent_id, None) is not None:
                            gone.append(agent_id)
                    elif sent.get(agent_id) != row:
                        sent[agent_id] = row
                        rows.append(row)
                fresh = self.header(window)
                if rows or gone or fresh != header:
                    delta = Delta(
                        seq,
                        now,
                        fresh if fresh != header else None,
                        tuple(rows),
                        tuple(gone),
                    )
                    header = fresh
                    yield delta
                await anyio.sleep(SPACING)
        finally:
            self._readers.discard(reader)
