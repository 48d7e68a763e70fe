"""The gateway's desk in the kernel: who calls, may the call go now, and what it cost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

import anyio

from ..agents.agent import Agent
from ..agents.states import Pause, Waiting
from ..budget.prices import Prices
from ..clock import Clock
from ..errors import JournalUnavailable
from ..journal import events as ev
from ..journal.books import Books
from ..journal.events import (
    CallHeld,
    CallProgressed,
    CallReleased,
    CallSettled,
    CallStarted,
    RequestPassed,
    Usage,
)  # fmt: skip
from .desk import Asking, Caller, Refused
from .identity import Identity
from .meters import Meters, buckets, midnight
from .providers import KeyRing

log = logging.getLogger(__name__)


class CallDesk:
    """Implements ``Desk`` on the kernel's books."""

    def __init__(
        self,
        books: Books,
        meters: Meters,
        identity: Identity,
        prices: Prices,
        clock: Clock,
        keys: KeyRing,
    ) -> None:
        self._books = books
        self._meters = meters
        self._identity = identity
        self._keys = keys
        self._prices = prices
        self._clock = clock
        self._changed = anyio.Event()
        self._progress: dict[str, Usage] = {}
        self._supplied: set[str] = set()
        self.missing_keys: dict[str, int] = {}
        """Provider key names that calls wait for, with how many calls wait."""
        self._history = books.committed.seq
        """Up to here ``rebuild`` counts; what is committed from now on is counted as it comes."""
        self._waiting: list[tuple[ev.Event, float]] | None = []
        """What came before ``rebuild`` was through: gauges take older figures first."""
        books.listen(self._committed)

    # --- who -------------------------------------------------------------------------------------

    def identify(self, secret: str) -> Caller | None:
        """The agent this secret belongs to, while it lives."""
        agent_id = self._identity.agent(secret, self._books.pending.agents)
        agent = self._books.pending.agents.get(agent_id) if agent_id else None
        if agent is None or agent.run is None or not agent.live:
            return None
        return Caller(agent.id, agent.run.number)

    # --- may it go -------------------------------------------------------------------------------

    async def admit(self, started: CallStarted, asking: Asking) -> None:
        """Return when the call is durable and may be forwarded.

        Raises:
            Refused: The agent is gone.
            JournalUnavailable: The journal takes nothing.
        """
        agent = self._agent(started.agent)
        if agent.hold is not None:
            await self._commit(CallHeld(agent=agent.id, call=started.call))
            while self._agent(started.agent).hold is not None:
                await self._changed.wait()
            await self._commit(CallReleased(agent=agent.id, call=started.call))
        await self._commit(started)

    async def turn(self, started: CallStarted) -> str:
        """Its turn has come: nothing queues yet."""
        return started.provider

    def answered(
        self, started: CallStarted, provider: str, status: int, headers: Mapping[bytes, bytes]
    ) -> Literal["pass", "again"]:
        """Every answer is passed on."""
        return "pass"

    def lost(self, started: CallStarted, provider: str, why: str) -> None:
        """Nothing is learned from it yet."""

    async def await_key(self, started: CallStarted, name: str) -> None:
        """Wait until a client has supplied the provider key ``name``; the row says what is missing."""
        await self._commit(
            CallHeld(agent=started.agent, call=started.call, reason=Waiting.DEPENDENCY, detail=f"key {name}")
        )
        self.missing_keys[name] = self.missing_keys.get(name, 0) + 1
        try:
            while name not in self._supplied:
                self._agent(started.agent)
                await self._changed.wait()
        finally:
            self.missing_keys[name] -= 1
            if not self.missing_keys[name]:
                del self.missing_keys[name]
        await self._commit(CallReleased(agent=started.agent, call=started.call))

    def supply(self, keys: Mapping[str, str]) -> None:
        """Take provider keys that a client of the owner has; calls that waited for them go on."""
        for name, key in keys.items():
            if key:
                self._keys.supply(name, key)
                self._supplied.add(name)
        self.wake()

    def wake(self) -> None:
        """Something that calls wait for may have come: a key, a resume."""
        self._changed.set()
        self._changed = anyio.Event()

    def _agent(self, agent: str) -> Agent:
        record = self._books.pending.agents.get(agent)
        if record is None or not record.live:
            raise Refused("ended", "this agent has ended")
        return record

    async def _commit(self, event: ev.Event) -> None:
        await self._books.commit(event)

    # --- what it cost ----------------------------------------------------------------------------

    def progressed(self, event: CallProgressed) -> None:
        """Note what was seen of a running call so far; a lost note only makes a crash's estimate worse."""
        try:
            self._books.post(event)
        except JournalUnavailable as error:
            log.debug("progress of %s not noted: %s", event.call, error)

    def passed(self, event: RequestPassed) -> None:
        """Note a request that is not metered."""
        try:
            self._books.post(event)
        except JournalUnavailable as error:
            log.warning("%s %s of %s not noted: %s", event.method, event.path, event.agent, error)

    def frozen(self, agent: str) -> bool:
        """Whether its processes are stopped, or about to be."""
        record = self._books.pending.agents.get(agent)
        return record is not None and record.freeze is not None

    async def settle(self, event: CallSettled) -> None:
        """Durable on return, however long the disk takes."""
        await self._books.record(event)

    async def settle_crashed(self) -> int:
        """Settle the calls that a crash of the kernel cut, from their last noted progress.

        Returns how many there were.
        """
        calls = [
            (agent, call) for agent in self._books.pending.agents.values() for call in agent.calls.values()
        ]
        if not calls:
            return 0
        await self._prices.ready()
        cut = [
            CallSettled(
                agent=agent.id,
                call=call.id,
                run=call.run,
                provider=call.provider or "unknown",
                model=call.model,
                usage=call.usage,
                cost_usd=self._prices.quote(call.provider, call.model, call.usage).cost,
                exact=False,
                outcome="crash",
                error="the kernel was killed during this call",
                seconds=max(0.0, self._clock.time() - call.started),
            )
            for agent, call in calls
        ]
        await self._books.commit(*cut)
        return len(cut)

    # --- gauges ----------------------------------------------------------------------------------

    def _committed(self, batch: Sequence[tuple[ev.Record, ev.Event]]) -> None:
        for record, event in batch:
            match event:
                case CallProgressed() | CallSettled():
                    self._gauge(event, record.ts)
                case ev.AgentRemoved():
                    self._identity.forget(event.agent)
                    self._meters.forget(event.agent)
                case ev.AgentResumed(how=how) if how is not Pause.FREEZE:
                    self.wake()
                case ev.RunExited():
                    self.wake()

    def _gauge(self, event: ev.Event, ts: float) -> None:
        if self._waiting is not None:
            self._waiting.append((event, ts))
        elif isinstance(event, CallProgressed):
            self._note_progress(event, ts)
        elif isinstance(event, CallSettled):
            self.count(event, ts)

    def _note_progress(self, event: CallProgressed, ts: float) -> None:
        before = self._progress.get(event.call, Usage())
        self._progress[event.call] = event.usage
        agent = self._books.committed.agents.get(event.agent)
        call = agent.calls.get(event.call) if agent else None
        if call is not None:
            new = tuple(max(0, a - b) for a, b in zip(buckets(event.usage), buckets(before), strict=True))
            self._meters.seen(event.agent, call.provider, ts, (new[0], new[1], new[2], new[3]))

    def count(self, event: CallSettled, ts: float) -> None:
        """Count a settled call into the gauges (also used to rebuild them at start)."""
        seen = self._progress.pop(event.call, Usage())
        self._meters.settled(
            event.agent, event.provider, ts, event.usage, event.cost_usd, exact=event.exact, seen=seen
        )

    async def rebuild(self) -> None:
        """Fill the gauges from the calls settled since midnight, or in the last hour."""
        try:
            await self._rebuild()
        except JournalUnavailable as error:
            log.warning("the gauges begin at zero: %s", error)
        waiting, self._waiting = self._waiting or [], None
        for event, ts in waiting:
            self._gauge(event, ts)

    async def _rebuild(self) -> None:
        now = self._clock.time()
        since = await _first_seq(self._books, min(midnight(now), now - 3600.0))
        while since < self._history:
            records = await self._books.journal.read(since, limit=5_000, kinds=["CallSettled"])
            for record in records:
                event = record.event()
                if record.seq > self._history:
                    return
                if isinstance(event, CallSettled) and event.agent in self._books.committed.agents:
                    self.count(event, record.ts)
            if not records:
                return
            since = records[-1].seq


async def _first_seq(books: Books, ts: float) -> int:
    """The last ``seq`` before ``ts``; the journal's times never go backwards, so halving finds it."""
    low, high = 0, books.journal.last_seq
    while low < high:
        middle = (low + high) // 2
        found = await books.journal.read(middle, limit=1)
        if found and found[0].ts < ts:
            low = middle + 1
        else:
            high = middle
    return low
