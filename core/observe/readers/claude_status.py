"""What Claude Code says of its own process: busy, idle, or waiting for its person, and for what.

Source of the rules: Claude Code 2.1.329, which keeps it in the file about its process; older versions do
not. It knows what a transcript does not tell: that it asks for permission, or shows a dialogue.
"""

from __future__ import annotations

import os
from typing import Any

import orjson

from ...agents.states import State, Waiting
from .. import regular
from ..contract import View
from .doing import LONGEST

#: The largest such file that is believed.
_MOST = 1 << 16
#: Seconds by which a line of the same moment may be stamped later.
_LATE = 1.0


class Status:
    """Follows one such file.

    Args:
        path: Need not exist; empty: there is none.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = (0, 0)
        self._told: dict[str, Any] = {}

    def refresh(self) -> bool:
        """Read it if it has changed; whether what it says did."""
        if not self._path:
            return False
        try:
            status = os.stat(self._path)
            now = status.st_ino, status.st_mtime_ns
            if now == self._seen:
                return False
            told = orjson.loads(regular.beginning(self._path, _MOST))
        except (OSError, ValueError):  # gone with its process, or just being written
            return False
        before, self._seen, self._told = self._told, now, told if isinstance(told, dict) else {}
        return any(before.get(name) != self._told.get(name) for name in ("status", "waitingFor", "sessionId"))

    def corrected(self, view: View) -> View:
        """A view of the same conversation with what is known for certain."""
        status, when = self._told.get("status"), self._told.get("statusUpdatedAt")
        if view.session is not None and self._told.get("sessionId") != view.session:
            return view
        since = when / 1000 if isinstance(when, int | float) else view.since
        if status == "waiting":
            asked = view.detail if view.state is State.WAITING else self._told.get("waitingFor")
            detail = str(asked or view.tool or "")[:LONGEST]
            view = view._replace(state=State.WAITING, reason=Waiting.INPUT, detail=detail, since=since)
        elif status == "idle":
            # A line that came after it was written knows better.
            late = view.since is not None and since is not None and view.since > since + _LATE
            if view.state is not State.IDLE and not late:
                view = view._replace(state=State.IDLE, reason=None, detail="", since=since)
        elif status == "busy":
            if view.state is State.WAITING:
                view = view._replace(state=State.EXECUTING, reason=None, detail=view.tool or "", since=since)
            elif view.state is State.IDLE:
                view = view._replace(state=State.PLANNING, reason=None, detail="", since=since)
        else:
            return view
        return view._replace(certain=True)
