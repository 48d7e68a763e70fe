"""Calls out of OpenCode's database.

Source of the rules: OpenCode 1.18, run against a mock provider. Each of an assistant's messages is one call;
its row is written when it begins and changed when it ends. The buckets are disjoint already, reasoning too:
it is not in the output. Calls that find a title for a session are told nowhere.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import orjson

from ..index.calls import Call, count, digest
from .conversations import Conversations
from .database import columns, require
from .database_calls import DatabaseCalls

#: Nanoseconds in its milliseconds.
_NANO = 1_000_000
_TOKENS = ("tokens_input", "tokens_output", "tokens_reasoning", "tokens_cache_read", "tokens_cache_write")


class OpenCodeCalls(DatabaseCalls):
    """Gathers the calls of one session; what was found stays found, though messages are taken back."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        super().__init__(state)
        self._mark: int = self.facts.pop("mark", 0)

    @property
    def state(self) -> dict[str, Any]:
        """What the next reading of this session has to know."""
        return self.facts | {"mark": self._mark}

    @staticmethod
    def lister(path: str) -> Conversations:
        """What lists the sessions of the database at ``path``."""
        return Conversations(path, _sessions)

    def take(self, db: sqlite3.Connection, session: str) -> int:
        """Read them out of an open database; when it changed, as the lister has it.

        Raises:
            OSError: There is no such session.
        """
        require(db, "message", ("id", "session_id", "time_updated", "data"))
        row = db.execute(
            "SELECT directory, parent_id, title FROM session WHERE id = ?", (session,)
        ).fetchone()
        found = next((known[1] for known in _sessions(db, session)), None)
        if row is None or found is None:
            raise FileNotFoundError(session)
        directory, parent, title = row
        self.facts |= {"session": session, "cwd": directory, "parent": parent, "title": title}
        self.facts["subagent"] = parent is not None
        messages = db.execute(
            "SELECT id, time_updated, data FROM message WHERE session_id = ? AND time_updated >= ?"
            " ORDER BY time_created, id",
            (session, self._mark),
        )
        for identity, updated, data in messages:
            self._mark = max(self._mark, int(updated))
            try:
                self._message(identity, orjson.loads(data))
            except (ValueError, TypeError, AttributeError, KeyError, OverflowError):
                self.odd += 1
        return found

    def _message(self, identity: str, data: dict[str, Any]) -> None:
        if data.get("role") != "assistant":
            return
        tokens = data.get("tokens") or {}
        cache = tokens.get("cache") or {}
        reasoning = count(tokens.get("reasoning"))
        model = str(data.get("modelID") or "")
        name = digest(model)
        times = data["time"]
        call = Call(
            digest(identity),
            0,
            int(times.get("completed") or times["created"]),
            name,
            count(tokens.get("input")),
            count(cache.get("read")),
            count(cache.get("write")),
            0,
            count(tokens.get("output")) + reasoning,
            reasoning,
        )
        if call.total:
            self.models[name] = model
            self.facts["model"] = model
            self.calls[call.message, 0] = call


def _sessions(db: sqlite3.Connection, only: str | None = None) -> list[tuple[str, int]]:
    require(db, "session", ("id", "directory", "parent_id", "title", "time_updated"))
    known = columns(db, "session")
    size = " + ".join(name for name in _TOKENS if name in known) or "0"
    where = "" if only is None else " WHERE id = ?"
    rows = db.execute(f"SELECT id, {size}, time_updated FROM session{where}", () if only is None else (only,))
    # Tokens in the digits that milliseconds leave: so it moves even where the time has not.
    return [(str(identity), int(time) * _NANO + int(tokens or 0) % _NANO) for identity, tokens, time in rows]
