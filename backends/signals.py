"""Signals that can only reach the process they are meant for (pidfd_open(2), pidfd_send_signal(2))."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Iterable

from . import proc

#: pidfd_send_signal(2), since Linux 6.9: the whole process group that this process leads.
_PROCESS_GROUP = 4


def open_process(pid: int, start_time: int) -> int | None:
    """A pidfd of exactly this process; ``None`` when it is gone or the pid is somebody else's now."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):
            return None
        raise
    found = proc.stat(pid)  # the pidfd was opened first: what is read here is what it holds, or gone
    if found is None or found.start_time != start_time or not found.alive:
        os.close(descriptor)
        return None
    return descriptor


def send(pid: int, start_time: int, signum: int) -> bool:
    """Signal one process; whether it was there to get it.

    Raises:
        PermissionError: It changed its user (setuid) and may not be signalled.
    """
    descriptor = open_process(pid, start_time)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def send_group(pid: int, start_time: int, signum: int) -> bool:
    """Signal the whole process group that this process leads, at once, so that no fork gets away.

    Returns ``False`` when it is gone or the kernel (before 6.9) cannot do it safely.
    """
    descriptor = open_process(pid, start_time)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, signum, None, _PROCESS_GROUP)
    except (ProcessLookupError, PermissionError):
        return False
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    finally:
        os.close(descriptor)
    return True


class Watch:
    """Many processes, one descriptor that is readable when some of them have ended."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._open: dict[int, tuple[int, int]] = {}
        self._keys: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._epoll.fileno()

    def add(self, found: Iterable[proc.Stat]) -> None:
        """Watch these too; those that are gone already are skipped."""
        for process in found:
            if process.key in self._keys:
                continue
            descriptor = open_process(process.pid, process.start_time)
            if descriptor is None:
                continue
            self._keys[process.key] = descriptor
            self._open[descriptor] = process.key
            self._epoll.register(descriptor, select.EPOLLIN)

    def send(self, process: proc.Stat, signum: int) -> bool:
        """Signal one of the watched; whether it was there to get it.

        Raises:
            PermissionError: It changed its user (setuid) and may not be signalled.
        """
        descriptor = self._keys.get(process.key)
        if descriptor is None:
            return False
        try:
            signal.pidfd_send_signal(descriptor, signum)
        except ProcessLookupError:
            return False
        return True

    def ended(self, timeout: float = 0.0) -> int:
        """Let go of those that have ended, waiting up to ``timeout`` seconds; how many."""
        if not self._open:
            return 0
        events = self._epoll.poll(timeout, len(self._open))
        for descriptor, _ in events:
            del self._keys[self._open.pop(descriptor)]
            self._epoll.unregister(descriptor)
            os.close(descriptor)
        return len(events)

    def close(self) -> None:
        """Let go of all."""
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()
        self._epoll.close()
