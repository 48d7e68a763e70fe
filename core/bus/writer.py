"""The one thread that writes the mail store: it commits whatever is queued, in one transaction.

No fixed wait for more: what comes while a commit takes place is the next group.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..errors import JournalUnavailable
from ..store import StoreTooNew
from . import tables
from .books import Mark
from .errors import BusUnavailable
from .message import Message

#: What is told of a batch: ``None`` when it is durable and in the books, else why it is not.
Settled = Callable[[BusUnavailable | None], None]

#: Rows in one transaction, so that a long queue is not one long wait.
GROUP = 8_192


class Batch:
    """Rows that are committed together or not at all; ``await`` it to know that they are durable."""

    __slots__ = ("_calls", "_error", "_waiting", "done", "items", "marks", "messages")

    def __init__(self) -> None:
        self.items: list[Message | Mark] = []
        self.messages: list[Message] = []
        self.marks: list[Mark] = []
        self.done = False
        self._error: BusUnavailable | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._calls: list[Settled] = []

    def __await__(self) -> Generator[Any, None, None]:
        """Return when durable and in the books. Cancelling an ``await`` takes nothing back.

        Raises:
            BusUnavailable: The disk did not acknowledge it.
        """
        if not self.done:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            yield from waiter
        if self._error is not None:
            raise BusUnavailable(self._error.what, self._error.why, self._error.hint)

    def then(self, call: Settled) -> None:
        """Call back where a task would ``await``: at once if it is settled already."""
        if self.done:
            call(self._error)
        else:
            self._calls.append(call)

    def settle(self, error: BusUnavailable | None = None) -> None:
        """The writer's word; once, on the loop."""
        self.done = True
        self._error = error
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
        calls, self._calls = self._calls, []
        for call in calls:
            try:
                call(error)
            except Exception as fault:  # noqa: BLE001 - handed on; the others are told all the same
                said = {"message": "a callback after a commit failed", "exception": fault}
                asyncio.get_running_loop().call_exception_handler(said)


class Listener(Protocol):
    """The bus, as the writer sees it. Called on the event loop, in order."""

    def committed(self, batches: Sequence[Batch]) -> None:
        """These are durable."""

    def failed(self, batches: Sequence[Batch], error: BusUnavailable) -> None:
        """These are not acknowledged, and none will be until the store was opened again."""


class _Job(NamedTuple):
    run: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    reopens: bool


class Writer:
    """Owns the connection and its thread. ``open`` first, ``stop`` and ``join`` last."""

    def __init__(self, path: Path, listener: Listener) -> None:
        self._path = path
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Batch | _Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="mail-writer", daemon=True)
        self._db: sqlite3.Connection | None = None
        self._failure: BusUnavailable | None = None
        self._stopped = False

    def put(self, batch: Batch) -> None:
        """Queue rows; never blocks."""
        self._queue.put(batch)

    async def open(self, job: Callable[[sqlite3.Connection], Any]) -> Any:
        """Open the store (again), and run ``job`` before anything else is written.

        Raises:
            BusUnavailable: It cannot be opened; StoreTooNew: a newer version wrote it.
        """
        if not self._thread.is_alive() and not self._stopped:
            self._thread.start()
        return await self._ask(job, reopens=True)

    async def run(self, job: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run ``job`` in the thread, behind everything queued before it.

        Raises:
            BusUnavailable: The store cannot be read or written.
        """
        return await self.ask(job)

    def ask(self, job: Callable[[sqlite3.Connection], Any]) -> asyncio.Future[Any]:
        """``run``, for who does not wait in a task."""
        return self._ask(job, reopens=False)

    def _ask(self, job: Callable[[sqlite3.Connection], Any], *, reopens: bool) -> asyncio.Future[Any]:
        if self._stopped or not self._thread.is_alive():
            raise BusUnavailable(f"the mail store {self._path} is not open", "The bus has ended")
        done: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Job(job, done, reopens))
        return done

    def stop(self) -> None:
        """Let the thread end behind what is queued."""
        if not self._stopped:
            self._stopped = True
            self._queue.put(None)

    def join(self) -> None:
        """Wait until the thread has ended. Blocks: call it off the loop."""
        if self._thread.ident is not None:
            self._thread.join()

    # --- in the thread ---------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:
            self._fail_rest(error)
            raise
        finally:
            self._disconnect()

    def _turn(self) -> bool:
        group: list[Batch] = []
        item = self._queue.get()
        room = GROUP
        while isinstance(item, Batch):
            group.append(item)
            room -= len(item.items)
            if room <= 0 or self._queue.empty():
                break
            item = self._queue.get()
        if group:
            self._commit(group)
        if isinstance(item, _Job):
            self._do(item)
        return item is not None

    def _commit(self, group: list[Batch]) -> None:
        if self._failure is None:
            assert self._db is not None  # batches come after open
            one = group[0]
            messages = one.messages if len(group) == 1 else [row for batch in group for row in batch.messages]
            marks = one.marks if len(group) == 1 else [row for batch in group for row in batch.marks]
            try:
                tables.insert(self._db, messages, marks)
            except sqlite3.Error as error:
                self._failure = tables.unavailable(self._path, error)
            else:
                self._tell(self._listener.committed, group)
                return
        self._tell(self._listener.failed, group, self._failure)

    def _do(self, job: _Job) -> None:
        try:
            if job.reopens:
                self._disconnect()
                self._db = tables.connect(self._path)
                self._failure = None
            if self._failure is not None or self._db is None:
                raise self._failure or BusUnavailable(f"the mail store {self._path} is not open")
            result = job.run(self._db)
        except (sqlite3.Error, JournalUnavailable) as error:
            if job.reopens:
                self._failure = tables.unavailable(self._path, error)
            said = error if isinstance(error, StoreTooNew) else tables.unavailable(self._path, error)
            self._tell(_fail, job.done, said)
        except BaseException as error:
            self._tell(_fail, job.done, error)
            raise
        else:
            self._tell(_resolve, job.done, result)

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _fail_rest(self, error: BaseException) -> None:
        """A bug, not the disk: nobody may wait for ever for a thread that is gone."""
        gone = BusUnavailable("the mail store is not being written", f"Its writer ended: {error!r}")
        self._failure = gone
        self._tell(self._listener.failed, (), gone)
        while not self._queue.empty():
            item = self._queue.get()
            if isinstance(item, _Job):
                self._tell(_fail, item.done, gone)
            elif item is not None:
                self._tell(self._listener.failed, (item,), gone)

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop was closed without closing the bus: nobody is left to be told.
            if not self._loop.is_closed():
                raise


def _resolve(done: asyncio.Future[Any], result: Any) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)
