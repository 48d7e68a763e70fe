"""Nice without control groups: thread by thread, and where the kernel groups sessions, by session too."""

from __future__ import annotations

import os

from . import proc


def renice(members: list[proc.Stat], nice: int) -> None:
    """Give processes another nice value, as far as this user may.

    A nice value belongs to a thread in Linux, not to a process. And with autogroups (the default of
    most distributions) it only counts within a session: between sessions, which runs are, the nice value
    of the session's autogroup does (sched(7)).
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
        if session not in done:
            done.add(session)
            descriptor = os.open(f"/proc/{pid}/autogroup", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, str(nice).encode())
            finally:
                os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return  # no autogroups here, it has ended, or only root may
    except BlockingIOError:
        return  # ordinary users may do this ten times a second at most; the threads have it anyway
