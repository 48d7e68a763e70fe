"""What /proc says about processes: one reader for everything here that needs it."""

from __future__ import annotations

import errno
import functools
import os
from typing import NamedTuple

from agenttop.core.backend import MARKER, Process

#: Clock ticks per second in /proc/PID/stat.
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

_MARKER = MARKER.encode() + b"="
_GONE = (errno.ENOENT, errno.ESRCH)


class Stat(NamedTuple):
    """The fields of /proc/PID/stat (proc(5)) that are used here."""

    pid: int
    comm: str
    state: str
    ppid: int
    group: int
    session: int
    ticks: int
    """User plus system time, clock ticks."""
    start_time: int
    """Clock ticks since boot; with the pid it names one process for ever."""
    pages: int

    @property
    def alive(self) -> bool:
        """Whether it can still run: neither a zombie nor dead."""
        return self.state not in "ZX"

    @property
    def stopped(self) -> bool:
        """Whether a signal (or a tracer) has stopped it."""
        return self.state in "Tt"

    @property
    def key(self) -> tuple[int, int]:
        """Pid and start time."""
        return self.pid, self.start_time


def parse(data: bytes) -> Stat:
    """One line of /proc/PID/stat; the name in it may hold spaces and parentheses."""
    head, _, tail = data.rpartition(b")")
    pid, _, comm = head.partition(b" (")
    field = tail.split()
    return Stat(
        pid=int(pid),
        comm=comm.decode("utf-8", "replace"),
        state=field[0].decode("ascii"),
        ppid=int(field[1]),
        group=int(field[2]),
        session=int(field[3]),
        ticks=int(field[11]) + int(field[12]),
        start_time=int(field[19]),
        pages=int(field[21]),
    )


def read(path: str, size: int = 4096) -> bytes | None:
    """The beginning of a file below /proc; ``None`` when its process is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    try:
        return os.read(descriptor, size)
    except ProcessLookupError:
        return None
    finally:
        os.close(descriptor)


def stat(pid: int) -> Stat | None:
    """The process now, or ``None``."""
    data = read(f"/proc/{pid}/stat")
    return parse(data) if data else None


def pids() -> list[int]:
    """Every process id on the machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def listing() -> dict[int, int]:
    """Every process id on the machine → the inode of its folder, another one for another process."""
    with os.scandir("/proc") as entries:
        return {int(entry.name): entry.inode() for entry in entries if entry.name.isdigit()}


def last_pid() -> int:
    """The pid that was given out last, machine-wide (proc(5), /proc/loadavg)."""
    data = read("/proc/loadavg")
    return int(data.split()[-1]) if data else 0


def marker(pid: int) -> str | None:
    """The run that a process's environment names; ``None`` without one or if it may not be read."""
    path = f"/proc/{pid}/environ"
    try:
        with open(path, "rb") as file:
            environ = file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    for entry in environ.split(b"\0"):
        if entry.startswith(_MARKER):
            return entry[len(_MARKER) :].decode("utf-8", "replace")
    return None


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    data = read(f"/proc/{pid}/task/{pid}/children", 1 << 16)
    if data is None:  # gone, or a kernel without CONFIG_PROC_CHILDREN
        return [child.pid for child in map(stat, pids()) if child is not None and child.ppid == pid]
    return [int(child) for child in data.split()]


def is_pending(pid: int, signum: int) -> bool:
    """Whether a signal waits to be taken by the process (proc(5), SigPnd and ShdPnd)."""
    data = read(f"/proc/{pid}/status") or b""
    masks = [int(line[7:], 16) for line in data.splitlines() if line.startswith((b"SigPnd:", b"ShdPnd:"))]
    return any(mask >> (signum - 1) & 1 for mask in masks)


def command(pid: int, comm: str) -> str:
    """The command line, arguments joined by spaces; of a process without one its name in brackets."""
    try:
        data = read(f"/proc/{pid}/cmdline")
    except PermissionError:
        data = None
    return data.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace") if data else f"[{comm}]"


def describe(found: Stat) -> Process:
    """A process as the contract shows it."""
    return Process(
        pid=found.pid,
        ppid=found.ppid,
        start_time=found.start_time,
        state=found.state,
        cpu_seconds=found.ticks / TICKS,
        memory=found.pages * PAGE,
        command=command(found.pid, found.comm),
    )


@functools.cache
def boot_id() -> str:
    """The id of this boot of the machine (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def uptime_ticks() -> int:
    """Clock ticks since boot, as start times count them."""
    with open("/proc/uptime", encoding="ascii") as file:
        return int(float(file.read().split()[0]) * TICKS)


def parents_first(found: list[Stat]) -> list[Stat]:
    """The same processes, each after its parent."""
    children: dict[int, list[Stat]] = {}
    known = {process.pid for process in found}
    for process in sorted(found, key=lambda process: (process.start_time, process.pid)):
        children.setdefault(process.ppid if process.ppid in known else 0, []).append(process)
    ordered: list[Stat] = []
    waiting = children.pop(0, [])[::-1]
    while waiting:
        process = waiting.pop()
        ordered.append(process)
        waiting.extend(reversed(children.pop(process.pid, [])))
    return ordered + [process for rest in children.values() for process in rest]
