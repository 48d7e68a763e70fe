"""Copilot CLI: its processes, their sessions, and where those lie.

Source of the rules: Copilot CLI 1.0.102, run against a mock provider. A running one holds a file open in the
folder of its session; that is exact, whatever the folder and however many of them run in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from ..contract import Found, Session, Tail
from ..index.history import Root
from ..processes import open_files
from .copilot_state import CopilotTail
from .scripts import is_called, runs_script

_HELD = re.compile(r"^(.*/session-state/([^/]+))/inuse\.(\d+)\.")


class CopilotObserver:
    """Reads Copilot CLI."""

    name = "copilot"
    title = "Copilot CLI"

    def recognise(self, process: Found) -> bool:
        """``copilot`` by its name, or node with its script."""
        return is_called(process, "copilot") or runs_script(process, "copilot", "@github/copilot")

    def roots(self, environ: Mapping[str, str], home: str) -> list[Root]:
        """``session-state`` below ``COPILOT_HOME``, else below ``~/.copilot``."""
        folder = environ.get("COPILOT_HOME") or f"{home}/.copilot"
        return [Root("copilot", f"{folder}/session-state")]

    def join(self, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
        """By the file that a process holds open; of several the one last written to, after ``/clear``."""
        joined: dict[tuple[int, int], Session] = {}
        for process in processes:
            held = [match for path in open_files(process.pid) if (match := _HELD.match(path))]
            own = [match for match in held if int(match[3]) == process.inner_pid] or held
            if own:
                match = max(own, key=lambda held: _changed(f"{process.root}{held[1]}/events.jsonl"))
                joined[process.key] = Session(match[2], f"{process.root}{match[1]}/events.jsonl", True)
        return joined

    def tail(self, session: Session) -> Tail:
        """Begin to follow a session, with its subagents."""
        return CopilotTail(session)


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
