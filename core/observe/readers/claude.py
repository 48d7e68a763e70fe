"""Claude Code: its processes, their sessions, and what its transcripts say.

Source of the rules: Claude Code 2.1.197 and 2.1.329, run against a mock provider.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from .. import regular
from ..contract import Found, Session, Tail
from ..index.history import Root
from ..processes import option
from .claude_slug import LONGEST, slug
from .claude_state import ClaudeTail
from .joining import mains
from .scripts import is_called, runs_script

#: The largest pid file that is believed.
_MOST = 1 << 16


class ClaudeObserver:
    """Reads Claude Code."""

    name = "claude"
    title = "Claude Code"

    def recognise(self, process: Found) -> bool:
        """``claude`` by its name, or node with its script; not what only has that open."""
        return is_called(process, "claude", "claude.exe") or runs_script(
            process, "claude", "@anthropic-ai/claude-code"
        )

    def roots(self, environ: Mapping[str, str], home: str) -> list[Root]:
        """``projects`` below each folder that ``CLAUDE_CONFIG_DIR`` names, else below ``~/.claude``."""
        named = [part for part in environ.get("CLAUDE_CONFIG_DIR", "").split(",") if part]
        folders = named or [
            f"{home}/.claude",
            f"{environ.get('XDG_CONFIG_HOME') or home + '/.config'}/claude",
        ]
        return [Root("claude", f"{folder}/projects") for folder in folders]

    def join(self, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
        """By the pid file, else by the command line, else the newest transcript of its folder."""
        folders = Counter((process.root, process.cwd) for process in mains(processes) if process.cwd)
        joined: dict[tuple[int, int], Session] = {}
        for process in processes:
            if process.cwd is None or (config := _config(process)) is None:
                continue
            alone = folders[process.root, process.cwd] == 1
            if (session := _session(process, config, alone)) is not None:
                joined[process.key] = session
        return joined

    def tail(self, session: Session) -> Tail:
        """Begin to follow a session, with its subagents."""
        return ClaudeTail(session)


def _config(process: Found) -> str | None:
    folder = process.setting("CLAUDE_CONFIG_DIR") or (process.home and f"{process.home}/.claude")
    return f"{process.root}{folder}" if folder else None


def _session(process: Found, config: str, alone: bool) -> Session | None:
    told = _pid_file(process, config)
    identity = str(told.get("sessionId") or "") or option(process.argv, "--session-id", "--resume", "-r")
    cwd = str(told.get("cwd") or process.cwd or "")
    folder = _project(config, os.path.realpath(process.root + cwd).removeprefix(process.root))
    newest = _newest(folder, process.started) if alone else None
    if identity and _plain(identity):
        own = f"{folder}/{identity}.jsonl"
        # /clear goes on in a new transcript and leaves the pid file as it was.
        if newest is None or newest == own or _changed(newest) <= _changed(own) or not os.path.exists(own):
            return Session(identity, own, True, _beside(process, config) if told else "")
    if newest is None:
        return None
    return Session(Path(newest).stem, newest, False)


def _project(config: str, cwd: str) -> str:
    """The folder with a working folder's transcripts; of a long name only the beginning is known."""
    name = slug(cwd)
    if len(name) == LONGEST:
        try:
            with os.scandir(f"{config}/projects") as entries:
                found = [entry.name for entry in entries if entry.name.startswith(f"{name}-")]
        except OSError:
            found = []
        if len(found) == 1:  # of several, none can be told to be it
            name = found[0]
    return f"{config}/projects/{name}"


def _beside(process: Found, config: str) -> str:
    return f"{config}/sessions/{process.inner_pid}.json"


def _pid_file(process: Found, config: str) -> dict[str, Any]:
    """What the CLI wrote about its process; empty if that was another process of the same pid."""
    try:
        told = orjson.loads(regular.beginning(_beside(process, config), _MOST))
    except (OSError, ValueError):
        return {}
    if not isinstance(told, dict) or str(told.get("procStart")) != str(process.start_time):
        return {}
    return told


def _newest(folder: str, since: float) -> str | None:
    """The transcript written last, if it was written since the process began."""
    try:
        with os.scandir(folder) as entries:
            times = [
                (entry.stat(follow_symlinks=False).st_mtime, entry.path)
                for entry in entries
                if entry.name.endswith(".jsonl") and entry.is_file(follow_symlinks=False)
            ]
    except OSError:
        return None
    when, path = max(times, default=(0.0, ""))
    return path if path and when >= since - 1 else None


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _plain(identity: str) -> bool:
    """Whether an id may stand in a path."""
    return "/" not in identity and "\0" not in identity and not identity.startswith(".")
