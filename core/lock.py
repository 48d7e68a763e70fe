"""One kernel per state directory: a lock that the system releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .errors import Conflict


class KernelRunning(Conflict):
    """Another process is the kernel of this state directory."""

    code = "kernel_running"


class Lock:
    """``flock`` on ``kernel.lock``; the file says who holds it, for people.

    The descriptor is not inherited by anything the kernel starts, so the lock ends with the kernel.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def take(self) -> None:
        """Take the lock, or raise.

        Raises:
            KernelRunning: Another kernel has it.
            OSError: The file cannot be opened.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise KernelRunning(
                f"another kernel has {self.path.parent}",
                f"Process {pid} holds its lock" if pid else "Its lock is held",
                "Use that one, or end it with `agenttop kernel stop`",
            ) from None
        except BaseException:
            os.close(fd)
            raise
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._fd is not None

    def release(self) -> None:
        """Give the lock back; the file stays, because removing it would let two kernels lock two files."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def holder_of(path: Path) -> int | None:
    """The pid that holds the lock at ``path`` now, or ``None``; takes nothing that lasts."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, 32, 0).strip()
        return int(pid) if pid.isdigit() else 0
    finally:
        os.close(fd)
    return None
