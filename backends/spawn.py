"""Making the wrapper process of a run; ``run.sh`` beside this file is what it runs."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from agenttop.core.errors import BackendError

WRAPPER = str(Path(__file__).with_name("run.sh"))

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: A kernel may have been started with some of these ignored; a program starts with all at their default.
_RESET = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
#: What dash runs itself (dash(1), "Builtins"), and our own function in run.sh.
BUILTINS = frozenset(
    {
        ".", ":", "[", "alias", "bg", "break", "cd", "chdir", "command", "continue", "echo", "eval", "exec",
        "exit", "export", "false", "fg", "getopts", "hash", "jobs", "kill", "local", "printf", "pwd",
        "read", "readonly", "return", "set", "shift", "test", "times", "trap", "true", "type", "ulimit",
        "umask", "unalias", "unset", "wait", "fc", "bind", "_agenttop_refuse",
    }
)  # fmt: skip
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


def shell(env: Mapping[str, str]) -> str:
    """The shell for the wrapper: dash drops variables whose names are none of its own, bash keeps them."""
    if all(map(_IDENTIFIER.fullmatch, env)):
        return "/bin/sh"
    return shutil.which("bash", path="/bin:/usr/bin:/usr/local/bin") or "/bin/sh"


@functools.cache
def _is_dash(shell: str) -> bool:
    return os.path.basename(os.path.realpath(shell)) == "dash"


def _direct(shell: str, name: str) -> bool:
    """Whether ``name`` as a command of this shell can only be a program, and is run without a copy of it."""
    return _is_dash(shell) and ("/" in name or name not in BUILTINS)


def arguments(
    folder: Path,
    boot: str,
    cwd: str,
    env: Mapping[str, str],
    command: Sequence[str],
    *,
    groups: Sequence[str] = (),
    kib: int = 0,
) -> list[str]:
    """The command line of the wrapper (see ``run.sh``); its first part is the shell's path."""
    program = shell(env)
    return [
        program,
        WRAPPER,
        str(folder),
        boot,
        cwd,
        str(kib) if kib or not _direct(program, command[0]) else "direct",
        *(f"{path}/cgroup.procs" for path in groups),
        "--",
        *command,
    ]


def spawn(argv: list[str], folder: Path, cwd: str, env: Mapping[str, str], *, stdin: bool = False) -> int:
    """Start the wrapper in a session of its own; returns its pid, which is then to be reaped.

    posix_spawn(3) does not copy this process and returns when the shell has been exec'd.

    Raises:
        BackendError: The system has no room for it, or the command line is too long.
    """
    source = (str(folder / "stdin"), os.O_RDONLY) if stdin else ("/dev/null", os.O_RDONLY)
    try:
        return os.posix_spawn(
            argv[0],
            argv,
            {**env, "PWD": cwd},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, *source, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(folder / "out"), _APPEND & ~os.O_CLOEXEC, 0o600),
                (os.POSIX_SPAWN_OPEN, 2, str(folder / "err"), _APPEND & ~os.O_CLOEXEC, 0o600),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=_RESET,
        )
    except OSError as error:
        name = argv[argv.index("--") + 1]
        raise BackendError(f"cannot start {name}", error.strerror or str(error)) from error
