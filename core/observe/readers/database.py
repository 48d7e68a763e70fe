"""Reading a database that belongs to a CLI, while that may be writing to it.

SQLite in WAL mode lets readers in beside a writer. Nothing of it is written, or locked for longer than one
look: it is opened read-only with its shared memory (``mode=ro`` alone would make that file, and an empty
log), and where no write-ahead log lies beside it, so that no program has it open, as unchanging. A look that
takes too long is broken off and tried again later.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

#: Seconds for which a lock of somebody else is waited for.
_BUSY = 0.25
#: Seconds that one look may take.
_LONGEST = 5.0
#: So many steps of SQLite's machine are done between two looks at the clock.
_STEPS = 20_000
#: The longest text or blob that is taken out of a database, bytes.
_LARGEST = 64 << 20


class Stamp(NamedTuple):
    """Tells whether a database has changed: its own inode, size and time, and those of its log."""

    inode: int
    size: int
    changed: int
    log: int
    logged: int


def stamp(path: str) -> Stamp | None:
    """What a database is like now; ``None``: there is none.

    Raises:
        OSError: It may not be looked at.
    """
    try:
        own = os.stat(path)
    except FileNotFoundError:
        return None
    try:
        log = os.stat(f"{path}-wal")
    except FileNotFoundError:
        return Stamp(own.st_ino, own.st_size, own.st_mtime_ns, 0, 0)
    return Stamp(own.st_ino, own.st_size, own.st_mtime_ns, log.st_size, log.st_mtime_ns)


@contextmanager
def opened(path: str) -> Iterator[sqlite3.Connection]:
    """A database to read from, as it was at one moment.

    Raises:
        OSError: It cannot be read now: gone, locked, damaged, or of an unknown form.
    """
    os.stat(path)
    for name in (path, f"{path}-wal", f"{path}-shm", f"{path}-journal"):  # SQLite would wait for a FIFO
        if os.path.lexists(name) and not os.path.isfile(name):
            raise OSError(f"{name} is not a regular file")
    try:
        db = sqlite3.connect(
            f"file:{quote(path)}?{_way(path)}",
            uri=True,
            timeout=_BUSY,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            end = time.monotonic() + _LONGEST
            db.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
            if hasattr(db, "setlimit"):
                db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST)
            db.text_factory = _text
            db.execute("PRAGMA query_only = 1")
            db.execute("BEGIN")  # what is read belongs together
            yield db
        finally:
            db.close()
    except sqlite3.Error as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _way(path: str) -> str:
    """How it is opened so that nothing of it is changed."""
    with open(path, "rb") as file:
        logged = file.read(20)[18:20] == b"\x02\x02"
    if not logged:  # locks keep readers and writers apart, and SQLite makes no files for readers
        return "mode=ro"
    if os.path.exists(f"{path}-wal"):
        return "mode=ro&readonly_shm=1"
    # A program that opens it in this moment makes a log; then the next look sees that.
    return "mode=ro&immutable=1"


def columns(db: sqlite3.Connection, table: str) -> frozenset[str]:
    """The names of a table's columns; none if there is no such table: versions differ in both."""
    return frozenset(row[1] for row in db.execute(f'PRAGMA table_info("{table}")'))


def require(db: sqlite3.Connection, table: str, names: Sequence[str]) -> None:
    """Make sure that a table is as its reader knows it.

    Raises:
        OSError: It is not.
    """
    missing = [name for name in names if name not in columns(db, table)]
    if missing:
        raise OSError(f"its table {table} has no {', '.join(missing)}: an unknown version")


def split(path: str) -> tuple[str, str]:
    """The database and the conversation's id out of a source's path; see ``formats.Source``."""
    file, _, identity = path.rpartition("#")
    return file, identity


def _text(data: bytes) -> Any:
    return data.decode("utf-8", "replace")
