"""Calls out of goose's database, as far as it tells of calls.

Source of the rules: goose's own source (schema 5 to 7 of its sessions) and ccusage's reader. NOT seen in a
real run: goose comes from neither npm nor PyPI. A session has only running totals, so what they grew by
between two readings is taken for one call: sums are right, times are as fine as one looks. How much came
from a cache is not told.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any

import orjson

from ..index.calls import Call, count, digest
from .conversations import Conversations
from .database import columns, require
from .database_calls import DatabaseCalls

#: Nanoseconds in a second.
_NANO = 1_000_000_000
_INPUT, _OUTPUT = "accumulated_input_tokens", "accumulated_output_tokens"


class GooseCalls(DatabaseCalls):
    """Gathers the growth of one session; see ``DatabaseCalls``."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        super().__init__(state)
        self._total: list[int] = self.facts.pop("total", [0, 0])
        self.restart = not state  # the totals are taken whole: what was found before is in them

    @property
    def state(self) -> dict[str, Any]:
        """What the next reading of this session has to know."""
        return self.facts | {"total": self._total}

    @staticmethod
    def lister(path: str) -> Conversations:
        """What lists the sessions of the database at ``path``."""
        return Conversations(path, _sessions)

    def take(self, db: sqlite3.Connection, session: str) -> int:
        """Read it out of an open database; when it changed, as the lister has it.

        Raises:
            OSError: There is no such session.
        """
        found = next((known[1] for known in _sessions(db, session)), None)
        if found is None:
            raise FileNotFoundError(session)
        names = [
            name
            for name in ("model_config_json", "name", "description", "session_type")
            if name in columns(db, "sessions")
        ]
        row = db.execute(
            f"SELECT working_dir, updated_at, {_INPUT}, {_OUTPUT}{''.join(f', {name}' for name in names)}"
            " FROM sessions WHERE id = ?",
            (session,),
        ).fetchone()
        about = dict(zip(names, row[4:], strict=True))
        self.facts |= {"session": session, "cwd": row[0]}
        self.facts["title"] = about.get("name") or about.get("description") or None
        self.facts["subagent"] = about.get("session_type") == "sub_agent"
        if model := _model(about.get("model_config_json")):
            self.facts["model"] = model
        try:
            self._grown(session, seconds(row[1]), [count(row[2]), count(row[3])])
        except (ValueError, TypeError, OverflowError):
            self.odd += 1
        return found

    def _grown(self, session: str, time: float, total: list[int]) -> None:
        before = self._total if all(a >= b for a, b in zip(total, self._total, strict=True)) else [0, 0]
        fresh, output = total[0] - before[0], total[1] - before[1]
        self._total = total
        if not (fresh or output):
            return
        model = str(self.facts.get("model") or "")
        name, message = digest(model), digest(f"goose {session} {total}")
        self.models[name] = model
        self.calls[message, 0] = Call(message, 0, round(time * 1000), name, fresh, 0, 0, 0, output, 0)


def seconds(text: object) -> float:
    """A time as goose's database has it, in UTC, as wall-clock seconds.

    Raises:
        ValueError: It is none.
    """
    if isinstance(text, int):
        return text / 1000 if text > 1 << 33 else float(text)
    when = datetime.fromisoformat(str(text))
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _model(config: object) -> str:
    try:
        told = orjson.loads(config) if isinstance(config, str) else None
    except ValueError:
        return ""
    return str(told.get("model_name") or "") if isinstance(told, dict) else ""


def _sessions(db: sqlite3.Connection, only: str | None = None) -> list[tuple[str, int]]:
    require(db, "sessions", ("id", "working_dir", "updated_at", _INPUT, _OUTPUT))
    where = "" if only is None else " WHERE id = ?"
    rows = db.execute(
        f"SELECT id, coalesce({_INPUT}, 0) + coalesce({_OUTPUT}, 0), updated_at FROM sessions{where}",
        () if only is None else (only,),
    )
    found = []
    for identity, size, updated in rows:
        try:
            # Tokens in the digits that seconds leave: so it moves even where the time has not.
            found.append((str(identity), int(seconds(updated)) * _NANO + int(size) % _NANO))
        except (ValueError, TypeError, OverflowError):
            found.append((str(identity), int(size) % _NANO))
    return found
