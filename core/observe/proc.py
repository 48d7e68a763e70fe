"""What /proc says of processes that are not ours: one reading, all of them, and who descends from whom."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

#: Clock ticks per second in /proc/PID/stat.
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

#: Pid and start time: what names one process for ever.
Key = tuple[int, int]

#: Bit of SIGSTOP in the masks of /proc/PID/status.
_STOP = 1 << 18


class Stat(NamedTuple):
    """The fields of /proc/PID/stat (proc(5)) that are used here."""

    pid: int
    comm: str
    state: str
    ppid: int
    group: int
    session: int
    foreground: int
    """The process group that has its terminal; -1 without one."""
    ticks: int
    """User plus system time, clock ticks."""
    nice: int
    start_time: int
    """Clock ticks since boot."""
    pages: int

    @property
    def key(self) -> Key:
        """Pid and start time."""
        return self.pid, self.start_time

    @property
    def alive(self) -> bool:
        """Whether it can still run: neither a zombie nor dead."""
        return self.state not in "ZX"

    @property
    def stopped(self) -> bool:
        """Whether a signal (or a tracer) has stopped it."""
        return self.state in "Tt"

    @property
    def background(self) -> bool:
        """Whether a shell has put it behind its terminal: it would be stopped as soon as it reads there."""
        return self.foreground not in (-1, self.group)


def stat(pid: int, proc: str = "/proc") -> Stat | None:
    """The process now; ``None``: it is gone."""
    data = read(f"{proc}/{pid}/stat")
    if not data:
        return None
    head, _, tail = data.rpartition(b")")
    field = tail.split()
    return Stat(
        pid=pid,
        comm=head.partition(b" (")[2].decode("utf-8", "replace"),
        state=field[0].decode("ascii"),
        ppid=int(field[1]),
        group=int(field[2]),
        session=int(field[3]),
        foreground=int(field[5]),
        ticks=int(field[11]) + int(field[12]),
        nice=int(field[16]),
        start_time=int(field[19]),
        pages=int(field[21]),
    )


def read(path: str, size: int = 4096) -> bytes:
    """The beginning of a file below /proc; empty when its process is gone or it may not be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, size)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def held(process: Stat, proc: str = "/proc") -> bool:
    """Whether it runs no instruction until SIGCONT: stopped, or in the kernel with SIGSTOP pending.

    The parent of a vfork(2) cannot stop before its child execs, and the child is stopped: it stays in
    uninterruptible sleep (``D``) and stops on its way out.
    """
    if process.stopped or process.state != "D":
        return process.stopped
    masks = [
        int(line[7:], 16)
        for line in read(f"{proc}/{process.pid}/status").splitlines()
        if line.startswith((b"SigPnd:", b"ShdPnd:"))
    ]
    return any(mask & _STOP for mask in masks)


def everything(proc: str = "/proc") -> dict[int, Stat]:
    """All live processes of the machine, by pid. One file is read for each."""
    found = (stat(int(name), proc) for name in os.listdir(proc) if name.isdigit())
    return {process.pid: process for process in found if process is not None and process.alive}


def below(
    roots: Iterable[int], children: Mapping[int, Iterable[int]], without: Iterable[int] = ()
) -> list[int]:
    """The roots and all that descends from them, parents first; not ``without`` nor what is below that."""
    seen = set(without)
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop(0)
        if pid not in seen:
            seen.add(pid)
            found.append(pid)
            waiting.extend(children.get(pid, ()))
    return found


class Census:
    """Who is alive and who is whose child, kept up to date by reading only those that are new.

    ``refresh`` lists /proc; a process is read when it is first seen, and again when its parent has died.
    """

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._inodes: dict[int, int] = {}
        self.parents: dict[int, int] = {}
        self.children: dict[int, set[int]] = {}

    def refresh(self) -> dict[int, int]:
        """All pids, with the inode of their folders (another one for another process)."""
        with os.scandir(self._proc) as entries:
            alive = {int(entry.name): entry.inode() for entry in entries if entry.name.isdigit()}
        known = self._inodes
        fresh = [pid for pid, inode in alive.items() if known.get(pid) != inode]
        gone = (known.keys() - alive.keys()) | (known.keys() & set(fresh))
        for pid in gone:
            self._drop(pid)
        orphans = [child for pid in gone for child in self.children.pop(pid, ())]
        for pid in {*fresh, *orphans} & alive.keys():
            self._place(pid)
        self._inodes = alive
        return alive

    def ancestors(self, pid: int) -> Iterable[int]:
        """Its parent, that one's parent, and so on."""
        seen = {pid, 0}
        while (pid := self.parents.get(pid, 0)) not in seen:
            seen.add(pid)
            yield pid

    def _place(self, pid: int) -> None:
        self._drop(pid)
        data = read(f"{self._proc}/{pid}/stat", 512)
        if data:
            parent = int(data.rpartition(b")")[2].split(None, 2)[1])
            self.parents[pid] = parent
            self.children.setdefault(parent, set()).add(pid)

    def _drop(self, pid: int) -> None:
        siblings = self.children.get(self.parents.pop(pid, 0))
        if siblings is not None:
            siblings.discard(pid)
