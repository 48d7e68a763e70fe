"""What OpenCode's database says of one session: state, model, folder, context, tools, subagents.

A tool that waits for permission looks like one that runs, so such a wait is inferred (see ``doing``).
"""

from __future__ import annotations

import sqlite3
from typing import Any

import orjson

from ..contract import Activity, Child, Oddities, Session, View
from .conversation import Conversation
from .database_tail import DatabaseTail
from .opencode_calls import OpenCodeCalls
from .tally import Tally

_ASKING = frozenset({"plan_exit", "question"})
_GUARDED = frozenset({"apply_patch", "bash", "edit", "patch", "webfetch", "write"})
#: Subagents that are followed; the oldest are left out first.
_CHILDREN = 64
#: So many of the last messages tell the state.
_RECENT = 20


class OpenCodeTail(DatabaseTail):
    """Follows one session and those of its subagents."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._threads = {self._session: _Thread(self._session)}

    def _read(self, db: sqlite3.Connection) -> None:
        self._threads[self._session].read(db, self.oddities)
        for thread in self._children(db):
            thread.read(db, self.oddities)

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now."""
        main, *others = self._threads.values()
        children = tuple(Child(thread.id, thread.name, thread.view(now, None)) for thread in others)
        return main.view(now, process)._replace(children=children)

    def _children(self, db: sqlite3.Connection) -> list[_Thread]:
        """The subagents that there are; one whose session was deleted stays as it was last seen."""
        rows = db.execute(
            "SELECT id FROM session WHERE parent_id = ? ORDER BY time_created DESC LIMIT ?",
            (self._session, _CHILDREN),
        )
        found = [identity for (identity,) in reversed(rows.fetchall())]
        for identity in found:
            if identity not in self._threads:
                self._threads[identity] = _Thread(identity)
        return [self._threads[identity] for identity in found]


class _Thread:
    """One session."""

    def __init__(self, session: str) -> None:
        self.id = session
        self._odd = 0
        self._calls, self._tally = OpenCodeCalls(), Tally()
        self._calls.calls = self._tally.calls
        self._talk = Conversation(_ASKING, _GUARDED)

    @property
    def name(self) -> str:
        """What it was given to do, in the CLI's words."""
        return str(self._calls.facts.get("title") or self.id)

    def view(self, now: float, process: Activity | None) -> View:
        """What is known now."""
        facts = self._calls.facts
        self._talk.session, self._talk.cwd = self.id, facts.get("cwd")
        self._talk.model = facts.get("model") or self._talk.model
        return self._talk.view(now, process, self._tally.sums(self._calls.models))

    def read(self, db: sqlite3.Connection, oddities: Oddities) -> None:
        """Take in what changed.

        Raises:
            OSError: It is gone.
        """
        self._calls.take(db, self.id)
        oddities.unreadable += self._calls.odd - self._odd
        self._odd = self._calls.odd
        messages = db.execute(
            "SELECT id, data FROM message WHERE session_id = ? ORDER BY time_created DESC, id DESC LIMIT ?",
            (self.id, _RECENT),
        ).fetchall()
        # What happens to one message changes its rows: the state is told anew each time.
        prompt, model = self._talk.prompt, self._talk.model
        self._talk = Conversation(_ASKING, _GUARDED, prompt=prompt, model=model)
        for identity, data in reversed(messages):
            try:
                self._message(db, identity, orjson.loads(data))
            except (ValueError, TypeError, AttributeError, KeyError):
                oddities.unreadable += 1

    def _message(self, db: sqlite3.Connection, identity: str, data: dict[str, Any]) -> None:
        times, turn = data["time"], self._talk.turn
        begun = int(times["created"]) / 1000
        if data.get("role") == "user":
            self._talk.asked(_said(db, identity), begun)
            return
        self._talk.model = data.get("modelID") or self._talk.model
        turn.thought(begun)
        for part in _parts(db, identity, "tool"):
            state = part.get("state") or {}
            call = str(part.get("callID"))
            started = (state.get("time") or {}).get("start")
            turn.called(call, str(part.get("tool")), int(started) / 1000 if started else begun)
            if state.get("status") in ("completed", "error"):
                turn.returned(call, int((state.get("time") or {}).get("end") or times["created"]) / 1000)
        tokens = data.get("tokens") or {}
        cache = tokens.get("cache") or {}
        counts = [tokens.get(name) or 0 for name in ("input", "output", "reasoning")]
        context = sum(counts) + (cache.get("read") or 0) + (cache.get("write") or 0)
        if context:
            self._talk.replied(None, int(context), int(times.get("completed") or times["created"]) / 1000)
        if not (ended := times.get("completed")):
            return
        if error := data.get("error"):
            said = (error.get("data") or {}).get("message") or error.get("name")
            turn.ended(int(ended) / 1000, str(said or "error"))
        elif data.get("finish") not in ("tool-calls", "unknown", None):
            turn.ended(int(ended) / 1000)


def _parts(db: sqlite3.Connection, message: str, kind: str) -> list[dict[str, Any]]:
    """The parts of a message of one kind, without what tools gave back: that can be long."""
    rows = db.execute(
        "SELECT json_remove(data, '$.state.output', '$.state.metadata', '$.state.input') FROM part"
        " WHERE message_id = ? AND json_valid(data) AND json_extract(data, '$.type') = ? ORDER BY id",
        (message, kind),
    )
    return [orjson.loads(data) for (data,) in rows]


def _said(db: sqlite3.Connection, message: str) -> str:
    return " ".join(str(part.get("text") or "") for part in _parts(db, message, "text"))
