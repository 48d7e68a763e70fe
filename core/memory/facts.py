"""What the journal is to hear of the memory: numbers, never texts or names.

A fact is written in the transaction it is about, and taken away when the journal has it: a crash between
the two makes the journal hear it twice, and never not at all.
"""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

import orjson

from .model import Forgotten, Who


class Fact(NamedTuple):
    """Something that moved or was forgotten."""

    id: int
    kind: str
    """``moved``, ``forgotten`` or ``expired``."""
    fields: dict[str, Any]


def moved(
    db: sqlite3.Connection,
    at: float,
    agent: str,
    what: str,
    source: str,
    target: str,
    why: str,
    tokens: int,
) -> None:
    """Something went from one tier to another: a row of ``move``, and a fact without its name."""
    number = db.execute(
        "INSERT INTO move (at, agent, what, source, target, why, tokens) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (at, agent, what, source, target, why, tokens),
    ).lastrowid
    _put(db, "moved", agent=agent, source=source, target=target, tokens=tokens, move=number)


def forgotten(db: sqlite3.Connection, who: Who, agent: str | None, gone: Forgotten) -> None:
    """Somebody had something forgotten; ``agent`` is whose, where it was one agent's."""
    if any(gone):
        _put(db, "forgotten", agent=agent, by=who.name, run=who.run, **gone._asdict())


def expired(db: sqlite3.Connection, entries: int) -> None:
    """Retention forgot so many entries."""
    if entries:
        _put(db, "expired", entries=entries)


def _put(db: sqlite3.Connection, kind: str, **fields: Any) -> None:
    db.execute("INSERT INTO fact (body) VALUES (?)", (orjson.dumps({"kind": kind, **fields}).decode(),))


def pending(db: sqlite3.Connection, most: int) -> list[Fact]:
    """What the journal has not heard yet, oldest first."""
    found = []
    for id, body in db.execute("SELECT id, body FROM fact ORDER BY id LIMIT ?", (most,)):
        fields = orjson.loads(body)
        found.append(Fact(id, fields.pop("kind"), fields))
    return found


def told(db: sqlite3.Connection, last: int) -> None:
    """The journal has all up to this one."""
    db.execute("DELETE FROM fact WHERE id <= ?", (last,))
