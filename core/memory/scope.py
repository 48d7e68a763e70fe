"""What has certain words, in all three tiers and all versions; and forgetting exactly that."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import Forbidden
from . import archival, forgetting, passages, recall, words
from .model import Forgotten, NotRemembered

_NOTE = "id, namespace, key, text"


class Scope(NamedTuple):
    """What a forgetting by words takes."""

    blocks: list[tuple[str, str]]
    """Agent and name; with all versions."""
    block_versions: list[tuple[str, str, int]]
    entries: list[int]
    notes: list[int]
    """Ids; with all versions."""
    note_versions: list[tuple[int, int]]

    def size(self) -> Forgotten:
        """How much it is: a block or note of which only old versions go counts as one."""
        return Forgotten(
            len(self.blocks) + len({one[:2] for one in self.block_versions}),
            len(self.entries),
            len(self.notes) + len({one[0] for one in self.note_versions}),
        )


def with_words(
    db: sqlite3.Connection,
    query: words.Query,
    agents: Sequence[str] | None,
    *,
    agent: str | None,
    spaces: frozenset[str] | None,
) -> Scope:
    """All that has all words of a search. Looks at every block and note of these agents.

    Args:
        agent: Who asks, if it is an agent: of notes outside of ``private/`` it gets those that nobody else
            wrote to; a person gets what these agents wrote wherever others wrote, too.
        spaces: The namespaces that may be written to; ``None``: all.
    """
    blocks, block_versions = _blocks(db, query, agents)
    notes, note_versions = _notes(db, query, agents, agent is not None, spaces)
    if agent is None and agents is not None:
        note_versions += _elsewhere(db, query, agents, notes, note_versions)
    entries = recall.select(db, query, agents=agents, roles=None, since=None, until=None)
    return Scope(blocks, block_versions, [entry.id for entry in entries], notes, note_versions)


def _of(agents: Sequence[str] | None, column: str) -> tuple[str, list[str]]:
    if agents is None:
        return "", []
    return f" AND {column} IN ({', '.join('?' * len(agents))})", list(agents)


def _blocks(
    db: sqlite3.Connection, query: words.Query, agents: Sequence[str] | None
) -> tuple[list[tuple[str, str]], list[tuple[str, str, int]]]:
    where, values = _of(agents, "agent")
    rows = db.execute(f"SELECT agent, name, text FROM block WHERE true{where}", values)
    blocks = [(agent, name) for agent, name, text in rows if passages.has(f"{name}\n{text}", query)]
    whole = frozenset(blocks)
    rows = db.execute(f"SELECT agent, name, version, text FROM block_version WHERE true{where}", values)
    versions = [
        (agent, name, version)
        for agent, name, version, text in rows
        if (agent, name) not in whole and passages.has(text, query)
    ]
    return blocks, versions


def _notes(
    db: sqlite3.Connection,
    query: words.Query,
    agents: Sequence[str] | None,
    sole: bool,
    spaces: frozenset[str] | None,
) -> tuple[list[int], list[tuple[int, int]]]:
    notes: list[int] = []
    versions: list[tuple[int, int]] = []
    for id, namespace, key, text in db.execute(*_notes_of(agents, sole)):
        if spaces is not None and namespace not in spaces:
            continue
        if passages.has(f"{key}\n{text}", query):
            notes.append(id)
            continue
        old = db.execute("SELECT version, text FROM note_version WHERE note = ?", (id,))
        versions += [(id, version) for version, text in old if passages.has(text, query)]
    return notes, versions


def _elsewhere(
    db: sqlite3.Connection,
    query: words.Query,
    agents: Sequence[str],
    notes: list[int],
    found: list[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Old versions by these agents of notes whose newest is by others."""
    known, whole = set(found), set(notes)
    old = db.execute(
        "SELECT old.note, old.version, old.text FROM note_version AS old JOIN note ON note.id = old.note"
        f" WHERE old.by IN ({', '.join('?' * len(agents))}) AND old.version < note.version",
        list(agents),
    )
    return [
        (id, version)
        for id, version, text in old
        if id not in whole and (id, version) not in known and passages.has(text, query)
    ]


def _notes_of(agents: Sequence[str] | None, sole: bool) -> tuple[str, list[str]]:
    """The query for the notes of these agents: private ones, and those that they wrote elsewhere."""
    if agents is None:
        return f"SELECT {_NOTE} FROM note", []
    marks = ", ".join("?" * len(agents))
    others = (
        " AND NOT EXISTS (SELECT 1 FROM note_version AS old"
        f" WHERE old.note = note.id AND old.by NOT IN ({marks}))"
        if sole
        else ""
    )
    query = f"SELECT {_NOTE} FROM note WHERE namespace IN ({marks}) OR (by IN ({marks}){others})"
    return query, [*(f"private/{one}" for one in agents), *agents, *(agents if sole else ())]


def forget(db: sqlite3.Connection, salt: bytes, scope: Scope) -> Forgotten:
    """Forget it, as far as it is still there."""
    for agent, name in scope.blocks:
        for table in ("block", "block_version"):
            db.execute(f"DELETE FROM {table} WHERE agent = ? AND name = ?", (agent, name))
        db.execute("DELETE FROM move WHERE agent = ? AND what = ? AND source = 'working'", (agent, name))
    for version in scope.block_versions:
        db.execute("DELETE FROM block_version WHERE agent = ? AND name = ? AND version = ?", version)
    recall.remove(db, salt, recall.get(db, scope.entries), for_good=True)
    for note in archival.by_ids(db, scope.notes).values():
        archival.remove(db, note)
        db.execute("DELETE FROM move WHERE what = ?", (f"{note.namespace}/{note.key}",))
    for old in scope.note_versions:
        db.execute("DELETE FROM note_version WHERE note = ? AND version = ?", old)
    forgetting.mark(db)
    return scope.size()


def check_sole(db: sqlite3.Connection, agent: str, namespace: str, key: str) -> None:
    """See that only this agent ever wrote to a note.

    Raises:
        Forbidden: Others did.
        NotRemembered: It is not there.
    """
    note = archival.find(db, namespace, key)
    if note is None:
        raise NotRemembered(f"there is no note {key} in {namespace}")
    others = "SELECT 1 FROM note_version WHERE note = ? AND by != ?"
    if db.execute(others, (note.id, agent)).fetchone() is not None:
        raise Forbidden(
            f"{agent} may not forget {namespace}/{key}",
            "Others wrote to it too",
            "Ask a person, or write a new version",
        )
