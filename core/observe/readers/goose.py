"""goose: its processes, their sessions, and what its database says of them.

Source of the rules: goose's own source; NOT seen in a real run (see ``goose_calls``).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ..contract import Activity, Found, Session, Tail, View
from ..index.history import Root
from ..processes import option
from .conversation import Conversation
from .database import opened
from .database_tail import DatabaseTail
from .goose_calls import GooseCalls, seconds
from .joining import SLACK, Candidate, by_database, by_time
from .scripts import is_called
from .tally import Tally

_COMMANDS = frozenset({"acp", "r", "recipe", "run", "s", "session", "web"})
_GUARDED = frozenset({"developer__shell", "developer__text_editor"})
#: So many of the last messages tell the state.
_RECENT = 20


class GooseObserver:
    """Reads goose."""

    name = "goose"
    title = "goose"

    def recognise(self, process: Found) -> bool:
        """``goose`` by its name and what it was told to do: another ``goose`` changes databases' schemas."""
        return is_called(process, "goose") and (len(process.argv) < 2 or process.argv[1] in _COMMANDS)

    def roots(self, environ: Mapping[str, str], home: str) -> list[Root]:
        """Its database, below ``GOOSE_PATH_ROOT``, ``XDG_DATA_HOME`` or ``~/.local/share``."""
        return [Root("goose", _database(environ, home))]

    def join(self, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
        """By the session its command line names, else by folder and time."""
        return by_database(processes, _database, _join)

    def tail(self, session: Session) -> Tail:
        """Begin to follow a session."""
        return GooseTail(session)


def _database(environ: Mapping[str, str], home: str) -> str:
    if root := environ.get("GOOSE_PATH_ROOT"):
        return f"{root}/data/sessions/sessions.db"
    return f"{environ.get('XDG_DATA_HOME') or f'{home}/.local/share'}/goose/sessions/sessions.db"


def _join(path: str, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
    with opened(path) as db:
        rows = db.execute("SELECT id, working_dir, created_at, updated_at FROM sessions").fetchall()
    known: dict[tuple[int, int], Session] = {}
    folders: dict[str, list[Found]] = defaultdict(list)
    ids = {row[0] for row in rows}
    for process in processes:
        named = option(process.argv, "--session-id", "--id")
        if named is not None and named in ids:
            known[process.key] = Session(named, f"{path}#{named}", True)
        else:
            folders[process.cwd or ""].append(process)
    taken = [session.id for session in known.values()]
    for folder, here in folders.items():
        since = min(process.started for process in here) - SLACK
        candidates = []
        for identity, directory, created, updated in rows:
            try:
                begun, changed = seconds(created), seconds(updated)
            except (ValueError, TypeError):
                continue
            if directory == folder and changed >= since:
                candidates.append(Candidate(Session(identity, f"{path}#{identity}", False), begun, changed))
        known |= by_time(here, candidates, taken)
    return known


class GooseTail(DatabaseTail):
    """Follows one session."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._calls, self._tally = GooseCalls(), Tally()
        self._calls.calls = self._tally.calls
        self._talk = Conversation(frozenset(), _GUARDED)

    def _read(self, db: sqlite3.Connection) -> None:
        self._calls.take(db, self._session)
        self._state(db)

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now."""
        facts = self._calls.facts
        self._talk.session, self._talk.cwd = self._session, facts.get("cwd")
        self._talk.model = facts.get("model")
        return self._talk.view(now, process, self._tally.sums(self._calls.models))

    def _state(self, db: sqlite3.Connection) -> None:
        rows = db.execute(
            "SELECT role, content_json, created_timestamp FROM messages WHERE session_id = ?"
            " ORDER BY id DESC LIMIT ?",
            (self._session, _RECENT),
        ).fetchall()
        (context,) = db.execute("SELECT total_tokens FROM sessions WHERE id = ?", (self._session,)).fetchone()
        prompt = self._talk.prompt
        self._talk = Conversation(frozenset(), _GUARDED, prompt=prompt)
        self._talk.context = int(context) if context else None
        for role, content, created in reversed(rows):
            try:
                self._message(str(role), orjson.loads(content), seconds(created))
            except (ValueError, TypeError, AttributeError, KeyError):
                self.oddities.unreadable += 1

    def _message(self, role: str, content: list[dict[str, Any]], time: float) -> None:
        turn, kinds = self._talk.turn, {str(part.get("type")) for part in content}
        if role == "user" and "toolResponse" not in kinds:
            self._talk.asked(" ".join(str(part.get("text") or "") for part in content), time)
            return
        for part in content:
            identity = str(part.get("id"))
            match part.get("type"):
                case "toolRequest":
                    call = (part.get("toolCall") or {}).get("value") or {}
                    turn.called(identity, str(call.get("name") or "tool"), time)
                case "toolConfirmationRequest" | "actionRequired":
                    turn.questioned(identity, str(part.get("toolName") or part.get("prompt") or "?"), time)
                case "toolResponse":
                    turn.answered(identity, time)
                    turn.returned(identity, time)
        if role == "assistant":
            self._talk.last = time
            if "toolRequest" not in kinds:
                turn.ended(time)
