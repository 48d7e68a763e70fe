"""``python -m agenttop.tui.demo.reaper``: takes a demo down when its screen is gone, however it went.

It runs in a session of its own and watches the demo's process through a pidfd that the demo opened on
itself, so there is no moment in which it could miss the end, or take another process for it.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .cleanup import clean


def wait_for_end(pidfd: int, pipe: int) -> None:
    """Return when the demo's process has ended, or says through the pipe (or by closing it) that it has."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    poll.poll()


def main(argv: Sequence[str] | None = None) -> int:
    """Watch, clean, and answer with one line for each thing that is left; the exit status is their number."""
    parser = argparse.ArgumentParser(prog="python -m agenttop.tui.demo.reaper", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--image")
    parser.add_argument("--pidfd", type=int, required=True)
    parser.add_argument("--pipe", type=int, required=True)
    options = parser.parse_args(argv)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # the terminal is going away: that is when we are needed
    wait_for_end(options.pidfd, options.pipe)
    os.close(options.pipe)
    problems = clean(options.home, options.image)
    if problems:
        try:
            sys.stdout.write("".join(f"{line}\n" for line in problems))
            sys.stdout.flush()
        except OSError:
            return len(problems)  # nobody is left to read it
    return len(problems)


if __name__ == "__main__":
    raise SystemExit(main())
