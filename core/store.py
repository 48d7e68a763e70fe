"""The SQLite file under the journal: how it is opened, and how its schema moves on.

WAL with ``synchronous=FULL``: a commit that returned has been flushed to the disk
(https://www.sqlite.org/pragma.html#pragma_synchronous). The file has mode 0600; SQLite gives the
same mode to the ``-wal`` and ``-shm`` files beside it.

The schema of today is declared as SQLModel classes in ``tables.py``. Migrations are frozen SQL,
because a migration must not change when those classes do; a test proves that the sum of all
migrations is what the classes declare, and that the journal's hot statements are what they compile
to. This module and the journal use the driver directly: importing sqlmodel takes 0.4 s and 26 MB,
which is half of what a kernel may need to start and a third of what it may weigh.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from .errors import JournalUnavailable

BUSY_SECONDS = 5.0
STATEMENTS = 128
_WAL_LIMIT = 16 << 20


class StoreTooNew(JournalUnavailable):
    """A newer version of agenttop wrote this store; this one does not know what is in it."""

    code: ClassVar[str] = "store_too_new"


class Migration(NamedTuple):
    """One step of the schema. ``name`` is recorded in the store and never changes."""

    name: str
    apply: Callable[[sqlite3.Connection], None]


#: All steps, oldest first. Only ever append.
MIGRATIONS: list[Migration] = []


def migration(step: Callable[[sqlite3.Connection], None]) -> Callable[[sqlite3.Connection], None]:
    """Register a step; its name is the function's, without the leading underscore.

    A step runs inside a transaction and must not commit (so: no ``executescript``).
    """
    MIGRATIONS.append(Migration(step.__name__.lstrip("_"), step))
    return step


@migration
def _m0001_events(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE events (seq INTEGER NOT NULL PRIMARY KEY, ts FLOAT NOT NULL, kind VARCHAR NOT NULL,"
        " agent VARCHAR, body BLOB NOT NULL, hash BLOB NOT NULL)"
    )
    db.execute("CREATE INDEX ix_events_agent ON events (agent)")


@migration
def _m0002_checkpoints(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE checkpoints (seq INTEGER NOT NULL PRIMARY KEY, hash BLOB NOT NULL,"
        " digest BLOB NOT NULL, body BLOB NOT NULL)"
    )


@migration
def _m0003_probe(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE probe (id INTEGER NOT NULL PRIMARY KEY, filler BLOB NOT NULL)")


def unavailable(path: Path, error: Exception, what: str = "") -> JournalUnavailable:
    """The error a person can act on for what SQLite or the system said about ``path``."""
    what = what or f"the journal {path} cannot be written"
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    number = error.errno if isinstance(error, OSError) else None
    why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    if primary == sqlite3.SQLITE_FULL or number in (errno.ENOSPC, errno.EDQUOT):
        return JournalUnavailable(what, "The disk is full", f"Free some space on the disk of {path.parent}")
    if primary == sqlite3.SQLITE_READONLY or number == errno.EROFS:
        return JournalUnavailable(what, why, f"Make {path} and its folder writable")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return JournalUnavailable(what, why, f"Move {path} away and keep it; a new one is then begun")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalUnavailable(what, why, "Find the other process that uses it, with lsof or fuser")
    if primary == sqlite3.SQLITE_CANTOPEN or number is not None:
        return JournalUnavailable(what, why, f"See that {path.parent} exists and is yours")
    return JournalUnavailable(what, why, f"See that the disk of {path.parent} is healthy and has space")


def _create_private(path: Path) -> None:
    # SQLite would create the file with the umask's mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def connect(path: Path, *, read_only: bool = False, what: str = "the journal") -> sqlite3.Connection:
    """Open the store, in autocommit mode (transactions are begun by hand).

    The connection may move between threads, but only one may use it at a time. Errors call it ``what``.

    Raises:
        JournalUnavailable: It cannot be opened, or is no SQLite file.
    """
    try:
        if not read_only:
            _create_private(path)
        mode = "ro" if read_only else "rw"
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS,
        )
        try:
            if not read_only:
                _set_wal(db, path, what)
            db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        except BaseException:
            db.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise unavailable(path, error, f"{what} {path} cannot be opened") from error
    return db


def _set_wal(db: sqlite3.Connection, path: Path, what: str) -> None:
    mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise JournalUnavailable(
            f"{what} {path} cannot be opened",
            f"SQLite offers journal mode {mode} instead of WAL here",
            "Set AGENTTOP_HOME to a folder on a local disk",
        )
    db.execute("PRAGMA synchronous=FULL")
    db.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT}")


def migrate(
    db: sqlite3.Connection,
    path: Path,
    migrations: Sequence[Migration] | None = None,
    what: str = "the journal",
) -> list[str]:
    """Bring the schema up to date; returns the names of the steps taken now.

    Each step and the record of its name are one transaction, so that a crash leaves the store
    between two steps and never inside one.

    Raises:
        StoreTooNew: The store has steps that this version does not know.
        JournalUnavailable: A step failed; the store is as it was before that step.
    """
    steps = MIGRATIONS if migrations is None else migrations
    done = []
    try:
        if not _has_migrations_table(db):
            db.execute(
                "CREATE TABLE IF NOT EXISTS migrations"
                " (name VARCHAR NOT NULL PRIMARY KEY, applied_at FLOAT NOT NULL)"
            )
        applied = {name for (name,) in db.execute("SELECT name FROM migrations")}
        _refuse_newer(path, applied - {step.name for step in steps}, what)
        for step in steps:
            if step.name not in applied:
                _take(db, step)
                done.append(step.name)
    except sqlite3.Error as error:
        raise unavailable(path, error, f"{what} {path} cannot be brought up to date") from error
    return done


def _has_migrations_table(db: sqlite3.Connection) -> bool:
    row = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migrations'").fetchone()
    return row is not None


def _refuse_newer(path: Path, unknown: set[str], what: str) -> None:
    if unknown:
        raise StoreTooNew(
            f"{what} {path} was written by a newer version of agenttop",
            f"It has {', '.join(sorted(unknown))}, which this version does not know",
            "Upgrade agenttop, or set AGENTTOP_HOME to another folder",
        )


def _take(db: sqlite3.Connection, step: Migration) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        step.apply(db)
        db.execute("INSERT INTO migrations (name, applied_at) VALUES (?, ?)", (step.name, time.time()))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
