"""The gauges, kept up by what the journal says of calls, and rebuilt from it at start."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..clock import Clock
from ..errors import JournalUnavailable
from ..journal import events as ev
from ..journal.books import Books
from ..journal.events import CallProgressed, CallSettled, Usage
from .meters import Meters, buckets, midnight

log = logging.getLogger(__name__)


class Gauges:
    """Feeds ``Meters`` from the books."""

    def __init__(self, books: Books, meters: Meters, clock: Clock) -> None:
        self._books = books
        self._meters = meters
        self._clock = clock
        self._progress: dict[str, Usage] = {}
        self._history = books.committed.seq
        """Up to here ``rebuild`` counts; what is committed from now on is counted as it comes."""
        self._waiting: list[tuple[ev.Event, float]] | None = []
        """What came before ``rebuild`` was through: gauges take older figures first."""
        books.listen(self._committed)

    def _committed(self, batch: Sequence[tuple[ev.Record, ev.Event]]) -> None:
        for record, event in batch:
            match event:
                case CallProgressed() | CallSettled():
                    self._gauge(event, record.ts)
                case ev.AgentRemoved():
                    self._meters.forget(event.agent)

    def _gauge(self, event: ev.Event, ts: float) -> None:
        if self._waiting is not None:
            self._waiting.append((event, ts))
        elif isinstance(event, CallProgressed):
            self._note_progress(event, ts)
        elif isinstance(event, CallSettled):
            self._count(event, ts)

    def _note_progress(self, event: CallProgressed, ts: float) -> None:
        before = self._progress.get(event.call, Usage())
        self._progress[event.call] = event.usage
        agent = self._books.committed.agents.get(event.agent)
        call = agent.calls.get(event.call) if agent else None
        if call is not None:
            new = tuple(max(0, a - b) for a, b in zip(buckets(event.usage), buckets(before), strict=True))
            self._meters.seen(event.agent, call.provider, ts, (new[0], new[1], new[2], new[3]))

    def _count(self, event: CallSettled, ts: float) -> None:
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
        since = await self._books.journal.before(min(midnight(now), now - 3600.0))
        while since < self._history:
            records = await self._books.journal.read(since, limit=5_000, kinds=["CallSettled"])
            for record in records:
                event = record.event()
                if record.seq > self._history:
                    return
                if isinstance(event, CallSettled) and event.agent in self._books.committed.agents:
                    self._count(event, record.ts)
            if not records:
                return
            since = records[-1].seq
