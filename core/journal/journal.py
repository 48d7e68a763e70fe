"""The journal: typed events in, durable, sequenced and hash-chained rows out.

``append`` decides the order, synchronously; durability follows, and ``await`` on the ticket is it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel
import anyio.to_thread
from pydantic_core import PydanticSerializationError

from ..clock import Clock
from ..errors import JournalUnavailable
from . import checkpoint
from .chain import Head, VerifyResult, link
from .checkpoint import Checkpoint
from .events import Event, Record
from .replay import CHUNK, Reader
from .writer import Writer

Observer = Callable[[list[tuple[Record, Event]]], None]

#: Events that may wait for the disk before ``commit`` and ``room`` wait themselves.
QUEUE = 20_000

#: A NamedTuple's own constructor takes twice as long, and this is paid for every event.
_tuple = tuple.__new__


class Ticket:
    """Events on their way to the disk; ``await`` it to know that they are there.

    ``records`` are the rows as they will be stored. Cancelling an ``await`` takes nothing back.
    """

    __slots__ = ("_error", "_loop", "_waiting", "done", "events", "records")

    def __init__(
        self, records: list[Record], events: Sequence[Event], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._loop = loop
        self.records = records
        self.events = events
        self.done = False
        self._error: JournalUnavailable | None = None
        self._waiting: list[asyncio.Future[None]] | None = None

    def __await__(self) -> Generator[Any, None, list[Record]]:
        """Return the records when durable.

        Raises:
            JournalUnavailable: They were not acknowledged by the disk.
        """
        if not self.done:
            waiter = self._loop.create_future()
            self._waiting = [*(self._waiting or ()), waiter]
            yield from waiter
        if self._error is not None:
            # One instance raised in many tasks would collect all their tracebacks.
            raise JournalUnavailable(self._error.what, self._error.why, self._error.hint)
        return self.records

    def settle(self, error: JournalUnavailable | None = None) -> None:
        """The journal's word; called once, on the loop."""
        self.done = True
        self._error = error
        for waiter in self._waiting or ():
            if not waiter.done():
                waiter.set_result(None)
        self._waiting = None


class Journal:
    """The one append-only record. Use it on the event loop it was opened on; one per file.

    Times: a row's ``ts`` is the wall clock, but never before the row in front of it. While the clock
    is behind (it was set back), rows carry the last time again, so that order by ``seq`` is order by
    ``ts``.

    Failure: when a commit fails, every waiting ticket fails with ``JournalUnavailable``, ``problem``
    says why and ``append`` refuses, until ``recover`` succeeds. A ticket that failed was not
    acknowledged; whether its events are on the disk is told by ``recover`` and the rows after it.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        """Use ``open``."""
        self.path = path
        self._clock = clock
        self._writer = Writer(path, self)
        self._reader = Reader(path)
        self._observers: list[Observer] = []
        self._head = Head()
        self._durable = 0
        self._waiting = 0
        self._space: list[asyncio.Future[None]] = []
        self._recovering = anyio.Lock()
        self._problem: JournalUnavailable | None = None
        self._closed = False

    @classmethod
    async def open(cls, path: Path, clock: Clock) -> Journal:
        """Open or create the journal at ``path`` (mode 0600) and bring its schema up to date.

        Raises:
            StoreTooNew: A newer version wrote it.
            JournalUnavailable: It cannot be opened or written.
        """
        journal = cls(path, clock)
        try:
            journal._head = await journal._writer.start()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await journal.close()
            raise
        journal._durable = journal._head.seq
        return journal

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def last_seq(self) -> int:
        """The last durable event; 0 in an empty journal."""
        return self._durable

    @property
    def last_ts(self) -> float:
        """When the last event was appended, durable or not; 0 in an empty journal."""
        return self._head.ts

    @property
    def problem(self) -> str:
        """Why nothing can be appended now; empty when healthy."""
        return str(self._problem) if self._problem else ""

    def on_commit(self, observer: Observer) -> Callable[[], None]:
        """Call ``observer`` after each group commit, on the loop, in order, before tickets resolve.

        An observer that raises has lost count: the journal then takes nothing until ``recover``.
        Returns a function that takes the observer away again.
        """
        self._observers.append(observer)
        return partial(self._observers.remove, observer)

    def append(self, *events: Event) -> Ticket:
        """Give events the next places, to be committed together or not at all; never blocks.

        Raises:
            JournalUnavailable: The journal takes nothing now; nothing was appended.
        """
        if self._problem is not None:
            raise JournalUnavailable(self._problem.what, self._problem.why, self._problem.hint)
        if self._closed:
            raise JournalUnavailable(f"the journal {self.path} is closed")
        seq, ts, previous = self._head
        ts = max(ts, self._clock.time())
        records = []
        stored = []
        for event in events:
            seq += 1
            try:
                body = event.__pydantic_serializer__.to_json(event)
            except PydanticSerializationError:
                event, body = _repaired(event)
            kind, agent = event.kind, event.agent
            previous = link(previous, seq, ts, kind, agent, body)
            records.append(_tuple(Record, (seq, ts, kind, agent, body, previous)))
            stored.append(event)
        ticket = Ticket(records, stored, self._writer.loop)
        if not records:
            ticket.settle()
            return ticket
        self._head = _tuple(Head, (seq, ts, previous))
        self._waiting += len(records)
        self._writer.put(ticket)
        return ticket

    async def room(self) -> None:
        """Wait until the queue has room: back-pressure for whoever appends in a loop."""
        while self._waiting >= QUEUE:
            waiter = asyncio.get_running_loop().create_future()
            self._space.append(waiter)
            await waiter

    async def commit(self, *events: Event) -> list[Record]:
        """Append when there is room, and return the records when durable.

        Raises:
            JournalUnavailable: They were not acknowledged.
        """
        await self.room()
        return await self.append(*events)

    async def read(
        self, since: int, limit: int = CHUNK, kinds: Iterable[str] | None = None, agent: str | None = None
    ) -> list[Record]:
        """The first ``limit`` durable rows with ``seq > since``, oldest first."""
        return await self._reader.rows(since, limit, kinds, None if agent is None else [agent])

    async def before(self, ts: float) -> int:
        """The last durable ``seq`` before ``ts``; times never go backwards, so that halving finds it."""
        low, high = 0, self._durable
        while low < high:
            middle = (low + high) // 2
            found = await self.read(middle, limit=1)
            if found and found[0].ts < ts:
                low = middle + 1
            else:
                high = middle
        return low

    async def tail(
        self, count: int, kinds: Iterable[str] | None = None, agents: Iterable[str] | None = None
    ) -> list[Record]:
        """The newest ``count`` durable rows, oldest first."""
        return await self._reader.rows(0, count, kinds, agents, newest=True)

    def events(self, since: int = 0) -> AsyncIterator[list[tuple[Record, Event | None]]]:
        """All durable rows after ``since`` with their typed events, in chunks decoded off the loop."""
        return self._reader.events(since)

    async def verify(self) -> VerifyResult:
        """Walk along the whole chain; other work goes on meanwhile."""
        return await self._reader.verify()

    async def save_checkpoint(self, seq: int, body: bytes) -> None:
        """Keep the fold's state after event ``seq``, and drop old ones.

        Raises:
            JournalUnavailable: It cannot be written, or there is no durable event ``seq``.
        """
        await self._writer.run(lambda: checkpoint.save(self._writer.connection, self.path, seq, body))

    async def load_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that fits the chain."""
        return await self._reader.run(checkpoint.load)

    async def recover(self, refold: Callable[[], Awaitable[None]] | None = None) -> bool:
        """Try to take work again after a failure; true when the journal is healthy.

        The end of the chain is read from the disk, so that a commit which failed in doubt is decided
        by what is there. ``refold`` is run before anything can be appended again, so that the books
        it rebuilds from ``read`` cannot be overtaken.
        """
        async with self._recovering:
            if self._problem is None:
                return True
            try:
                head = await self._writer.recover()
            except JournalUnavailable as error:
                self._problem = error
                return False
            self._head = head
            self._durable = head.seq
            if refold is not None:
                await refold()
            self._problem = None
            return True

    async def close(self) -> None:
        """Commit what is queued, end the writer's thread and close the file. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._writer.stop()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._writer.join)
            # The writer's last words were put on the loop before its thread ended.
            await anyio.lowlevel.checkpoint()
        self._reader.close()

    # --- told by the writer, on the loop ---------------------------------------------------

    def committed(self, batches: Sequence[Ticket]) -> None:
        """A group is durable."""
        self._durable = batches[-1].records[-1].seq
        if self._problem is None:
            self._show([pair for batch in batches for pair in zip(batch.records, batch.events, strict=True)])
        self._settle(batches, None)

    def _show(self, group: list[tuple[Record, Event]]) -> None:
        for observer in tuple(self._observers):
            try:
                observer(group)
            except Exception as error:  # noqa: BLE001 - handed on: to the loop's handler and as a problem
                self._problem = JournalUnavailable(
                    "the kernel's books do not follow the journal", f"{type(error).__name__}: {error}"
                )
                message = "an observer of the journal failed"
                asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})

    def failed(self, batches: Sequence[Ticket], error: JournalUnavailable) -> None:
        """A group failed; nothing is taken until ``recover``."""
        self._problem = error
        self._settle(batches, error)

    def _settle(self, batches: Sequence[Ticket], error: JournalUnavailable | None) -> None:
        for batch in batches:
            self._waiting -= len(batch.records)
            batch.settle(error)
        if self._waiting < QUEUE and self._space:
            waiters, self._space = self._space, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


def _repaired(event: Event) -> tuple[Event, bytes]:
    """An event that cannot be stored because its text is not Unicode (lone surrogates): made so."""
    clean = type(event).model_validate(_clean(event.model_dump()))
    return clean, clean.__pydantic_serializer__.to_json(clean)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
