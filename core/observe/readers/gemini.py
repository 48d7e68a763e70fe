"""Gemini CLI: its processes, their sessions, and where its chats lie.

Source of the rules: Gemini CLI 0.61, run against a mock provider. It holds no file open that would tell a
process's chat: the folder and the time have to.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import orjson

from .. import regular
from ..contract import Found, Session, Tail
from ..index.history import Root
from .gemini_state import GeminiTail
from .joining import Candidate, by_time, mains
from .scripts import runs_script

#: The largest file of projects, and the longest header of a chat, that is believed.
_MOST = 1 << 20
#: So much of a chat's end is looked at for when something was last said.
_END = 64 << 10
_TIME = re.compile(rb'"(?:lastUpdated|timestamp)":"([^"\\]{1,40})"')


class GeminiObserver:
    """Reads Gemini CLI."""

    name = "gemini"
    title = "Gemini CLI"

    def recognise(self, process: Found) -> bool:
        """Node with its script; it starts itself again as a child."""
        return runs_script(process, "gemini", "@google/gemini-cli")

    def roots(self, environ: Mapping[str, str], home: str) -> list[Root]:
        """``tmp`` below ``.gemini`` in ``GEMINI_CLI_HOME``, else in the home."""
        return [Root("gemini", f"{environ.get('GEMINI_CLI_HOME') or home}/.gemini/tmp")]

    def join(self, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
        """By the project that its folder is, and the time."""
        folders: dict[str, list[Found]] = defaultdict(list)
        for process in mains(processes):
            if (folder := _project(process)) is not None:
                folders[folder].append(process)
        joined: dict[tuple[int, int], Session] = {}
        for folder, here in folders.items():
            since = min(process.started for process in here) - 2
            joined |= by_time(here, _chats(f"{folder}/chats", since))
        return joined

    def tail(self, session: Session) -> Tail:
        """Begin to follow a chat, with its subagents'."""
        return GeminiTail(session)


def _project(process: Found) -> str | None:
    """The folder in which Gemini keeps what it knows of a process's working folder."""
    base = process.setting("GEMINI_CLI_HOME") or process.home
    if process.cwd is None or not base:
        return None
    home = f"{process.root}{base}/.gemini"
    try:
        told = orjson.loads(regular.beginning(f"{home}/projects.json", _MOST))
        name = told["projects"].get(process.cwd)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return f"{home}/tmp/{name}" if isinstance(name, str) and "/" not in name and name[:1] != "." else None


def _chats(folder: str, since: float) -> Iterator[Candidate]:
    """The main chats of a project that were written to since then."""
    try:
        with os.scandir(folder) as entries:
            found = [
                entry.path
                for entry in entries
                if entry.name.startswith("session-")
                and entry.name.endswith(".jsonl")
                and entry.is_file(follow_symlinks=False)
                and entry.stat(follow_symlinks=False).st_mtime >= since
            ]
    except OSError:
        return
    for path in found:
        try:
            with regular.opened(path) as file:
                head = orjson.loads(os.pread(file, _MOST, 0).partition(b"\n")[0])
                end = _TIME.findall(os.pread(file, _END, max(0, os.fstat(file).st_size - _END)))
            begun = _seconds(head["startTime"])
            # A new process writes a summary into the session before it, long after that has ended: when
            # a session was last written to says nothing, only when something was last said in it.
            said = _seconds(end[-1].decode()) if end else begun
            yield Candidate(Session(str(head["sessionId"]), path, False), begun, said)
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()
