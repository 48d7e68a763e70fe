"""aider: its processes, and where they write.

Source of the rules: aider 0.86.2, run against a mock provider. Each repository, or folder outside of one,
has one history; several in one folder write into the same, so then nobody's is known.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from ..contract import Found, Session, Tail
from ..index.history import Root
from ..processes import option
from .aider_calls import HISTORY
from .aider_state import AiderTail
from .joining import SLACK, mains
from .scripts import is_called, runs_python

#: So many folders are gone up to find a repository.
_UP = 64


class AiderObserver:
    """Reads aider."""

    name = "aider"
    title = "aider"

    def __init__(self) -> None:
        self._logs: dict[str, str] = {}

    def recognise(self, process: Found) -> bool:
        """``aider`` by its name, or Python with its script or module."""
        return is_called(process, "aider") or runs_python(process, "aider")

    def roots(self, environ: Mapping[str, str], home: str) -> list[Root]:
        """The history that the environment names, and the home's own; others lie in any folder."""
        named = environ.get("AIDER_CHAT_HISTORY_FILE")
        return [Root("aider", path) for path in (named, f"{home}/{HISTORY}") if path and path[0] == "/"]

    def join(self, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
        """The history of each one's repository, where it is alone in it."""
        written = {process.key: (process, _history(process)) for process in mains(processes)}
        users = Counter(path for _, path in written.values() if path)
        joined: dict[tuple[int, int], Session] = {}
        for key, (process, path) in written.items():
            if path is None or users[path] > 1:
                continue
            try:
                fresh = os.stat(path).st_mtime >= process.started - SLACK
            except OSError:
                continue
            if fresh:
                log = option(process.argv, "--analytics-log") or process.setting("AIDER_ANALYTICS_LOG")
                self._logs[path] = _absolute(process, log) if log else ""
                joined[key] = Session(f"{process.pid}", path, False)
        return joined

    def tail(self, session: Session) -> Tail:
        """Begin to follow a history."""
        return AiderTail(session, self._logs.get(session.path, ""))


def _history(process: Found) -> str | None:
    if process.cwd is None:
        return None
    named = option(process.argv, "--chat-history-file") or process.setting("AIDER_CHAT_HISTORY_FILE")
    if named:
        return _absolute(process, named)
    folder = process.cwd
    for _ in range(_UP):
        if os.path.exists(f"{process.root}{folder}/.git"):
            return f"{process.root}{folder}/{HISTORY}"
        if folder in ("/", ""):
            break
        folder = os.path.dirname(folder)
    return f"{process.root}{process.cwd}/{HISTORY}"


def _absolute(process: Found, path: str) -> str:
    return process.root + os.path.join(process.cwd or "/", os.path.expanduser(path))
