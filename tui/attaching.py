"""In front of an agent's terminal: running what the kernel gave, so that the person's own is left as it was.

The client (tmux) puts the terminal back when it ends, and it ends when we do: also by a ``kill -9``, after
which it would else go on reading the keys that are meant for the shell.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

#: A program that is told of its parent's death (prctl(2), PR_SET_PDEATHSIG with SIGTERM) becomes ARGV.
_GUARDED = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def guarded(argv: Sequence[str]) -> list[str]:
    """``argv`` as this thread's child that does not outlive it."""
    return [sys.executable, "-I", "-S", "-c", _GUARDED, str(os.getpid()), *argv]


def refusal() -> str:
    """Why nobody can be put in front of anything here; empty where it can be done."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "This is no terminal: stdin and stdout must be one"
    if os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return f"This terminal cannot draw: TERM is {os.environ.get('TERM') or 'not set'}"
    return ""
