"""The kernel's books: the journal, the fold decisions are made on, and the fold people see.

``pending`` is ahead of the disk by the commits under way; decisions are made on it, so that two
requests a millisecond apart cannot both take the last name. ``committed`` trails the disk; screens,
answers and forwarding use it. Both are the same fold over the same events.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..agents.agent import Agent, Fleet
from ..budget.cover import Cover
from ..budget.state import BudgetState
from ..errors import JournalUnavailable
from . import fold
from .events import Event, Record
from .journal import Journal, Ticket

log = logging.getLogger(__name__)

Listener = Callable[[Sequence[tuple[Record, Event]]], None]

Companion = Callable[[Event], Iterable[Event]]

#: Events between checkpoints: folding this many at start takes well under 0.1 s.
CHECKPOINT_EVERY = 5_000

#: Rows read at once while folding.
_PAGE = 5_000


class Books:
    """The one place that writes facts. Everything here runs on the kernel's event loop."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.pending = Fleet()
        self.committed = Fleet()
        self._listeners: list[Listener] = []
        self._post_listeners: list[Callable[[Event], None]] = []
        self._refold_listeners: list[Callable[[], None]] = []
        self._companions: list[Companion] = []
        self._posted: deque[Ticket] = deque()
        self._healthy = anyio.Event()
        self._healthy.set()
        self._news: anyio.Event | None = None
        """Set at the next commit, if somebody waits for that."""
        self._checkpoint = 0
        journal.on_commit(self._committed)

    async def open(self) -> None:
        """Fold the journal from the last usable checkpoint; again after a failure.

        What was there before stays to be looked at until the new fold is whole.
        """
        saved = await self.journal.load_checkpoint()
        fleet = (fold.load(saved.body) if saved else None) or Fleet()
        self._checkpoint = fleet.seq
        await self._catch_up(fleet)
        self.committed, self.pending = fleet, _copy(fleet)
        self._posted.clear()
        for listener in self._refold_listeners:
            listener()

    async def _catch_up(self, fleet: Fleet) -> None:
        while records := await self.journal.read(fleet.seq, limit=_PAGE):
            for record in records:
                if (event := record.event()) is not None:
                    fold.apply(fleet, record.seq, event, record.ts)
                fleet.seq = record.seq
            # A long history must not starve the loop of whoever already talks to this kernel.
            await anyio.lowlevel.checkpoint()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` after each group commit, when ``committed`` has the events folded in.

        Returns a function that ends it.
        """
        self._listeners.append(listener)
        return partial(self._listeners.remove, listener)

    def on_post(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with each event as it is folded into ``pending``; it may set things free, but
        must not raise."""
        self._post_listeners.append(listener)

    def on_refold(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when a failed commit had ``pending`` folded again without what was posted."""
        self._refold_listeners.append(listener)

    def accompany(self, companion: Companion) -> None:
        """Ask ``companion`` before an event is posted which others belong right behind it, in one commit."""
        self._companions.append(companion)

    def in_flight(self) -> Iterator[tuple[Record, Event]]:
        """What was posted and is not committed yet, in order."""
        for ticket in self._posted:
            yield from zip(ticket.records, ticket.events, strict=True)

    @property
    def problem(self) -> str:
        """Why the journal takes nothing now, or empty."""
        return self.journal.problem

    def post(self, *events: Event) -> Ticket:
        """Append and fold into ``pending``; durable when the ticket has been awaited.

        Raises:
            JournalUnavailable: The journal takes nothing now; nothing was folded.
        """
        if self._companions:
            events = tuple(self._accompanied(events))
        ticket = self.journal.append(*events)
        if ticket.records:
            self._posted.append(ticket)
        for record, event in zip(ticket.records, events, strict=True):
            fold.apply(self.pending, record.seq, event, record.ts)
        for listener in self._post_listeners:
            for event in events:
                listener(event)
        return ticket

    def _accompanied(self, events: Sequence[Event]) -> Iterator[Event]:
        for event in events:
            yield event
            for companion in self._companions:
                yield from companion(event)

    async def commit(self, *events: Event) -> None:
        """Append, and return when durable.

        Raises:
            JournalUnavailable: The events are not in the journal.
        """
        try:
            await self.post(*events)
        except JournalUnavailable:
            self._sicken()
            raise

    async def record(self, *events: Event) -> None:
        """Commit facts that happened whether or not the disk has room; wait until it has."""
        while True:
            try:
                await self.commit(*events)
            except JournalUnavailable:
                await self._healthy.wait()
            else:
                return

    async def healthy(self) -> None:
        """Return when the journal takes events again (at once, if it does)."""
        if self.problem:
            self._sicken()
        await self._healthy.wait()

    def _sicken(self) -> None:
        if self._healthy.is_set():
            self._healthy = anyio.Event()

    async def heal(self) -> bool:
        """Try to take work again after a failed commit: fold again from what is on disk."""
        if not self.journal.problem:
            if not self._healthy.is_set():
                self._healthy.set()
            return True
        self._sicken()
        try:
            if not await self.journal.recover(self.open):
                return False
        except JournalUnavailable as error:  # it can be written, but not read
            log.warning("the journal cannot be folded again: %s", error)
            return False
        self._healthy.set()
        return True

    def _committed(self, batch: Sequence[tuple[Record, Event]]) -> None:
        for record, event in batch:
            fold.apply(self.committed, record.seq, event, record.ts)
        last = batch[-1][0].seq
        while self._posted and self._posted[0].records[-1].seq <= last:
            self._posted.popleft()
        for listener in tuple(self._listeners):
            listener(batch)
        if self._news is not None:
            self._news.set()
            self._news = None

    async def next_commit(self) -> None:
        """Return after the next group commit."""
        if self._news is None:
            self._news = anyio.Event()
        await self._news.wait()

    async def checkpoint(self, *, force: bool = False) -> None:
        """Write the fold down if enough happened since the last time."""
        seq = self.committed.seq
        if seq - self._checkpoint < (1 if force else CHECKPOINT_EVERY) or self.journal.problem:
            return
        blob = fold.dump(self.committed)
        await self.journal.save_checkpoint(seq, blob)
        self._checkpoint = seq


def _copy(fleet: Fleet) -> Fleet:
    """A fold that can move on by itself; what never changes (specs, handles) is shared.

    Writing a checkpoint and reading it back takes 1.1 s for 10,000 agents, and twice their memory.
    """
    return replace(
        fleet,
        agents={key: _copy_agent(agent) for key, agent in fleet.agents.items()},
        names=dict(fleet.names),
        budgets={name: _copy_budget(state) for name, state in fleet.budgets.items()},
        reservations={
            key: replace(held, accounts=[*held.accounts]) for key, held in fleet.reservations.items()
        },
        approvals=dict(fleet.approvals),
        passes=dict(fleet.passes),
        kin={key: replace(kin) for key, kin in fleet.kin.items()},
        observed=dict(fleet.observed),
        cover=Cover(),
    )


def _copy_budget(state: BudgetState) -> BudgetState:
    accounts = {
        key: replace(account, slots=[*account.slots], extensions=[*account.extensions])
        for key, account in state.accounts.items()
    }
    return replace(state, accounts=accounts)


def _copy_agent(agent: Agent) -> Agent:
    return replace(
        agent,
        freeze=replace(agent.freeze) if agent.freeze else None,
        run=replace(agent.run) if agent.run else None,
        worktree=replace(agent.worktree) if agent.worktree else None,
        past=[replace(run) for run in agent.past],
        calls={key: replace(call) for key, call in agent.calls.items()},
        total=replace(agent.total),
        last=replace(agent.last),
        task=replace(agent.task),
        approvals=[*agent.approvals],
        passes=[*agent.passes],
    )
