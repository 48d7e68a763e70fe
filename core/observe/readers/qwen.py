"""Qwen Code: its processes, their sessions, and where its chats lie.

Source of the rules: Qwen Code 0.15 and 0.24, run against a mock provider. Newer versions write beside an
interactive session's chat which process leads it; else its command line, its folder and the time have to do.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson

from .. import regular
from ..contract import Found, Session, Tail
from ..index.history import Root
from ..processes import agents, option
from .claude_slug import slug
from .joining import SLACK, Candidate, by_time, mains
from .qwen_state import QwenTail
from .scripts import runs_script

#: The longest first line, and the largest file about a process, that is believed.
_MOST = 1 << 20
_RUNTIME = ".runtime.json"


class QwenObserver:
    """Reads Qwen Code."""

    name = "qwen"
    title = "Qwen Code"

    def recognise(self, process: Found) -> bool:
        """Node with its script; it starts itself again as a child."""
        return runs_script(process, "qwen", "@qwen-code/qwen-code")

    def roots(self, environ: Mapping[str, str], home: str) -> list[Root]:
        """``projects`` below ``QWEN_HOME``, else below ``~/.qwen``."""
        return [Root("qwen", f"{environ.get('QWEN_HOME') or f'{home}/.qwen'}/projects")]

    def join(self, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
        """By what it wrote about its process, by its command line, else by folder and time."""
        folders: dict[str, list[Found]] = defaultdict(list)
        for process in mains(processes):
            base = process.setting("QWEN_HOME") or (process.home and f"{process.home}/.qwen")
            if process.cwd is not None and base:
                folders[f"{process.root}{base}/projects/{slug(process.cwd)}/chats"].append(process)
        groups = agents(processes)
        joined: dict[tuple[int, int], Session] = {}
        for folder, here in folders.items():
            pids = {member.inner_pid: main for main in here for member in groups[main.key]}
            known = _exact(folder, here, pids)
            rest = [process for process in here if process.key not in known]
            if rest:
                since = min(process.started for process in rest) - SLACK
                taken = [session.id for session in known.values()]
                known |= by_time(rest, _chats(folder, since), taken)
            joined |= known
        return joined

    def tail(self, session: Session) -> Tail:
        """Begin to follow a chat, with its subagents'."""
        return QwenTail(session)


def _exact(folder: str, here: list[Found], pids: dict[int, Found]) -> dict[tuple[int, int], Session]:
    """The sessions that are told: by the CLI itself, which knows of ``/clear``, or by the command line."""
    found: dict[tuple[int, int], Session] = {}
    for process in here:
        identity = option(process.argv, "--session-id", "--resume", "-r")
        if identity and "/" not in identity and os.path.exists(path := f"{folder}/{identity}.jsonl"):
            found[process.key] = Session(identity, path, True)
    newest: dict[tuple[int, int], float] = {}
    for identity, pid, began in _runtimes(folder, min(process.started for process in here) - SLACK):
        main = pids.get(pid)
        # A pid may have been another process's before.
        if main is None or began < main.started - SLACK or began < newest.get(main.key, 0):
            continue
        newest[main.key] = began
        found[main.key] = Session(identity, f"{folder}/{identity}.jsonl", True)
    return found


def _runtimes(folder: str, since: float) -> list[tuple[str, int, float]]:
    """What was written about processes since then: session, pid, and when it began, in wall-clock seconds."""
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name.endswith(_RUNTIME) and entry.stat(follow_symlinks=False).st_mtime >= since
            ]
    except OSError:
        return []
    found = []
    for name in names:
        try:
            told = orjson.loads(regular.beginning(f"{folder}/{name}", _MOST))
            if isinstance(told, dict) and isinstance(pid := told.get("pid"), int):
                found.append((name.removesuffix(_RUNTIME), pid, float(told.get("started_at") or 0)))
        except (OSError, ValueError, TypeError):
            continue
    return found


def _chats(folder: str, since: float) -> list[Candidate]:
    """The chats of a folder that were written to since then."""
    found: list[Candidate] = []
    try:
        with os.scandir(folder) as entries:
            files = [entry for entry in entries if entry.name.endswith(".jsonl")]
    except OSError:
        return found
    for entry in files:
        try:
            changed = entry.stat(follow_symlinks=False).st_mtime
            if changed < since or not entry.is_file(follow_symlinks=False):
                continue
            head = orjson.loads(regular.beginning(entry.path, _MOST).partition(b"\n")[0])
            begun = datetime.fromisoformat(head["timestamp"]).astimezone(UTC).timestamp()
        except (OSError, ValueError, KeyError, TypeError):
            continue
        session = Session(entry.name.removesuffix(".jsonl"), entry.path, False)
        found.append(Candidate(session, begun, changed))
    return found
