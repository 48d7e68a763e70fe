"""The one thread that writes the journal: it commits whatever is queued, in one transaction.

There is no fixed wait for more: under load a commit takes as long as it takes, and what was queued
meanwhile is the next group (measured: a 5 ms window only makes a lone append 40 times slower).
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .. import store
from ..errors import JournalUnavailable
from .chain import GENESIS, Head
from .events import Record

INSERT = "INSERT INTO events (seq, ts, kind, agent, body, hash) VALUES (?, ?, ?, ?, ?, ?)"

#: Rows in one statement: any number up to ``_EXACT``, beyond it powers of two up to ``_MOST``, so that
#: the driver's statement cache (``store.STATEMENTS``) holds them all.
_EXACT = 64
_MOST = 1_024

#: Events in one transaction, so that a long queue is not one long wait.
GROUP = 4_096

#: What a probe writes: more than the group that failed may have needed of the last free pages.
_PROBE = 256 << 10


class Batch(Protocol):
    """Records that are committed together or not at all."""

    records: list[Record]


class Listener(Protocol):
    """The journal, as the writer sees it. All methods are called on the event loop, in order."""

    def committed(self, batches: Sequence[Any]) -> None:
        """These batches are durable."""

    def failed(self, batches: Sequence[Any], error: JournalUnavailable) -> None:
        """These batches are not acknowledged, and the writer takes none until a ``Recover``."""


class _Job(NamedTuple):
    """Anything else that must be done in the writer's order."""

    run: Callable[[], Any]
    done: asyncio.Future[Any]


class Writer:
    """Owns the writing connection and its thread. ``start`` first, ``stop`` and ``join`` last.

    After a failed commit every batch fails until ``recover`` has been run: what was queued behind it
    is chained to rows that are not there.
    """

    def __init__(self, path: Path, listener: Listener) -> None:
        self._path = path
        self._listener = listener
        self.loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="journal-writer", daemon=True)
        self._db: sqlite3.Connection | None = None
        self._failure: JournalUnavailable | None = None
        self._stopped = False

    async def start(self) -> Head:
        """Open and migrate the store in the thread; returns where the chain ends."""
        self._thread.start()
        head: Head = await self.run(self._open)
        return head

    def put(self, batch: Batch) -> None:
        """Queue a batch; never blocks."""
        self._queue.put(batch)

    async def run(self, job: Callable[[], Any]) -> Any:
        """Run ``job`` in the thread after everything queued before it.

        Raises:
            JournalUnavailable: As the job raises it, or the thread has ended.
        """
        if self._stopped or not self._thread.is_alive():
            raise JournalUnavailable(f"the journal {self._path} is not being written", "Its writer has ended")
        done: asyncio.Future[Any] = self.loop.create_future()
        self._queue.put(_Job(job, done))
        return await done

    async def recover(self) -> Head:
        """Open the store again, prove that it takes writes, and say what is really in it.

        Raises:
            JournalUnavailable: It still cannot be written.
        """
        head: Head = await self.run(self._recover)
        return head

    @property
    def connection(self) -> sqlite3.Connection:
        """The writing connection, for jobs in the thread.

        Raises:
            JournalUnavailable: The last commit failed.
        """
        if self._failure is not None:
            raise self._failure
        assert self._db is not None  # every job runs after _open
        return self._db

    def stop(self) -> None:
        """Let the thread end behind what is queued. On the loop, so that nothing gets in behind it."""
        if not self._stopped:
            self._stopped = True
            self._queue.put(None)

    def join(self) -> None:
        """Wait until the thread has ended. Blocks: call it off the loop."""
        self._thread.join()

    # --- in the thread ---------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:
            # A bug, not the disk: nobody may wait for ever for a thread that is gone.
            self._fail_rest(error)
            raise
        finally:
            self._disconnect()

    def _turn(self) -> bool:
        """Take what is queued, commit it as a group, and do the job behind it, if one is."""
        group: list[Any] = []
        item = self._queue.get()
        room = GROUP
        while item is not None and not isinstance(item, _Job):
            group.append(item)
            room -= len(item.records)
            if room <= 0 or self._queue.empty():
                break
            item = self._queue.get()
        if group:
            self._commit(group)
        if isinstance(item, _Job):
            self._do(item)
        return item is not None

    def _commit(self, group: list[Any]) -> None:
        if self._failure is None:
            try:
                self._insert(group)
            except sqlite3.Error as error:
                self._failure = store.unavailable(self._path, error)
            else:
                self._tell(self._listener.committed, group)
                return
        self._tell(self._listener.failed, group, self._failure)

    def _insert(self, group: list[Any]) -> None:
        """Few statements with many rows each, and not ``executemany``.

        The driver lets go of the interpreter lock at every step of a statement and, beside a busy
        event loop, waits up to 5 ms to get it back: 256 rows took 340 ms row by row and 12 ms at once.
        """
        db = self.connection
        statements = list(_statements([record for batch in group for record in batch.records]))
        if len(statements) == 1:
            db.execute(*statements[0])
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            for sql, values in statements:
                db.execute(sql, values)
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _do(self, job: _Job) -> None:
        try:
            result = job.run()
        except JournalUnavailable as error:
            self._tell(_fail, job.done, error)
        except BaseException as error:
            self._tell(_fail, job.done, error)
            raise
        else:
            self._tell(_resolve, job.done, result)

    def _open(self) -> Head:
        self._db = store.connect(self._path)
        store.migrate(self._db, self._path)
        return self._head()

    def _head(self) -> Head:
        try:
            db = self.connection
            row = db.execute("SELECT seq, ts, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise store.unavailable(self._path, error, f"the journal {self._path} cannot be read") from error
        return Head._make(row) if row else Head(hash=GENESIS)

    def _recover(self) -> Head:
        before, self._failure = self._failure, None
        try:
            self._disconnect()
            head = self._open()
            self._probe()
        except JournalUnavailable as error:
            self._failure = error
            raise
        except BaseException:
            self._failure = before
            raise
        return head

    def _probe(self) -> None:
        try:
            self.connection.execute("INSERT INTO probe (filler) VALUES (zeroblob(?))", (_PROBE,))
            self.connection.execute("DELETE FROM probe")
        except sqlite3.Error as error:
            raise store.unavailable(self._path, error) from error

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _fail_rest(self, error: BaseException) -> None:
        gone = JournalUnavailable(
            f"the journal {self._path} is not being written",
            f"Its writer ended: {error!r}",
            "Restart the kernel",
        )
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
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop was closed without closing the journal: nobody is left to be told.
            if not self.loop.is_closed():
                raise


def _statements(records: list[Record]) -> Iterator[tuple[str, list[Any]]]:
    """The statements, with their values, that insert these records in order."""
    start = 0
    while left := len(records) - start:
        rows = left if left <= _EXACT else min(_MOST, 1 << (left.bit_length() - 1))
        sql = INSERT + ", (?, ?, ?, ?, ?, ?)" * (rows - 1)
        yield sql, list(chain.from_iterable(records[start : start + rows]))
        start += rows


def _resolve(done: asyncio.Future[Any], result: Any) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)
