"""The memory's SQLite file: one thread that writes, in group commits; readers off the event loop.

A write that returned is on the disk (WAL, ``synchronous=FULL``). It has a file of its own and not the
journal's: what is in here may have to be really gone, and the journal never loses a row. One file holds
all tiers, so that a move between them is one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import anyio
import anyio.to_thread

from ..errors import AgentTopError
from . import rewriting
from .model import MemoryUnavailable
from .schema import make, version_problem

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

_GROUP = 256
_PENDING = 1_024
_READERS = 4
_BUSY_SECONDS = 15.0
"""Longer than a reading may take, so that a checkpoint waits for it and wins."""
_READ_SECONDS = 10.0
_STEPS = 10_000
_WAL_LIMIT = 16 << 20
_RECORDED = 50_000
"""Jobs that are done again on a copy; where more came meanwhile it is given up."""
_TOO_LONG = f"Reading took longer than {_READ_SECONDS:g} s"
_ENDED = "Its writer has ended or has not begun"


class _Item(NamedTuple):
    job: Job[Any]
    done: asyncio.Future[Any]
    alone: bool


def _unavailable(path: Path, error: Exception) -> MemoryUnavailable:
    text = str(error)
    hint = f"See that {path} is yours, undamaged, and that its disk has space"
    if text == "interrupted":
        text, hint = _TOO_LONG, "Ask for less: fewer agents, a shorter time, rarer words"
    if "full" in text:
        hint = f"Free some space on the disk of {path.parent}"
    return MemoryUnavailable(f"the memory {path} cannot be used", text[:1].upper() + text[1:], hint)


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        # SQLite would create the file with the umask's mode; -wal and -shm get that of the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        path.chmod(0o600)
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        if read_only:
            db.execute("PRAGMA query_only = ON")
        else:
            if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise sqlite3.OperationalError("SQLite cannot use a WAL here: not a local disk")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")
            db.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        db.execute("PRAGMA cache_size = -4096")
    except BaseException:
        db.close()
        raise
    return db


class Store:
    """``async with Store(path) as store``; belongs to one event loop.

    Attributes:
        salt: 16 random bytes of this file, for digests that tell nothing.
        problem: Why the file could not be used when that was tried last; empty if it could.
    """

    def __init__(self, path: Path, *, lazy: bool = False) -> None:
        self.path = path
        self._lazy = lazy
        self._ready = False
        self._starting = anyio.Lock()
        self.salt = b""
        self.problem = ""
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="memory-writer", daemon=True)
        self._room = anyio.Semaphore(_PENDING)
        self._reading = anyio.Semaphore(_READERS)
        self._idle: list[sqlite3.Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = False
        self._dead = False
        self._now: list[_Item] = []
        self._recorded: list[Job[Any]] | None = None
        """Jobs that succeeded since a rewriting began."""
        self._replaced = False
        """The file is another one now."""

    async def __aenter__(self) -> Store:
        self._loop = asyncio.get_running_loop()
        self._open = True
        if self._lazy:
            return self
        try:
            await self.ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def ready(self) -> None:
        """Return when the file is open. One that could not be opened is tried again at the next call.

        Raises:
            MemoryUnavailable: It cannot be opened.
        """
        if self._ready or not self._open:
            return
        async with self._starting:
            if not self._ready and self._open:
                if not self._thread.is_alive() and not self._dead:
                    rewriting.discard(self.path)  # what a crash left
                    self._thread.start()
                self.salt = await self._queued(_salt, alone=True)
                self._ready = True

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what is queued, and let go of the file."""
        if not self._open:
            return
        self._open = False
        with anyio.CancelScope(shield=True):
            for _ in range(_READERS):
                await self._reading.acquire()
            # Before the writer: only who can write and is the last folds the log into the file.
            for db in self._idle:
                db.close()
            self._idle.clear()
            self._queue.put(None)
            if self._thread.is_alive():
                await anyio.to_thread.run_sync(self._thread.join)
        for _ in range(_READERS):  # who waited to read is told that it is closed
            self._reading.release()

    async def write(self, job: Job[T]) -> T:
        """Run ``job`` in the writer's thread, inside a transaction; durable on return.

        What the job raises undoes what it did and nothing else. Cancelling the wait does not undo it.

        Raises:
            MemoryUnavailable: It could not be made durable.
        """
        return await self._put(job, alone=False)

    async def alone(self, job: Job[T]) -> T:
        """Run ``job`` in the writer's thread outside of any transaction."""
        return await self._put(job, alone=True)

    async def _put(self, job: Job[T], *, alone: bool) -> T:
        await self.ready()
        return await self._queued(job, alone=alone)

    async def _queued(self, job: Job[T], *, alone: bool) -> T:
        async with self._room:
            if not self._open or self._dead or self._loop is None:
                raise MemoryUnavailable(f"the memory {self.path} is not open", _ENDED)
            done: asyncio.Future[T] = self._loop.create_future()
            self._queue.put(_Item(job, done, alone))
            return await done

    async def read(self, job: Job[T], *, patient: bool = False) -> T:
        """Run ``job`` in a worker thread with a connection that cannot write; sees what is durable.

        ``patient``: it may take as long as it does (a scrub waits for it, and gives up after a while).

        Raises:
            MemoryUnavailable: The file cannot be read, or it took longer than ten seconds.
        """
        await self.ready()
        async with self._reading:
            if not self._open:
                raise MemoryUnavailable(f"the memory {self.path} is not open")
            db = self._idle.pop() if self._idle else None
            with anyio.CancelScope(shield=True):
                db, result = await anyio.to_thread.run_sync(self._read, db, job, patient)
                if db is not None:
                    self._idle.append(db)
            self._fares(result)
            if isinstance(result, BaseException):
                raise result
            return result

    async def rewrite(self, scrub: Job[Any]) -> bool:
        """Put a copy on which ``scrub`` was run in the place of the file; reads and writes go on meanwhile.

        False where it cannot be done so: somebody else has the file open, a reading does not end, or too much
        was written meanwhile. Nothing has changed then. One at a time.

        Raises:
            MemoryUnavailable: There is no space for a copy, or the file cannot be read.
        """
        with anyio.CancelScope(shield=True):
            done = await self._rewritten(scrub)
        return done  # noqa: RET504 - not inside: for a type checker the scope may swallow what is raised

    async def _rewritten(self, scrub: Job[Any]) -> bool:
        made: sqlite3.Connection | None = None
        try:
            source = await self.alone(self._record)
            made = await anyio.to_thread.run_sync(self._copied, source, scrub)
            return await self._put_in_place(made)
        except (sqlite3.Error, OSError) as error:
            raise _unavailable(self.path, error) from error
        finally:
            self._recorded = None
            if made is not None:
                made.close()
            await anyio.to_thread.run_sync(rewriting.discard, self.path)

    def _record(self, db: sqlite3.Connection) -> sqlite3.Connection:
        source = _connect(self.path, read_only=True)
        try:
            rewriting.snapshot(source)
        except BaseException:
            source.close()
            raise
        self._recorded = []
        return source

    def _copied(self, source: sqlite3.Connection, scrub: Job[Any]) -> sqlite3.Connection:
        with contextlib.closing(source):
            return rewriting.copy(source, self.path, scrub)

    async def _put_in_place(self, made: sqlite3.Connection) -> bool:
        taken = 0
        try:
            with anyio.move_on_after(_BUSY_SECONDS):
                while taken < _READERS:
                    await self._reading.acquire()
                    taken += 1
            if taken < _READERS:
                return False
            for db in self._idle:
                db.close()
            self._idle.clear()
            return await self.alone(lambda db: self._replace(db, made))
        finally:
            for _ in range(taken):
                self._reading.release()

    def _replace(self, db: sqlite3.Connection, made: sqlite3.Connection) -> bool:
        jobs, self._recorded = self._recorded, None
        if jobs is None or len(jobs) > _RECORDED:
            return False
        self._replaced = True  # or it has left WAL mode: in any case it is opened anew
        return rewriting.replace(db, made, self.path, jobs)

    def _fares(self, outcome: object) -> None:
        if not isinstance(outcome, MemoryUnavailable):
            self.problem = ""
        elif outcome.why != _TOO_LONG:  # which one search took; the file is well
            self.problem = str(outcome)

    def _read(
        self, db: sqlite3.Connection | None, job: Job[T], patient: bool
    ) -> tuple[sqlite3.Connection | None, T | Exception]:
        try:
            if db is None:
                db = _connect(self.path, read_only=True)
            until = time.monotonic() + _READ_SECONDS
            db.set_progress_handler(None if patient else lambda: time.monotonic() > until, _STEPS)
            db.execute("BEGIN")
            try:
                return db, job(db)
            finally:
                db.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as error:
            if db is not None:
                db.close()
            return None, _unavailable(self.path, error)
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            return db, error

    # --- in the writer's thread

    def _main(self) -> None:
        db: sqlite3.Connection | None = None
        try:
            while group := self._take():
                self._now = group
                try:
                    if db is None:
                        db = self._begin()
                    outcomes = self._group(db, group)
                except (sqlite3.Error, OSError) as error:
                    # Nothing of the group is there. The next one begins with the file as it is.
                    outcomes = [_unavailable(self.path, error)] * len(group)
                    if db is not None:
                        db.close()
                        db = None
                except AgentTopError as error:
                    outcomes = [error] * len(group)
                if self._replaced and db is not None:
                    db.close()
                    db = None
                self._replaced = False
                self._tell(group, outcomes)
        finally:
            if db is not None:
                db.close()
            assert self._loop is not None
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it all who asked
                self._loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        """On the loop: nobody waits for a thread that is gone, were it by a bug."""
        self._dead = True
        left = self._now + ([] if self._pushed is None else [self._pushed])
        while not self._queue.empty():
            item = self._queue.get_nowait()
            left += [item] if item is not None else []
        for item in left:
            if not item.done.done():
                item.done.set_exception(MemoryUnavailable(f"the memory {self.path} is not open", _ENDED))

    def _begin(self) -> sqlite3.Connection:
        db = _connect(self.path, read_only=False)
        try:
            problem = version_problem(db, self.path)
            if problem is not None:
                raise problem
            make(db, secrets.token_bytes(16))
        except BaseException:
            db.close()
            raise
        return db

    def _take(self) -> list[_Item]:
        """What is queued, as far as it is one group; empty at the end."""
        first = self._pushed if (self._pushed is not None) else self._queue.get()
        self._pushed = None
        if first is None:
            return []
        group = [first]
        while not first.alone and len(group) < _GROUP:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._queue.put(None)
                break
            if item.alone:
                self._pushed = item
                break
            group.append(item)
        return group

    _pushed: _Item | None = None
    """Taken from the queue, and not of the group before it."""

    def _group(self, db: sqlite3.Connection, group: list[_Item]) -> list[Any]:
        if group[0].alone:
            try:
                return [group[0].job(db)]
            except Exception as error:
                if isinstance(error, sqlite3.Error | OSError):
                    raise
                return [error]
        outcomes: list[Any] = []
        succeeded: list[Job[Any]] = []
        db.execute("BEGIN IMMEDIATE")
        for item in group:
            db.execute("SAVEPOINT one")
            try:
                outcomes.append(item.job(db))
                succeeded.append(item.job)
            except Exception as error:
                if isinstance(error, sqlite3.Error | OSError):
                    raise
                db.execute("ROLLBACK TO one")
                outcomes.append(error)
            db.execute("RELEASE one")
        db.execute("COMMIT")
        if self._recorded is not None and len(self._recorded) <= _RECORDED:
            self._recorded += succeeded
        return outcomes

    def _tell(self, group: list[_Item], outcomes: list[Any]) -> None:
        def tell() -> None:
            for item, outcome in zip(group, outcomes, strict=True):
                self._fares(outcome)
                if item.done.done():
                    continue  # whoever asked was cancelled
                if isinstance(outcome, BaseException):
                    item.done.set_exception(outcome)
                else:
                    item.done.set_result(outcome)

        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it all who asked
            self._loop.call_soon_threadsafe(tell)


def _salt(db: sqlite3.Connection) -> bytes:
    row = db.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()
    return bytes(row[0])
