"""Forgetting: what was forgotten is in no row, index, free page or log of the file afterwards.

Three places keep text that was deleted, and each is dealt with:

- FTS5 only notes a deletion and keeps the words until its segments are merged: ``optimize`` merges all.
- SQLite leaves old bytes in free pages, and (``secure_delete`` or not) in gaps of pages whose cells
  moved when the tree was balanced: ``VACUUM`` writes every page anew.
- The WAL has old pages until it is checkpointed: ``wal_checkpoint(TRUNCATE)`` empties it.

That is as much work as the file is large. A small file is scrubbed where it lies (``scrub``), while its
writer waits; of a large one a copy is (``rewrite``), while its writer goes on. The rows go in one
transaction with a mark that the file is to be scrubbed; a crash between the two is made good when the file
is opened again.
What stays: salted digests of the keys, and of what was said in calls, so that a call that repeats a
conversation does not bring it back, were it as another conversation.
The disk's own free blocks, file system snapshots and backups are out of reach here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from . import archival, recall, words
from .model import Entry, Forgotten, MemoryUnavailable

_TRIES = 3
_IN_MEMORY = 64 << 20
"""A file up to this size is copied in memory while it is rewritten, else in SQLite's temporary folder."""


def mark(db: sqlite3.Connection) -> None:
    """Note, in the transaction that deletes, that the file is to be scrubbed."""
    db.execute("INSERT OR REPLACE INTO meta VALUES ('scrub', 1)")


def due(db: sqlite3.Connection) -> bool:
    """Whether something was deleted and the file is not scrubbed yet."""
    return db.execute("SELECT 1 FROM meta WHERE name = 'scrub'").fetchone() is not None


def size(db: sqlite3.Connection) -> int:
    """Bytes of the file."""
    pages: int = db.execute("PRAGMA page_count").fetchone()[0]
    page: int = db.execute("PRAGMA page_size").fetchone()[0]
    return pages * page


def due_of(db: sqlite3.Connection) -> int:
    """Bytes of the file if it is to be scrubbed, else 0."""
    return size(db) if due(db) else 0


def rewrite(db: sqlite3.Connection) -> None:
    """Write every page of a copy anew, with all that was deleted left out. It has no log to empty."""
    for index in ("entry_text", "note_text"):
        db.execute(f"INSERT INTO {index} ({index}) VALUES ('optimize')")
    db.execute("DELETE FROM meta WHERE name = 'scrub'")
    db.execute(f"PRAGMA temp_store = {'MEMORY' if size(db) <= _IN_MEMORY else 'FILE'}")
    db.execute("VACUUM")


def scrub(db: sqlite3.Connection) -> None:
    """Make what was deleted really gone. Outside of a transaction; may be repeated after a crash anywhere.

    Raises:
        MemoryUnavailable: Somebody else has the file open and reads; it is still marked.
    """
    if not due(db):
        return
    for index in ("entry_text", "note_text"):
        db.execute(f"INSERT INTO {index} ({index}) VALUES ('optimize')")
    db.execute(f"PRAGMA temp_store = {'MEMORY' if size(db) <= _IN_MEMORY else 'FILE'}")
    db.execute("VACUUM")
    for _ in range(_TRIES):  # each waits as long as the busy timeout
        if not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            db.execute("DELETE FROM meta WHERE name = 'scrub'")
            return
    raise MemoryUnavailable(
        "what was forgotten cannot be found any more, but its bytes are still in the memory's log",
        "Another process keeps the file open and reads",
        "Close it; the kernel finishes at its next start or at the next forget",
    )


def retained(db: sqlite3.Connection, now: float) -> None:
    """Note that retention is through."""
    db.execute("INSERT OR REPLACE INTO meta VALUES ('retained', ?)", (now,))


def retained_at(db: sqlite3.Connection) -> float:
    """When that was last."""
    row = db.execute("SELECT value FROM meta WHERE name = 'retained'").fetchone()
    return float(row[0]) if row is not None else 0.0


def entries(db: sqlite3.Connection, salt: bytes, found: Sequence[Entry], *, for_good: bool) -> Forgotten:
    """Forget these entries of recall; ``for_good``: as ``recall.remove`` has it."""
    recall.remove(db, salt, found, for_good=for_good)
    if found:
        mark(db)
    return Forgotten(entries=len(found))


def block(db: sqlite3.Connection, salt: bytes, agent: str, name: str) -> Forgotten:
    """Forget a block: its versions, and what pressure ever moved from it to recall."""
    blocks = db.execute("DELETE FROM block WHERE agent = ? AND name = ?", (agent, name)).rowcount
    db.execute("DELETE FROM block_version WHERE agent = ? AND name = ?", (agent, name))
    db.execute("DELETE FROM move WHERE agent = ? AND what = ? AND source = 'working'", (agent, name))
    source = f"working:{name}"
    moved = [
        entry
        for entry in recall.select(
            db, words.Query([], []), agents=[agent], roles=["working"], since=None, until=None
        )
        if entry.source == source or entry.source.startswith(source + "@")
    ]
    recall.remove(db, salt, moved, for_good=True)
    if blocks or moved:
        mark(db)
    return Forgotten(blocks=blocks, entries=len(moved))


def note(db: sqlite3.Connection, namespace: str, key: str) -> Forgotten:
    """Forget a note or file with all its versions and vectors.

    Raises:
        NotRemembered: It is not there.
    """
    archival.remove(db, archival.existing(db, namespace, key))
    db.execute("DELETE FROM move WHERE what = ?", (f"{namespace}/{key}",))
    mark(db)
    return Forgotten(notes=1)


def namespace(db: sqlite3.Connection, name: str) -> Forgotten:
    """Forget all notes of a namespace."""
    rows = db.execute("SELECT id FROM note WHERE namespace = ?", (name,)).fetchall()
    for row in rows:
        archival.remove(db, archival.by_ids(db, row)[row[0]])
    db.execute("DELETE FROM move WHERE substr(what, 1, ?) = ?", (len(name) + 1, f"{name}/"))
    if rows:
        mark(db)
    return Forgotten(notes=len(rows))


def agent(db: sqlite3.Connection, salt: bytes, name: str) -> Forgotten:
    """Forget all blocks, all recall and all private notes of an agent; what it shared stays."""
    blocks = db.execute("DELETE FROM block WHERE agent = ?", (name,)).rowcount
    db.execute("DELETE FROM block_version WHERE agent = ?", (name,))
    db.execute("DELETE FROM move WHERE agent = ?", (name,))
    said = recall.select(db, words.Query([], []), agents=[name], roles=None, since=None, until=None)
    recall.remove(db, salt, said, for_good=True)
    mark(db)
    return Forgotten(blocks, len(said), namespace(db, f"private/{name}").notes)


def expired(
    db: sqlite3.Connection, salt: bytes, before: float, per_agent: int | None, most: int
) -> Forgotten:
    """Forget recall by retention: what is before ``before``, and beyond ``per_agent`` entries of an agent.

    ``most`` in one transaction; call again until nothing is forgotten.
    """
    old = [
        id
        for (id,) in db.execute(
            "SELECT id FROM entry WHERE id < ? ORDER BY id LIMIT ?", (int(before * 1e6), most)
        )
    ]
    if per_agent is not None:
        crowded = db.execute("SELECT agent, entries FROM tally WHERE entries > ?", (per_agent,)).fetchall()
        for name, number in crowded:
            rows = db.execute(
                "SELECT id FROM entry WHERE agent = ? ORDER BY id LIMIT ?",
                (name, min(number - per_agent, most)),
            )
            old += [id for (id,) in rows]
    return entries(db, salt, recall.get(db, list(dict.fromkeys(old))[:most]), for_good=False)
