"""What a terminal's run has in its folder besides a subprocess's: small files that outlive the kernel."""

from __future__ import annotations

import os
from pathlib import Path

from . import proc

#: The text of the last screen, once the session is closed.
SCREEN = "screen"
#: Pid and start time of the tmux server.
SERVER = "server"
#: There when the server ended before the program.
LOST = "lost"
#: There when the end of input was typed.
CLOSED = "closed"


def note_server(folder: Path, pid: int) -> None:
    """Note in which server a run is, with its start time: pids are given out again."""
    found = proc.stat(pid)
    (folder / SERVER).write_text(f"{pid} {found.start_time if found else 0}\n")


def server_of(folder: Path) -> tuple[int, int] | None:
    """The server a run was started in; ``None`` when that was not noted any more."""
    try:
        pid, start_time = (folder / SERVER).read_text().split()
        return int(pid), int(start_time)
    except (FileNotFoundError, ValueError):
        return None


def keep_screen(folder: Path, text: str) -> None:
    """Keep what a terminal showed last."""
    descriptor = os.open(folder / SCREEN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def kept_screen(folder: Path) -> str | None:
    """What a terminal showed last; ``None`` when nothing was kept."""
    try:
        return (folder / SCREEN).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def wait_status(how: str) -> int | None:
    """What waitpid would have said, of tmux's ``SIGNAL STATUS``, each empty where it does not apply."""
    signal, _, code = how.partition(" ")
    if signal.isdigit():
        return int(signal)
    return int(code) << 8 if code.isdigit() else None
