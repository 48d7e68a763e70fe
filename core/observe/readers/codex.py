"""Codex: its processes, their sessions, and where its rollouts lie.

Source of the rules: Codex 0.169, run against a mock provider. A running Codex holds its rollout open;
that is exact, whatever the folder and however many of them run in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ..contract import Found, Session, Tail
from ..index.history import Root
from ..processes import open_files
from .codex_spawned import ROLLOUT
from .codex_state import CodexTail
from .scripts import is_called, runs_script


class CodexObserver:
    """Reads Codex."""

    name = "codex"
    title = "Codex"

    def recognise(self, process: Found) -> bool:
        """``codex`` by its name, or node with its script; not its sandboxes."""
        return is_called(process, "codex") or runs_script(process, "codex", "@openai/codex")

    def roots(self, environ: Mapping[str, str], home: str) -> list[Root]:
        """``sessions`` and ``archived_sessions`` below ``CODEX_HOME``, else below ``~/.codex``."""
        folder = environ.get("CODEX_HOME") or f"{home}/.codex"
        return [Root("codex", f"{folder}/sessions"), Root("codex", f"{folder}/archived_sessions")]

    def join(self, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
        """By the rollouts that a process holds open; the first one is its own, others are subagents'."""
        joined: dict[tuple[int, int], Session] = {}
        for process in processes:
            rollouts = [
                (path, match[1]) for path in open_files(process.pid) if (match := ROLLOUT.search(path))
            ]
            if rollouts:
                # Names begin with the time, so that the first is the oldest.
                path, thread = min(rollouts, key=lambda found: os.path.basename(found[0]))
                joined[process.key] = Session(thread, f"{process.root}{path}", True)
        return joined

    def tail(self, session: Session) -> Tail:
        """Begin to follow a session."""
        return CodexTail(session)
