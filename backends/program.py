"""Is there such a program? Everything that can be told before a process is made for it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from agenttop.core.errors import BackendError

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def check_folder(cwd: str) -> None:
    """A working folder must be there and be one that may be entered.

    Raises:
        BackendError: It is not.
    """
    if not os.path.isabs(cwd):
        raise BackendError(f"cannot start in {cwd}", "A working folder is an absolute path")
    if not os.path.isdir(cwd):
        why = "it is not a folder" if os.path.exists(cwd) else "there is no such folder"
        raise BackendError(f"cannot start in {cwd}", why, "Create it or choose another with --cwd")
    if not os.access(cwd, os.X_OK):
        raise BackendError(f"cannot start in {cwd}", "Permission denied")


def check_program(command: Sequence[str], cwd: str, env: Mapping[str, str]) -> str:
    """The file that ``command`` names, found as execvp(3) finds it, for the agent's own PATH and folder.

    Raises:
        BackendError: There is none, it may not be run, or its interpreter is missing.
    """
    if not command or not command[0]:
        raise BackendError("nothing to start", "The command is empty")
    name = command[0]
    found = os.path.join(cwd, name) if "/" in name else _search(name, cwd, env.get("PATH", _DEFAULT_PATH))
    if not os.path.exists(found):
        raise BackendError(f"cannot start {name}", "There is no such file")
    if not stat.S_ISREG(os.stat(found).st_mode):
        raise BackendError(f"cannot start {name}", "It is not a file")
    if not os.access(found, os.X_OK):
        raise BackendError(f"cannot start {name}", "Permission denied", f"Try: chmod +x {found}")
    _check_interpreter(name, found)
    return found


def _search(name: str, cwd: str, path: str) -> str:
    denied = None
    for folder in path.split(os.pathsep):
        candidate = os.path.join(cwd, folder, name)
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            denied = denied or candidate
    if denied:
        return denied
    raise BackendError(
        f"cannot start {name}", "There is no such program in PATH", "Install it, or give its full path"
    )


def _check_interpreter(name: str, found: str) -> None:
    try:
        with open(found, "rb") as file:
            line = file.read(256).partition(b"\n")[0]
    except PermissionError:
        return  # a program may be runnable without being readable
    words = line[2:].split(maxsplit=1) if line.startswith(b"#!") else []
    if words and not os.access(interpreter := os.fsdecode(words[0]), os.X_OK):
        raise BackendError(
            f"cannot start {name}", f"Its interpreter {interpreter} is missing or may not be run"
        )


def sandboxed(command: Sequence[str], cwd: str, folder: Path) -> list[str]:
    """``command`` under bubblewrap: all read-only but the working folder, the run's folder and /tmp.

    The kernel's own files stay out of reach for writing; the network and other processes do not.

    Raises:
        BackendError: bubblewrap is not installed.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise BackendError(
            "cannot start in a sandbox", "bubblewrap is not installed", "Try: apt install bubblewrap"
        )
    writable = [part for path in ("/tmp", cwd, str(folder)) for part in ("--bind", path, path)]
    return [
        bwrap,
        "--ro-bind",
        "/",
        "/",
        "--dev-bind",
        "/dev",
        "/dev",
        *writable,
        "--chdir",
        cwd,
        "--",
        *command,
    ]
