"""Checkpoints of the fold: a start need not read the whole journal.

A checkpoint is only a shortcut. It is used when the event it was taken after is still in the chain
with the same hash and its own bytes are whole; otherwise an older one, or the journal from the start.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

from ..errors import JournalUnavailable
from ..store import unavailable

KEEP = 3


class Checkpoint(NamedTuple):
    """The fold's state, as ``body`` (opaque bytes), after event ``seq``."""

    seq: int
    body: bytes


def _digest(hash_: bytes, body: bytes) -> bytes:
    return hashlib.sha256(hash_ + body).digest()


def save(db: sqlite3.Connection, path: Path, seq: int, body: bytes) -> None:
    """Store a checkpoint and drop all but the newest ``KEEP``, in one transaction.

    Raises:
        JournalUnavailable: There is no durable event ``seq``, or it cannot be written.
    """
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            row = db.execute("SELECT hash FROM events WHERE seq = ?", (seq,)).fetchone()
            if row is None:
                raise JournalUnavailable(f"no checkpoint can be taken at {seq}", "There is no such event")
            db.execute(
                "INSERT OR REPLACE INTO checkpoints (seq, hash, digest, body) VALUES (?, ?, ?, ?)",
                (seq, row[0], _digest(row[0], body), body),
            )
            db.execute(
                "DELETE FROM checkpoints WHERE seq NOT IN"
                " (SELECT seq FROM checkpoints ORDER BY seq DESC LIMIT ?)",
                (KEEP,),
            )
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    except sqlite3.Error as error:
        raise unavailable(path, error) from error


def load(db: sqlite3.Connection) -> Checkpoint | None:
    """The newest checkpoint that fits the chain, or ``None``."""
    rows = db.execute(
        "SELECT c.seq, c.hash, c.digest, c.body FROM checkpoints c"
        " JOIN events e ON e.seq = c.seq AND e.hash = c.hash ORDER BY c.seq DESC"
    )
    for seq, hash_, digest, body in rows:
        if digest == _digest(hash_, body):
            return Checkpoint(seq, body)
    return None
