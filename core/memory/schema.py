"""The tables of the memory's file.

Both full-text indexes are of the external-content kind: the text is stored once, and FTS5 needs it to
take a row out of its index. (``contentless_delete`` would need SQLite 3.43; Debian 12 has 3.40.) Beside
the text they index *tags*: one word each for agent, role or namespace, so that a filter is one more
list to intersect and not a row to look up. Ids of recall are times, so a span of time is a span of rowids.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .model import MemoryUnavailable

VERSION = 3

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE block (
    agent TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, tokens INTEGER NOT NULL,
    token_limit INTEGER NOT NULL, version INTEGER NOT NULL, pinned INTEGER NOT NULL,
    used_at REAL NOT NULL, changed_at REAL NOT NULL, changed_by TEXT NOT NULL,
    PRIMARY KEY (agent, name)
);
CREATE TABLE block_version (
    agent TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, text TEXT NOT NULL,
    at REAL NOT NULL, by TEXT NOT NULL, PRIMARY KEY (agent, name, version)
);
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, agent TEXT NOT NULL, run INTEGER, role TEXT NOT NULL, source TEXT NOT NULL,
    text TEXT NOT NULL, key BLOB
);
CREATE UNIQUE INDEX entry_key ON entry (agent, key) WHERE key IS NOT NULL;
CREATE INDEX entry_agent ON entry (agent);
CREATE TABLE forgotten (agent BLOB NOT NULL, key BLOB NOT NULL, PRIMARY KEY (agent, key)) WITHOUT ROWID;
CREATE VIEW entry_view AS SELECT id, text,
    'a' || lower(hex(agent)) || ' r' || lower(hex(role)) AS tags FROM entry;
CREATE VIRTUAL TABLE entry_text USING fts5 (text, tags, content = 'entry_view', content_rowid = 'id',
    columnsize = 0, tokenize = 'unicode61 remove_diacritics 2');
CREATE TABLE note (
    id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL,
    file BLOB, version INTEGER NOT NULL, at REAL NOT NULL, by TEXT NOT NULL, run INTEGER,
    source TEXT NOT NULL, UNIQUE (namespace, key)
);
CREATE TABLE note_version (
    note INTEGER NOT NULL, version INTEGER NOT NULL, text TEXT NOT NULL, file BLOB, at REAL NOT NULL,
    by TEXT NOT NULL, run INTEGER, source TEXT NOT NULL, PRIMARY KEY (note, version)
);
CREATE VIEW note_view AS SELECT id, text, key, 'n' || lower(hex(namespace)) AS tags FROM note;
CREATE VIRTUAL TABLE note_text USING fts5 (text, key, tags, content = 'note_view', content_rowid = 'id',
    tokenize = 'unicode61 remove_diacritics 2');
CREATE TABLE vector (
    note INTEGER NOT NULL, part INTEGER NOT NULL, version INTEGER NOT NULL, model TEXT NOT NULL,
    dimension INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (note, part)
);
CREATE TABLE move (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, agent TEXT NOT NULL, what TEXT NOT NULL, source TEXT NOT NULL,
    target TEXT NOT NULL, why TEXT NOT NULL, tokens INTEGER NOT NULL
);
CREATE INDEX move_agent ON move (agent, id)
"""

_ADDED = """
CREATE TABLE tally (
    agent TEXT PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL, tokens INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX note_at ON note (at);
CREATE INDEX note_by ON note (by);
CREATE TABLE fact (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL)
"""
"""Since version 2: what recall has of each agent, and what the journal is still to hear."""

_COUNTED = """INSERT INTO tally SELECT agent, count(*), sum(length(CAST(text AS BLOB))),
    sum((length(CAST(text AS BLOB)) + 3) / 4) FROM entry GROUP BY agent"""

_DROPPED = ("DROP TRIGGER IF EXISTS entry_said", "DROP TRIGGER IF EXISTS entry_gone")
"""Of version 2, where triggers counted. A statement with one is a savepoint of its own, and at each of them
FTS5 writes out what it has: that made remembering three times as dear."""


def version_problem(db: sqlite3.Connection, path: Path) -> MemoryUnavailable | None:
    """Why this file cannot be used by this version, if so."""
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found <= VERSION:
        return None
    return MemoryUnavailable(
        f"the memory {path} was written by a newer version of agenttop",
        f"It has schema {found}, this version knows {VERSION}",
        "Upgrade agenttop, or set AGENTTOP_HOME to another folder",
    )


def make(db: sqlite3.Connection, salt: bytes) -> None:
    """Make the tables that are not there, in one transaction."""
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        if found == 0:
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute("INSERT INTO meta VALUES ('salt', ?)", (salt,))
        if found < 2:
            for statement in (*_ADDED.split(";"), _COUNTED):
                db.execute(statement)
        for statement in _DROPPED:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
