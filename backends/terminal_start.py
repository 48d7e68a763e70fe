"""The little script by which a run's wrapper begins in its terminal.

A tmux command may be 16 KB long, and everybody can read a command line. So the environment, with the
agent's secret in it, and the command are in a file of the run's folder that is gone once it was read.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

START = "start"

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Says nothing itself, lives as long as the wrapper and ends as that does.
_GUARD = (
    "trap : HUP INT QUIT TERM; unset PWD OLDPWD SHLVL _; exec 3>&2 2>/dev/null;"
    ' /bin/sh "$0" 2>&3 3>&-; exit $?'
)
#: What the terminal of the caller is, which is not the one the program gets.
_OTHER_TERMINAL = re.compile(
    r"TMUX(_PANE)?|STY|TERM|TERM_PROGRAM(_VERSION)?|TERMINFO(_DIRS)?|LINES|COLUMNS|VTE_VERSION|WT_SESSION"
    r"|(KITTY|ITERM|WEZTERM|ALACRITTY|GHOSTTY|KONSOLE)_.*|LC_TERMINAL(_VERSION)?|TERM_SESSION_ID|SSH_TTY"
)


def environment(env: Mapping[str, str], cwd: str, term: str) -> dict[str, str]:
    """``env`` as it is inside a terminal called ``term`` in terminfo(5)."""
    kept = {name: value for name, value in env.items() if not _OTHER_TERMINAL.fullmatch(name)}
    return {**kept, "TERM": term, "PWD": cwd}


def write(folder: Path, env: Mapping[str, str], argv: Sequence[str]) -> None:
    """Write the script that becomes ``argv`` with the environment ``env``. Blocking."""
    lines = ["unset PWD OLDPWD SHLVL _"]
    lines += [f"export {name}={shlex.quote(env[name])}" for name in env if _IDENTIFIER.fullmatch(name)]
    # Names a shell cannot set; bash, which runs the wrapper then, keeps them.
    odd = [f"{name}={value}" for name, value in env.items() if not _IDENTIFIER.fullmatch(name)]
    command = ["/usr/bin/env", *odd, *argv] if odd else [*argv]
    lines.append(f"exec {shlex.join(command)}")
    descriptor = os.open(folder / START, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(os.fsencode("\n".join(lines) + "\n"))


def command(folder: Path, *, guarded: bool) -> list[str]:
    """What the terminal runs: nothing of the server's own environment gets into it.

    tmux continues what it sees stopped (``server_child_stopped`` in its server.c). A run that is frozen
    by SIGSTOP is ``guarded`` from that by a shell between the two, which is no part of the run.
    """
    script = str(folder / START)
    if guarded:
        return ["/usr/bin/env", "-i", "/bin/sh", "-c", _GUARD, script]
    return ["/usr/bin/env", "-i", "/bin/sh", script]


def take_back(folder: Path) -> bool:
    """Remove the script: what has not read it by now never starts. Whether it was there."""
    try:
        (folder / START).unlink()
    except FileNotFoundError:
        return False
    return True
