"""The mail store: its schema, its statements, and how the books are folded from it.

Two tables only ever grow: messages (each payload once, however many mailboxes) and marks on them.
What is finished is deleted behind the books' back, never what they still need.
"""

from __future__ import annotations

import heapq
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import orjson

from .. import store
from ..errors import JournalUnavailable
from ..store import Migration
from .books import Books, Mark
from .errors import BusUnavailable, MailDamaged
from .message import Limits, Message

_CALLED = "the mail store"
_EXACT = 32
#: Rows in a statement: six values at most in each, and SQLite takes 32,766.
_MOST = 1_024
_PURGE = 400


def _m0001_mail(db: sqlite3.Connection) -> None:
    # The head is one JSON array: sixteen columns take twice the time of four.
    db.execute(
        "CREATE TABLE messages (seq INTEGER NOT NULL PRIMARY KEY, head BLOB NOT NULL, payload BLOB NOT NULL,"
        " boxes BLOB NOT NULL)"
    )
    # By message, because they are deleted with it; the newest are at the end either way.
    db.execute(
        "CREATE TABLE marks (message INTEGER NOT NULL, mailbox INTEGER NOT NULL, seq INTEGER NOT NULL,"
        " at FLOAT NOT NULL, what VARCHAR NOT NULL, note, PRIMARY KEY (message, mailbox, seq)) WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE mailboxes (number INTEGER NOT NULL PRIMARY KEY, name VARCHAR NOT NULL,"
        " opened FLOAT NOT NULL, closed FLOAT)"
    )
    db.execute(
        "CREATE TABLE subscriptions (mailbox INTEGER NOT NULL, pattern VARCHAR NOT NULL, at FLOAT NOT NULL,"
        " PRIMARY KEY (mailbox, pattern)) WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE keys (sender VARCHAR NOT NULL, key VARCHAR NOT NULL, seq INTEGER NOT NULL,"
        " at FLOAT NOT NULL, PRIMARY KEY (sender, key)) WITHOUT ROWID"
    )
    # Numbers are never given twice, even when the rows that had them are gone.
    db.execute("CREATE TABLE highest (one INTEGER NOT NULL PRIMARY KEY, seq INTEGER NOT NULL)")
    db.execute("INSERT INTO highest VALUES (1, 0)")


MIGRATIONS = [Migration("m0001_mail", _m0001_mail)]


def unavailable(path: Path, error: Exception) -> BusUnavailable:
    """The error a person can act on for what SQLite said about the mail store."""
    if isinstance(error, BusUnavailable):
        return error
    cause = error
    said = error
    if isinstance(error, JournalUnavailable):
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    else:
        said = store.unavailable(path, error, f"the mail store {path} cannot be written")
    assert isinstance(said, JournalUnavailable)
    code = getattr(cause, "sqlite_errorcode", None)
    damaged = isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return (MailDamaged if damaged else BusUnavailable)(said.what, said.why, said.hint)


def connect(path: Path) -> sqlite3.Connection:
    """Open or create the mail store.

    Raises:
        StoreTooNew: A newer version wrote it.
        JournalUnavailable: It cannot be opened or brought up to date.
    """
    db = store.connect(path, what=_CALLED)
    try:
        store.migrate(db, path, MIGRATIONS, _CALLED)
    except BaseException:
        db.close()
        raise
    return db


def insert(db: sqlite3.Connection, messages: Sequence[Message], marks: Sequence[Mark]) -> None:
    """Write rows in one transaction: all are durable when it returns, or none.

    Few statements with many rows each: the driver lets go of the interpreter's lock at every step.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        for sql, values in chain(
            _statements("messages", 4, [_row(one) for one in messages]), _statements("marks", 6, marks)
        ):
            db.execute(sql, values)
        db.execute("COMMIT")
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _row(message: Message) -> tuple[int, bytes, bytes | None, bytes]:
    # All but number, payload and boxes, in their order.
    return message[0], orjson.dumps(message[1:7] + message[8:15]), message[7], message[15]


def _message(row: tuple[int, bytes, bytes, bytes]) -> Message:
    seq, head, payload, boxes = row
    values = orjson.loads(head)
    return Message._make((seq, *values[:6], payload, *values[6:], boxes))


def _statements(table: str, width: int, rows: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    row = "(" + ", ".join("?" * width) + ")"
    start = 0
    while left := len(rows) - start:
        count = left if left <= _EXACT else min(_MOST, 1 << (left.bit_length() - 1))
        sql = f"INSERT INTO {table} VALUES {row}" + f", {row}" * (count - 1)
        yield sql, list(chain.from_iterable(rows[start : start + count]))
        start += count


def load(db: sqlite3.Connection, limits: Limits) -> Books:
    """Fold the whole store.

    Raises:
        MailDamaged: Its rows cannot be read.
    """
    try:
        return _fold(db, limits)
    except (ValueError, TypeError, LookupError, struct.error) as error:
        raise MailDamaged(
            "the mail store is damaged", f"{type(error).__name__}: {error}", "Move mail.db away and keep it"
        ) from error


def _fold(db: sqlite3.Connection, limits: Limits) -> Books:
    books = Books(limits)
    for number, name, gone in db.execute("SELECT number, name, closed FROM mailboxes ORDER BY number"):
        books.open(number, name)
        if gone is not None:
            books.close(number)
    for number, pattern in db.execute("SELECT mailbox, pattern FROM subscriptions"):
        books.topics.add(pattern, number)
    for sender, key, seq, at in db.execute("SELECT sender, key, seq, at FROM keys ORDER BY at"):
        books.keys[sender, key] = (seq, at)
    messages: Iterable[Message] = map(_message, db.execute("SELECT * FROM messages ORDER BY seq"))
    marks: Iterable[Mark] = map(Mark._make, db.execute("SELECT * FROM marks ORDER BY seq"))
    rows: Iterable[Message | Mark] = heapq.merge(messages, marks, key=attrgetter("seq"))
    for item in rows:
        books.apply(item)
    (highest,) = db.execute("SELECT seq FROM highest").fetchone()
    books.seq = max(books.seq, highest)
    return books


def purge(
    db: sqlite3.Connection, seqs: Sequence[int], keys: Iterable[tuple[str, str, int, float]], highest: int
) -> None:
    """Delete finished messages with their marks; their keys (sender, key, number, time) stay."""
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute("UPDATE highest SET seq = max(seq, ?)", (highest,))
        db.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", list(keys))
        for start in range(0, len(seqs), _PURGE):
            some = seqs[start : start + _PURGE]
            those = f"({', '.join(map(str, some))})"
            db.execute(f"DELETE FROM messages WHERE seq IN {those}")
            db.execute(f"DELETE FROM marks WHERE message IN {those}")
        db.execute("COMMIT")
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def forget_keys(db: sqlite3.Connection, pairs: Iterable[tuple[str, str]]) -> None:
    """Delete idempotency keys of messages that are gone."""
    db.executemany("DELETE FROM keys WHERE sender = ? AND key = ?", list(pairs))


def payloads(db: sqlite3.Connection, seqs: Sequence[int]) -> dict[int, bytes]:
    """The payloads of these messages."""
    found: dict[int, bytes] = {}
    for start in range(0, len(seqs), _PURGE):
        some = ", ".join(map(str, seqs[start : start + _PURGE]))
        found.update(db.execute(f"SELECT seq, payload FROM messages WHERE seq IN ({some})"))
    return found
