"""The contract's rig for the terminal backend: programs that set their terminal to be like a pipe."""

from __future__ import annotations

import os
import shutil
import signal
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from agenttop.backends import proc
from agenttop.backends.terminal import TerminalBackend
from agenttop.core.backend import Backend, BackendContext, Launch, RunRef

from ..conftest import missing
from .rig import Rig, until
from .subprocess_rig import group_leftovers

#: Line ends as they were printed, and no echo of what is typed.
PLAIN = "stty -opost -echo 2>/dev/null; "


class TerminalRig(Rig):
    """Every run in a tmux session; the server is the test's own and gone at its end."""

    backend_name: ClassVar[str] = "terminal"

    def make_backend(self, context: BackendContext) -> Backend:
        if shutil.which("tmux") is None:
            missing("tmux", "it is not on the PATH")
        return TerminalBackend(context)

    @property
    def terminals(self) -> TerminalBackend:
        """The backend, as what it is."""
        assert isinstance(self.backend, TerminalBackend)
        return self.backend

    def launch(self, command: Sequence[str], *, plain: bool = True, **options: Any) -> Launch:
        if plain and tuple(command[:2]) == ("sh", "-c"):
            command = ("sh", "-c", PLAIN + command[2], *command[3:])
        elif plain and options.get("stdin"):
            command = ("sh", "-c", PLAIN + 'exec "$@"', "sh", *command)
        return super().launch(command, **options)

    async def start(self, launch: Launch) -> RunRef:
        ref = await super().start(launch)
        if launch.spec.stdin and PLAIN in "".join(launch.command):
            await until(lambda: not echoes(ref["pid"]), "the terminal's being plain")
        return ref

    def leftovers(self, launch: Launch) -> list[str]:
        return group_leftovers(launch)

    async def finish(self) -> None:
        try:
            await super().finish()
            await until(lambda: not servers(self.state), "the end of a tmux server without sessions")
        finally:
            for pid in servers(self.state):
                os.kill(pid, signal.SIGKILL)


def echoes(pid: int) -> bool:
    """Whether the terminal of this process shows what is typed; ``False`` when it has ended."""
    try:
        with open(f"/proc/{pid}/fd/0", "rb", buffering=0) as terminal:
            return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
    except (OSError, termios.error):
        return False


def servers(state: Path) -> list[int]:
    """The tmux servers of a state folder."""
    config = str(state.absolute() / "terminal" / "tmux.conf").encode()
    found = []
    for pid in proc.pids():
        words = (proc.read(f"/proc/{pid}/cmdline") or b"").split(b"\0")
        process = proc.stat(pid)
        if config in words and process is not None and process.alive and process.ppid == 1:
            found.append(pid)
    return found
