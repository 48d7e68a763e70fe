"""Scrubbing a large file without holding its writer: a scrubbed copy is made beside it, and takes its place.

1. In the writer's thread, between two groups: a snapshot is opened, and from here on jobs are recorded.
2. In a worker thread: the snapshot is copied, and the copy scrubbed. Readers and the writer go on meanwhile.
3. In the writer's thread, with no reader inside: the recorded jobs are done again on the copy, the old file's
   log is folded in and removed, and the copy is renamed over it.

Jobs are functions of the tables and of what they were made with (no clock, no chance), so that done again
they do the same. That the old file leaves WAL mode proves that nobody else has it open: SQLite wants it for
itself for that. A crash leaves the old file, still marked, or the new one; a copy that is left over is
removed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Job = Callable[[sqlite3.Connection], Any]


def place(path: Path) -> Path:
    """Where the copy of a memory lies while it is made."""
    return path.with_name(path.name + ".new")


def discard(path: Path) -> None:
    """Remove a copy that was left over, and whatever SQLite laid beside it."""
    copy = place(path)
    for name in (copy.name, f"{copy.name}-journal", f"{copy.name}-wal", f"{copy.name}-shm"):
        copy.with_name(name).unlink(missing_ok=True)


def snapshot(db: sqlite3.Connection) -> None:
    """Let a reader's connection see the file as it is now, whatever is written later."""
    db.set_progress_handler(None, 0)
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM meta").fetchone()


def copy(source: sqlite3.Connection, path: Path, scrub: Job) -> sqlite3.Connection:
    """A scrubbed copy of a snapshot; it has no log, and is not on the disk yet."""
    discard(path)
    new = place(path)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    made = sqlite3.connect(new, isolation_level=None, check_same_thread=False)
    try:
        source.backup(made)
        made.execute("PRAGMA journal_mode = OFF")  # it came with the WAL mode of its source
        made.execute("PRAGMA synchronous = OFF")
        made.execute("PRAGMA secure_delete = ON")
        scrub(made)
    except BaseException:
        made.close()
        raise
    return made


def replace(old: sqlite3.Connection, made: sqlite3.Connection, path: Path, jobs: Sequence[Job]) -> bool:
    """Bring the copy up to date and put it in the place of the file; whether nobody else had that open.

    Both connections are of no use afterwards where it did; else only the copy's.
    """
    new = place(path)
    with contextlib.closing(made):
        made.execute("BEGIN")
        for job in jobs:
            job(made)
        made.execute("COMMIT")
        made.execute("PRAGMA journal_mode = DELETE")
    with new.open("rb") as file:
        os.fsync(file.fileno())
    if not _alone(old):
        return False
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def _alone(db: sqlite3.Connection) -> bool:
    """Fold the log in and remove it; false where another connection is open, and nothing has changed."""
    db.execute("PRAGMA busy_timeout = 1000")
    try:
        return bool(db.execute("PRAGMA journal_mode = DELETE").fetchone()[0] == "delete")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return False
