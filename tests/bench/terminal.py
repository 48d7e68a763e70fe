"""A program in a pseudo-terminal: when its first frame is there, what it costs afterwards."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Terminal:
    """One program in a pty of ``columns`` × ``rows``; its output is read and kept."""

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], columns: int = 200, rows: int = 50
    ) -> None:
        self.began = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(
                command[0], list(command), {**environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
            )
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.text = b""

    def until(self, needle: bytes, seconds: float = 20.0) -> float:
        """Seconds from the fork until ``needle`` was written."""
        end = time.perf_counter() + seconds
        while needle not in self.text:
            left = end - time.perf_counter()
            if left <= 0:
                raise TimeoutError(f"{needle!r} did not appear: {self.text[-300:]!r}")
            if select.select([self.fd], [], [], left)[0] and not self._take():
                raise EOFError(f"it ended before {needle!r}: {self.text[-300:]!r}")
        return time.perf_counter() - self.began

    def read(self, seconds: float) -> int:
        """Take what comes within ``seconds``; returns how many bytes."""
        taken = 0
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            if not select.select([self.fd], [], [], left)[0]:
                break
            if not (piece := self._take()):
                break
            taken += piece
            if taken > 65_536:
                break
        return taken

    def _take(self) -> int:
        """Read what is there now; returns how many bytes, 0 when the program has ended."""
        try:
            piece = os.read(self.fd, 65_536)
        except OSError:  # EIO: the last one who had the terminal open has closed it
            return 0
        self.text = (self.text + piece)[-400_000:]
        return len(piece)

    def watch(self, seconds: float) -> int:
        """Read for exactly ``seconds``; returns how many bytes were written to the terminal."""
        end = time.perf_counter() + seconds
        taken = 0
        while (left := end - time.perf_counter()) > 0:
            taken += self.read(left)
        return taken

    def close(self) -> None:
        """End the program."""
        os.kill(self.pid, signal.SIGTERM)
        try:
            while self.read(0.2):
                pass
            os.waitpid(self.pid, 0)
        finally:
            os.close(self.fd)


def cpu_seconds(pid: int) -> float:
    """User and system time of one process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> int:
    """Bytes of RAM that are the process's own (proportional set size where the system tells it)."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
