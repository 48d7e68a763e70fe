"""From a decision to a durable row in the books: numbers, batches, commits, and what follows one.

Everything posted in one turn of the event loop is one batch, and all batches that wait are one
commit. The books are folded only from what is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from ..clock import Clock
from . import tables
from .books import Books, Ended, Mark
from .errors import BusUnavailable
from .mailbox import Mailbox
from .message import Limits, Message
from .posting import refuse
from .writer import Batch, Writer

Listener = Callable[[Sequence[Message | Mark]], None]


class Posted(NamedTuple):
    """A message on its way to the disk; ``await`` its batch to know that it is accepted."""

    seq: int
    batch: Batch
    #: The same idempotency key was used before: this is that message.
    again: bool = False


class Pipeline:
    """The store, the books folded from it, and the queue between decisions and both."""

    def __init__(self, path: Path, clock: Clock, limits: Limits) -> None:
        self.path = path
        self.clock = clock
        self.limits = limits
        self.books = Books(limits)
        self.problem: BusUnavailable | None = None
        self.pending_keys: dict[tuple[str, str], Posted] = {}
        self.on_arrived: Callable[[set[int]], None] = lambda _: None
        self.on_ended: Callable[[list[Ended]], None] = lambda _: None
        self.on_rings: Callable[[list[list[str]]], None] = lambda _: None
        self._listeners: list[Listener] = []
        #: A batch that is durable already: that of whatever was accepted before.
        self.settled = Batch()
        self.settled.settle()
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(path, self)
        self._batch: Batch | None = None
        self._waiting = 0
        self._waiting_bytes = 0
        self._seq = 0
        self.after = 0
        """Numbers begin behind it, also in a store that knows of none."""
        self._reopening = anyio.Lock()

    async def open(self) -> None:
        """Open the store and fold it; also the way back after ``problem``.

        Raises:
            BusUnavailable: It cannot be opened or read. StoreTooNew: a newer version wrote it.
        """
        async with self._reopening:
            # What was posted before is not numbered by the books that come now: it goes in front of them.
            self.flush()
            books: Books = await self._writer.open(partial(tables.load, limits=self.limits))
            self.books = books
            books.seq = self._seq = max(books.seq, self.after)
            self.pending_keys.clear()
            self.problem = None
        self._follow()

    async def close(self) -> None:
        """Commit what is posted and close the store. Closing twice is harmless."""
        self.flush()
        self._writer.stop()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._writer.join)
            # The writer's last words were put on the loop before its thread ended.
            await anyio.lowlevel.checkpoint()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with what each commit made durable; returns a function that ends it."""
        self._listeners.append(listener)
        return partial(self._listeners.remove, listener)

    @property
    def next_seq(self) -> int:
        """The number the next row will have."""
        return self._seq + 1

    def check(self) -> None:
        """Raises ``BusUnavailable`` while nothing can be posted."""
        limits = self.limits
        if (
            self.problem is not None
            or self._waiting >= limits.waiting
            or self._waiting_bytes >= limits.waiting_bytes
        ):
            refuse(self.problem, self._waiting)

    def message(self, message: Message, boxes: Iterable[Mailbox]) -> Posted:
        """Post a message to ``boxes`` whose number is ``next_seq``; its places in them are reserved."""
        self._waiting += 1
        self._waiting_bytes += len(message.payload or b"")
        batch = self._batch or self._open_batch()
        seq = self._seq = message.seq
        batch.items.append(message)
        batch.messages.append(message)
        for box in boxes:
            box.reserved += 1
        posted = tuple.__new__(Posted, (seq, batch, False))
        key = message.key
        if key is not None:
            self.pending_keys[message.sender, key] = posted
        return posted

    def mark(self, message: int, mailbox: int, what: str, note: str | float | None = None) -> Batch:
        """Post a mark on a message.

        Raises:
            BusUnavailable: The store takes nothing now.
        """
        if self.problem is not None:
            self.check()
        self._waiting += 1
        batch = self._batch or self._open_batch()
        self._seq += 1
        row = Mark(message, mailbox, self._seq, self.clock.time(), what, note)
        batch.items.append(row)
        batch.marks.append(row)
        return batch

    def _open_batch(self) -> Batch:
        batch = self._batch = Batch()
        self._loop.call_soon(self.flush)
        return batch

    def flush(self) -> None:
        """Hand what was posted to the writer."""
        batch, self._batch = self._batch, None
        if batch is not None:
            self._writer.put(batch)

    async def run(self, job: Callable[..., object]) -> object:
        """Run ``job(connection)`` in the writer's thread, behind what was posted.

        Raises:
            BusUnavailable: The store takes nothing now.
        """
        return await self.ask(job)

    def ask(self, job: Callable[..., object]) -> asyncio.Future[object]:
        """``run``, for who does not wait in a task."""
        self.check()
        self.flush()
        return self._writer.ask(job)

    # --- told by the writer, on the loop ---------------------------------------------------

    def committed(self, batches: Sequence[Batch]) -> None:
        """A group is durable: fold it, then tell everybody."""
        if self.problem is not None:
            # It is on the disk; the books are folded again from there.
            self.failed(batches, self.problem)
            return
        try:
            for batch in batches:
                self._fold(batch)
                self._settled(batch)
        except Exception as error:  # noqa: BLE001 - handed on: to the loop's handler and as a problem
            self.problem = BusUnavailable("the mail books do not follow their store", f"{error!r}")
            self._loop.call_exception_handler({"message": "the mail books failed", "exception": error})
        for batch in batches:
            batch.settle(self.problem)
        # Receivers first: a listener that raises must not keep their mail from them.
        self._follow()
        for listener in tuple(self._listeners):
            for batch in batches:
                listener(batch.items)

    def _fold(self, batch: Batch) -> None:
        arrived, marked = self.books.arrived_message, self.books.marked
        for item in batch.items:
            if type(item) is Message:
                key = arrived(item, 1)
                if key is not None:
                    self.pending_keys.pop((item.sender, key), None)
            else:
                marked(item)  # type: ignore[arg-type]

    def _settled(self, batch: Batch) -> None:
        self._waiting -= len(batch.items)
        self._waiting_bytes -= sum([len(message.payload or b"") for message in batch.messages])

    def _follow(self) -> None:
        books = self.books
        if books.arrived:
            arrived, books.arrived = books.arrived, set()
            self.on_arrived(arrived)
        if books.ended:
            ended, books.ended = books.ended, []
            self.on_ended(ended)
        if books.rings:
            rings, books.rings = books.rings, []
            self.on_rings(rings)

    def failed(self, batches: Sequence[Batch], error: BusUnavailable) -> None:
        """A group failed; nothing is taken until ``open`` has folded what is really there."""
        self.problem = error
        for batch in batches:
            self._settled(batch)
            batch.settle(error)

    async def purge(self) -> int:
        """Delete the rows of finished messages; returns how many.

        Raises:
            BusUnavailable: The store takes nothing now; they are kept for the next time.
        """
        books = self.books
        seqs, books.finished = books.finished, []
        keys, books.finished_keys = books.finished_keys, []
        gone = books.trim_keys(self.clock.time())
        if not seqs and not gone:
            return 0
        highest = self._seq

        def job(db: object) -> None:
            tables.purge(db, seqs, keys, highest)  # type: ignore[arg-type]
            tables.forget_keys(db, gone)  # type: ignore[arg-type]

        try:
            await self.run(job)
        except BusUnavailable:
            books.finished[:0] = seqs
            books.finished_keys[:0] = keys
            raise
        return len(seqs)
