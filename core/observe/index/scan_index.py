"""The persisted memory of what transcripts told: a SQLite file in the state folder.

It is a cache of the transcripts in so far as it can be made again from those that still exist; calls
of transcripts that were deleted since (Claude Code does that after thirty days) stay known. Each
file's position and the calls found up to it are written in one transaction.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from .calls import Copy, band, better, counted, messages, pack, unpack_all
from .scan import Reading, believed

_VERSION = 1
_PARTS = 16
#: Milliseconds of a quarter of an hour: no time zone is off by less, so days can be told.
QUARTER = 900_000

_SCHEMA = """
CREATE TABLE file (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, path TEXT NOT NULL UNIQUE,
    device INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL, changed INTEGER NOT NULL,
    offset INTEGER NOT NULL, head INTEGER NOT NULL, head_size INTEGER NOT NULL,
    odd INTEGER NOT NULL, long INTEGER NOT NULL, error TEXT NOT NULL,
    state BLOB NOT NULL, facts BLOB NOT NULL
);
CREATE TABLE model (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE part (id INTEGER PRIMARY KEY, file INTEGER NOT NULL, calls BLOB NOT NULL);
CREATE INDEX part_of_file ON part (file);
"""

_SET = """
UPDATE file SET device = ?, inode = ?, size = ?, changed = ?, offset = ?, head = ?, head_size = ?,
    odd = odd * ? + ?, long = long * ? + ?, error = ?, state = ?, facts = ? WHERE id = ?
"""


class KnownFile(NamedTuple):
    """A transcript as the last reading left it."""

    file: int
    kind: str
    path: str
    device: int
    inode: int
    size: int
    changed: int
    offset: int
    head: int
    head_size: int
    odd: int
    long: int
    error: str


class Sum(NamedTuple):
    """Calls of one file, model and band of sizes within one quarter of an hour."""

    file: int
    model: str
    quarter: int
    """Quarters of an hour since the epoch."""
    band: int
    """See ``calls.band``."""
    calls: int
    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    reasoning: int


def forget(path: Path) -> None:
    """Remove an index that is damaged; what still exists is read again."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class ScanIndex:
    """One connection; used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = self._open(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, or no permission: not damaged
                raise
            forget(path)
            self._db = self._open(path)

    def _open(self, path: Path) -> sqlite3.Connection:
        self._db = db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            # A power cut may cost the last readings, never the file; they are read again.
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA cache_size = -2048")
            if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                self._make()
        except BaseException:
            db.close()
            raise
        return db

    def _make(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for (name,) in self._db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall():
            self._db.execute(f'DROP TABLE "{name}"')
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version = {_VERSION}")
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def files(self) -> list[KnownFile]:
        """Every transcript that was ever read."""
        rows = self._db.execute(
            "SELECT id, kind, path, device, inode, size, changed, offset, head, head_size, odd, long, error"
            " FROM file"
        )
        return [KnownFile(*row) for row in rows]

    def state(self, file: int) -> dict[str, Any]:
        """What its reader has to know to go on."""
        (found,) = self._db.execute("SELECT state FROM file WHERE id = ?", (file,)).fetchone()
        state: dict[str, Any] = orjson.loads(found)
        return state

    def facts(self) -> dict[int, dict[str, Any]]:
        """Session, folder, branch and the like of every file."""
        rows = self._db.execute("SELECT id, facts FROM file")
        return {file: believed(orjson.loads(facts)) for file, facts in rows}

    def add_files(self, found: Iterable[tuple[str, str]]) -> None:
        """Give numbers to new files: kind and path of each."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "INSERT OR IGNORE INTO file (kind, path, device, inode, size, changed, offset, head, head_size,"
            " odd, long, error, state, facts) VALUES (?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', '{}', '{}')",
            found,
        )
        self._db.execute("COMMIT")

    def begin(self) -> None:
        """Begin to add readings; nothing is kept before ``commit``."""
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Keep what was added."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Forget what was added since ``begin``."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def add(self, reading: Reading) -> None:
        """Add what one reading found; of one that failed only that, and what was found before stays."""
        if reading.error or not (reading.inode or reading.size or reading.changed):
            self._db.execute(
                "UPDATE file SET changed = 0, error = ? WHERE id = ?", (reading.error, reading.file)
            )
            return
        if reading.restart:
            self._db.execute("DELETE FROM part WHERE file = ?", (reading.file,))
        if reading.models:
            self._db.executemany("INSERT OR IGNORE INTO model VALUES (?, ?)", reading.models.items())
        if reading.calls:
            self._db.execute("INSERT INTO part (file, calls) VALUES (?, ?)", (reading.file, reading.calls))
            self._gather(reading.file)
        self._db.execute(
            _SET,
            (
                *(reading.device, reading.inode, reading.size, reading.changed, reading.offset),
                *(reading.head, reading.head_size),
                *(1 - reading.whole, reading.odd, 1 - reading.whole, reading.long),
                reading.error,
                orjson.dumps(reading.state),
                orjson.dumps(reading.facts),
                reading.file,
            ),
        )

    def _gather(self, file: int) -> None:
        """Make one part of many, for a file that grows little by little."""
        (parts,) = self._db.execute("SELECT count(*) FROM part WHERE file = ?", (file,)).fetchone()
        if parts < _PARTS:
            return
        best: dict[tuple[int, int], tuple[int, ...]] = {}
        for _, blob in self._parts(file):
            for call in unpack_all(blob):
                key = call[:2]
                if (old := best.get(key)) is None or better(call, old):
                    best[key] = call if old is None else (*call[:2], old[2], *call[3:])
        self._db.execute("DELETE FROM part WHERE file = ?", (file,))
        whole = b"".join(pack(*call) for call in best.values())
        self._db.execute("INSERT INTO part (file, calls) VALUES (?, ?)", (file, whole))

    def _parts(self, file: int | None = None) -> sqlite3.Cursor:
        # In the order of files, which is that of their age: of equal copies the oldest file's counts.
        if file is None:
            return self._db.execute("SELECT file, calls FROM part ORDER BY file, id")
        return self._db.execute("SELECT file, calls FROM part WHERE file = ? ORDER BY id", (file,))

    def sums(self) -> list[Sum]:
        """Everything that counts, summed; see ``sums_by_file``."""
        return list(self.sums_by_file())

    def sums_by_file(self) -> Iterator[Sum]:
        """Everything that counts, summed, file after file; each call once, whichever files tell of it.

        Twice through all parts, so that only what is told of twice has to be held in memory. What was told
        of twice comes last, so that there may be several sums under one file, model, quarter and band.
        """
        names = dict(self._db.execute("SELECT id, name FROM model"))
        again = self._told_twice()
        cells: dict[tuple[int, int, int, int], list[int]] = {}
        last = 0
        for file, blob in self._parts():
            if file != last:
                yield from _summed(cells, names)
                cells, last = {}, file
            for call in unpack_all(blob):
                if (copies := again.get(call[0])) is None:
                    _add(cells, file, call)
                else:
                    copies.append((call, file))
        for copies in again.values():
            for call, file in counted(copies):
                _add(cells, file, call)
        yield from _summed(cells, names)

    def _told_twice(self) -> dict[int, list[Copy]]:
        """The messages that are told of more than once, with room for their copies."""
        told = array("q")  # eight bytes each; a set of them would take a hundred
        for _, blob in self._parts():
            told.extend(messages(blob))
        return {one: [] for one, other in pairwise(sorted(told)) if one == other}


def _summed(cells: dict[tuple[int, int, int, int], list[int]], names: dict[int, str]) -> Iterator[Sum]:
    return (
        Sum(file, names.get(model, ""), quarter, size, *cell)
        for (file, model, quarter, size), cell in cells.items()
    )


def _add(cells: dict[tuple[int, int, int, int], list[int]], file: int, call: tuple[int, ...]) -> None:
    _, _, time, model, fresh, read, written, hour, output, reasoning = call
    key = (file, model, time // QUARTER, band(fresh + read + written + hour))
    if (cell := cells.get(key)) is None:
        cells[key] = [1, fresh, read, written, hour, output, reasoning]
        return
    cell[0] += 1
    cell[1] += fresh
    cell[2] += read
    cell[3] += written
    cell[4] += hour
    cell[5] += output
    cell[6] += reasoning
