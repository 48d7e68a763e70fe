"""OpenCode: its processes, their sessions, and where its database lies.

Source of the rules: OpenCode 1.18, run against a mock provider. All sessions of a user are in one database;
which is a process's is told by its command line, else by its folder and the time.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import orjson

from ..contract import Found, Session, Tail
from ..index.history import Root
from ..processes import option
from .database import opened
from .joining import SLACK, Candidate, by_database, by_time
from .opencode_state import OpenCodeTail
from .scripts import is_called, runs_script


class OpenCodeObserver:
    """Reads OpenCode."""

    name = "opencode"
    title = "OpenCode"

    def recognise(self, process: Found) -> bool:
        """``opencode`` by its name, or node with the script that starts it."""
        return is_called(process, "opencode", ".opencode") or runs_script(process, "opencode", "opencode-ai")

    def roots(self, environ: Mapping[str, str], home: str) -> list[Root]:
        """Its database, below ``XDG_DATA_HOME`` or ``~/.local/share``."""
        return [Root("opencode", _database(environ, home))]

    def join(self, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
        """By the session its command line names, else by folder and time."""
        return by_database(processes, _database, _join)

    def tail(self, session: Session) -> Tail:
        """Begin to follow a session, with its subagents'."""
        return OpenCodeTail(session)


def _database(environ: Mapping[str, str], home: str) -> str:
    return f"{environ.get('XDG_DATA_HOME') or f'{home}/.local/share'}/opencode/opencode.db"


def _join(path: str, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
    since = int((min(process.started for process in processes) - SLACK) * 1000)
    named = {process.key: option(process.argv, "--session", "-s") for process in processes}
    with opened(path) as db:
        rows = db.execute(
            "SELECT id, directory, time_created, time_updated FROM session"
            " WHERE parent_id IS NULL AND (time_updated >= ? OR id IN (SELECT value FROM json_each(?)))",
            (since, _list(named.values())),
        ).fetchall()
    ids = {row[0] for row in rows}
    known = {
        key: Session(identity, f"{path}#{identity}", True)
        for key, identity in named.items()
        if identity is not None and identity in ids
    }
    folders: dict[str, list[Found]] = defaultdict(list)
    for process in processes:
        if process.key not in known:
            folders[_folder(process)].append(process)
    taken = [session.id for session in known.values()]
    for folder, here in folders.items():
        candidates = [
            Candidate(Session(identity, f"{path}#{identity}", False), begun / 1000, changed / 1000)
            for identity, directory, begun, changed in rows
            if directory == folder
        ]
        known |= by_time(here, candidates, taken)
    return known


def _folder(process: Found) -> str:
    """Where it works: its folder, or the project that its command line names."""
    cwd = process.cwd or ""
    words = [word for word in process.argv[1:2] if not word.startswith("-")]
    if words and os.path.isdir(project := os.path.join(process.root + cwd, words[0])):
        return os.path.realpath(project).removeprefix(process.root)
    return cwd


def _list(values: Iterable[str | None]) -> str:
    return orjson.dumps([value for value in values if value]).decode()
