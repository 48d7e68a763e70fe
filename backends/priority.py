"""Nice without control groups: thread by thread, and where the kernel groups sessions, by session too."""

from __future__ import annotations

import logging
import os
import time

from . import proc

log = logging.getLogger(__name__)

#: The system lets ordinary users, all together, give one session its nice value in so many seconds, and
#: refuses the rest for that long (kernel/sched/autogroup.c).
_PAUSE = 0.1
#: How long a session's value is tried for while others are before us.
_PATIENCE = 2.0


def renice(members: list[proc.Stat], nice: int) -> None:
    """Give processes another nice value, as far as this user may.

    A nice value belongs to a thread in Linux, not to a process. And with autogroups (the default of
    most distributions) it only counts within a session: between sessions, which runs are, the nice value
    of the session's autogroup does (sched(7)). Blocks: for an ordinary user up to some tenths of a second.
    """
    sessions: set[int] = set()
    for member in members:
        found = proc.stat(member.pid)
        if found is None or found.start_time != member.start_time:
            continue
        for thread in _threads(member.pid):
            _thread(thread, nice)
        _session(member.pid, nice, sessions)


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _thread(thread: int, nice: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, thread, nice)
    except (PermissionError, ProcessLookupError):
        return  # only root gives more than the usual share


def _session(pid: int, nice: int, done: set[int]) -> None:
    try:
        session = os.getsid(pid)
        if session in done:
            return
        done.add(session)
        descriptor = os.open(f"/proc/{pid}/autogroup", os.O_WRONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return  # no autogroups here, or it has ended
    try:
        _write(descriptor, str(nice).encode())
    except (ProcessLookupError, PermissionError):
        return  # it has ended, or only root gives more than the usual share
    except BlockingIOError:
        log.warning("session %d has no nice value yet: others give theirs all the time", session)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            os.write(descriptor, data)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(_PAUSE / 4)
        else:
            return
