"""``agenttop demo`` in a real terminal: however it is left, the same is left: nothing."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenttop.tui.demo.sweep import marked


class Terminal:
    """A demo with a screen on a pty of 120×34 that is its controlling terminal."""

    def __init__(self, scratch: Path) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 34, 120, 0, 0))
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("AGENTTOP_", "ANTHROPIC_"))}
        self.scratch = scratch
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agenttop.tui.main", "demo", "--speed", "20", "--no-containers"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**environ, "TERM": "xterm-256color", "TMPDIR": str(scratch), "PYTHONWARNINGS": "error"},
        )
        os.close(slave)
        self.said = b""

    def await_text(self, text: bytes, seconds: float = 40.0) -> None:
        """Read until ``text`` was written."""
        deadline = time.monotonic() + seconds
        while text not in self.said:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} never came; last was {self.said[-600:]!r}"
            self.said += os.read(self.master, 65_536)

    def await_exit(self) -> int:
        """Drain the terminal until the demo has ended; its status."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "the demo did not end"
            if self.master >= 0 and select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.said += os.read(self.master, 65_536)
                except OSError:  # the last writer has closed it
                    self.process.wait(60)
        return self.process.returncode

    def hang_up(self) -> None:
        """Close the terminal, as a dropped SSH connection does."""
        os.close(self.master)
        self.master = -1

    def home(self) -> Path:
        """The demo's home: the only one in this terminal's own TMPDIR."""
        (home,) = self.scratch.glob("agenttop-demo-*")
        return home

    def close(self) -> None:
        """Leave nothing, whatever the test did."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.master >= 0:
            self.hang_up()


@pytest.fixture
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    running = Terminal(tmp_path_factory.mktemp("d"))
    try:
        yield running
    finally:
        running.close()


def watched(terminal: Terminal) -> tuple[Path, list[int]]:
    """The home, and pidfds of all its processes and of the reaper."""
    home = terminal.home()
    children = Path(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children").read_text().split()
    reapers = [
        int(pid)
        for pid in children
        if b"agenttop.tui.demo.reaper" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]
    assert len(reapers) == 1
    return home, [*marked(home).values(), *map(os.pidfd_open, reapers)]


def assert_gone(home: Path, pidfds: list[int]) -> None:
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(60_000), "a process of the demo did not end"
        os.close(pidfd)
    assert marked(home) == {}
    assert not home.exists()


def test_q_leaves_the_demo_and_nothing_behind(terminal: Terminal) -> None:
    terminal.await_text(b"deploy-watch")
    home, pidfds = watched(terminal)
    os.write(terminal.master, b"q")
    assert terminal.await_exit() == 0, terminal.said[-600:]
    assert_gone(home, pidfds)


@pytest.mark.parametrize("end", ["hangup", "kill", "term"])
def test_a_demo_that_loses_its_screen_is_cleaned_up(terminal: Terminal, end: str) -> None:
    terminal.await_text(b"deploy-watch")
    home, pidfds = watched(terminal)
    match end:
        case "hangup":
            terminal.hang_up()
        case "kill":
            terminal.process.kill()
        case "term":
            terminal.process.send_signal(signal.SIGTERM)
    terminal.await_exit()
    assert_gone(home, pidfds)
