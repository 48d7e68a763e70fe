"""The archive: notes and files in namespaces, each version with who wrote it, in which run, from what."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from . import words
from .model import Limits, MemoryRefused, Note, NoteHead, NotRemembered, Version, Who, WriteRace, clean
from .names import tag

_COLUMNS = "id, namespace, key, text, file, version, at, by, run, source"


def find(db: sqlite3.Connection, namespace: str, key: str) -> Note | None:
    """The newest version of a note, if it is there."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM note WHERE namespace = ? AND key = ?", (namespace, key)
    ).fetchone()
    return Note(*row) if row is not None else None


def existing(db: sqlite3.Connection, namespace: str, key: str) -> Note:
    """The newest version of a note.

    Raises:
        NotRemembered: It is not there.
    """
    note = find(db, namespace, key)
    if note is None:
        raise NotRemembered(f"there is no note {key} in {namespace}")
    return note


def by_ids(db: sqlite3.Connection, ids: Sequence[int]) -> dict[int, Note]:
    """The notes with these ids that are there."""
    found = {}
    for id in ids:
        row = db.execute(f"SELECT {_COLUMNS} FROM note WHERE id = ?", (id,)).fetchone()
        if row is not None:
            found[id] = Note(*row)
    return found


def namespaces(db: sqlite3.Connection) -> list[str]:
    """Every namespace with a note in it."""
    return [name for (name,) in db.execute("SELECT DISTINCT namespace FROM note ORDER BY namespace")]


def keys(db: sqlite3.Connection, namespace: str, after: str, limit: int) -> list[str]:
    """Keys of a namespace, sorted, those behind ``after``."""
    rows = db.execute(
        "SELECT key FROM note WHERE namespace = ? AND key > ? ORDER BY key LIMIT ?", (namespace, after, limit)
    )
    return [key for (key,) in rows]


def counts(db: sqlite3.Connection) -> dict[str, int]:
    """How many notes each namespace has."""
    return dict(db.execute("SELECT namespace, count(*) FROM note GROUP BY namespace"))


_HEAD = (
    "namespace, key, substr(text, 1, ?), version, at, by, run, source,"
    " coalesce(length(file), length(CAST(text AS BLOB))), file IS NOT NULL"
)


def page(db: sqlite3.Connection, namespace: str, after: str, limit: int, cut: int) -> list[NoteHead]:
    """The notes of a namespace by key, those behind ``after``; of each text the first ``cut`` characters."""
    rows = db.execute(
        f"SELECT {_HEAD} FROM note WHERE namespace = ? AND key > ? ORDER BY key LIMIT ?",
        (cut, namespace, after, limit),
    )
    return [_head(row) for row in rows]


def newest(db: sqlite3.Connection, namespaces: Sequence[str], limit: int, cut: int) -> list[NoteHead]:
    """The notes that were written last in any of these namespaces, the newest first."""
    marks = ", ".join("?" * len(namespaces))
    rows = db.execute(
        f"SELECT {_HEAD} FROM note WHERE namespace IN ({marks}) ORDER BY at DESC, id DESC LIMIT ?",
        (cut, *namespaces, limit),
    )
    return [_head(row) for row in rows]


def _head(row: tuple[Any, ...]) -> NoteHead:
    head = NoteHead(*row)
    return head._replace(file=bool(head.file))


def versions(db: sqlite3.Connection, note: int) -> list[Version]:
    """The versions of a note that are kept, newest first; of files that are not text, without the bytes."""
    rows = db.execute(
        "SELECT version, text, at, by, run, source FROM note_version WHERE note = ? ORDER BY version DESC",
        (note,),
    )
    return [Version(*row) for row in rows]


def write(
    db: sqlite3.Connection,
    limits: Limits,
    namespace: str,
    key: str,
    text: str,
    file: bytes | None,
    *,
    who: Who,
    now: float,
    expected: int | None,
) -> Note:
    """Write or make a note; ``expected`` is the version it is based on (0: must not be there yet).

    Raises:
        WriteRace: It has another version now.
        MemoryRefused: There are too many notes.
    """
    before = find(db, namespace, key)
    version = before.version if before is not None else 0
    if expected is not None and expected != version:
        by = f" by {before.by}" if before is not None else ""
        raise WriteRace(
            f"note {key} was not written",
            f"It is at version {version}{by}, and this was based on {expected}",
            "Read it again, and write what you mean on top of that",
            version=version,
        )
    facts = (text, file, version + 1, now, who.name, who.run, clean(who.source[:200]))
    if before is None:
        (number,) = db.execute("SELECT count(*) FROM note").fetchone()
        if number >= limits.notes:
            raise MemoryRefused(f"the archive has {number} notes", "It may have no more", "Forget some")
        id = db.execute(
            "INSERT INTO note (namespace, key, text, file, version, at, by, run, source)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (namespace, key, *facts),
        ).lastrowid
        assert id is not None
    else:
        id = before.id
        unindex(db, before)
        db.execute(
            "UPDATE note SET text = ?, file = ?, version = ?, at = ?, by = ?, run = ?, source = ?"
            " WHERE id = ?",
            (*facts, id),
        )
    db.execute(
        "INSERT INTO note_text (rowid, text, key, tags) VALUES (?, ?, ?, ?)",
        (id, text, key, tag("n", namespace)),
    )
    db.execute(
        "INSERT INTO note_version (note, text, file, version, at, by, run, source)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (id, *facts),
    )
    db.execute(
        "DELETE FROM note_version WHERE note = ? AND version <= ?", (id, version + 1 - limits.note_versions)
    )
    return Note(id, namespace, key, *facts)


def unindex(db: sqlite3.Connection, note: Note) -> None:
    """Take a note out of the full-text index, as it stands there."""
    db.execute(
        "INSERT INTO note_text (note_text, rowid, text, key, tags) VALUES ('delete', ?, ?, ?, ?)",
        (note.id, note.text, note.key, tag("n", note.namespace)),
    )


def remove(db: sqlite3.Connection, note: Note) -> None:
    """Take a note out of every table and index. The file still has to be scrubbed."""
    unindex(db, note)
    for table, column in (("vector", "note"), ("note_version", "note"), ("note", "id")):
        db.execute(f"DELETE FROM {table} WHERE {column} = ?", (note.id,))


def search(
    db: sqlite3.Connection, query: words.Query, namespaces: Sequence[str], limit: int
) -> tuple[list[int], bool]:
    """Ids of notes with these words, best first (BM25), and whether only some of the words are in them."""
    if not query.wanted or not namespaces:
        return [], False
    where = " OR ".join(f'"{tag("n", name)}"' for name in namespaces)
    ids = _ranked(db, query.strict(), where, limit)
    if ids or len(query.wanted) < 2:
        return ids, False
    return _ranked(db, query.loose(), where, limit), True


def _ranked(db: sqlite3.Connection, match: str, where: str, limit: int) -> list[int]:
    rows = db.execute(
        "SELECT rowid FROM note_text WHERE note_text MATCH ?"
        " ORDER BY bm25(note_text, 1.0, 4.0, 0.0), rowid LIMIT ?",
        (f"{{text key}} : ({match}) AND tags : ({where})", limit),
    )
    return [id for (id,) in rows]
