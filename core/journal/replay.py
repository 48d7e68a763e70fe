"""Reading the journal: rows since a place, the newest rows, and the walk along the chain.

Reads never wait for the writer (WAL) and never hold a transaction open between two calls, which
would keep the WAL from being folded into the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from .. import store
from .chain import Head, VerifyResult, walk
from .events import Event, Record

T = TypeVar("T")

CHUNK = 2_000
_READERS = 4
_COLUMNS = "seq, ts, kind, agent, body, hash"


def query(*, newest: bool = False, kinds: bool = False, agents: bool = False) -> str:
    """The statement for a read. Lists travel as one JSON parameter, whatever their length."""
    where = ["seq > :since"]
    if kinds:
        where.append("kind IN (SELECT value FROM json_each(:kinds))")
    if agents:
        where.append("agent IN (SELECT value FROM json_each(:agents))")
    order = "seq DESC" if newest else "seq"
    return f"SELECT {_COLUMNS} FROM events WHERE {' AND '.join(where)} ORDER BY {order} LIMIT :limit"


class Reader:
    """Read access to a journal file, from threads; also without a kernel (``audit verify``)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: deque[sqlite3.Connection] = deque()
        self._limiter = anyio.CapacityLimiter(_READERS)

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``job`` with a read-only connection, in a thread.

        Raises:
            JournalUnavailable: The file cannot be opened or read.
        """
        return await anyio.to_thread.run_sync(self._with_connection, job, limiter=self._limiter)

    def _with_connection(self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            db = self._idle.pop()
        except IndexError:
            db = store.connect(self._path, read_only=True)
        try:
            result = job(db)
        except sqlite3.Error as error:
            db.close()
            raise store.unavailable(self._path, error, f"the journal {self._path} cannot be read") from error
        except BaseException:
            db.close()
            raise
        self._idle.append(db)
        return result

    def close(self) -> None:
        """Close the idle connections. Nothing may be reading any more."""
        while self._idle:
            self._idle.pop().close()

    async def rows(
        self,
        since: int = 0,
        limit: int = CHUNK,
        kinds: Iterable[str] | None = None,
        agents: Iterable[str] | None = None,
        *,
        newest: bool = False,
    ) -> list[Record]:
        """Up to ``limit`` rows with ``seq > since``, oldest first: the first ones, or the ``newest``."""
        sql = query(newest=newest, kinds=kinds is not None, agents=agents is not None)
        values = {
            "since": since,
            "limit": limit,
            "kinds": json.dumps(list(kinds or ())),
            "agents": json.dumps(list(agents or ())),
        }
        used = {name: value for name, value in values.items() if f":{name}" in sql}
        found = await self.run(lambda db: [Record._make(row) for row in db.execute(sql, used)])
        return found[::-1] if newest else found

    async def events(self, since: int = 0) -> AsyncIterator[list[tuple[Record, Event | None]]]:
        """All rows after ``since`` with their typed events, in chunks, decoded off the loop.

        The event is ``None`` for a kind this version does not know.
        """
        sql = query()

        def chunk(db: sqlite3.Connection) -> list[tuple[Record, Event | None]]:
            rows = db.execute(sql, {"since": since, "limit": CHUNK})
            return [(record, record.event()) for record in map(Record._make, rows)]

        while found := await self.run(chunk):
            yield found
            since = found[-1][0].seq

    async def verify(self) -> VerifyResult:
        """Walk along the whole chain, in chunks (cancellable between two).

        Cut-off rows at the end leave a chain that fits; a checkpoint taken after one of them tells.
        """
        result = VerifyResult(0, Head())
        sql = query()

        def chunk(db: sqlite3.Connection) -> tuple[VerifyResult, bool]:
            db.text_factory = _any_text
            try:
                rows = [
                    Record._make(row) for row in db.execute(sql, {"since": result.head.seq, "limit": CHUNK})
                ]
            finally:
                db.text_factory = str
            return walk(result, rows), bool(rows)

        more = True
        while more and result.ok:
            result, more = await self.run(chunk)
        if not result.ok:
            return result
        lost = await self.run(lambda db: _beyond(db, result.head.seq))
        if lost is None:
            return result
        why = f"a checkpoint was taken after event {lost}, but the journal ends before it"
        return result._replace(first_bad=result.head.seq + 1, why=why)


def _any_text(raw: bytes) -> str:
    # Damaged text must be found as a row that does not fit, not end the walk.
    return raw.decode("utf-8", "surrogateescape")


def _beyond(db: sqlite3.Connection, seq: int) -> int | None:
    # Rows committed since the walk ended are not cut off: they are looked up here.
    row = db.execute(
        "SELECT max(seq) FROM checkpoints WHERE seq > ? AND seq > (SELECT coalesce(max(seq), 0) FROM events)",
        (seq,),
    ).fetchone()
    found: int | None = row[0]
    return found
