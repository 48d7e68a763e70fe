"""Who belongs to a run: the members of its group, else its descendants and everything with its marker."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import anyio.to_thread

from . import proc
from .runs import Run

#: A process this young may not have exec'd yet and still show its parent's environment. Clock ticks.
_YOUNG = 2 * proc.TICKS


@dataclass(frozen=True, slots=True)
class Scan:
    """One pass over /proc."""

    began: float
    processes: dict[int, proc.Stat]
    marked: dict[str, list[proc.Stat]]
    """Marker → the processes whose environment has it."""
    children: dict[int, list[proc.Stat]]
    sessions: dict[int, list[proc.Stat]]


def _between(last: int, now: int) -> Callable[[int], bool]:
    """Tells pids that were given out meanwhile: upwards, and from the beginning again after the greatest."""
    if last <= now:
        return lambda pid: last < pid <= now
    return lambda pid: pid > last or pid <= now


class Table:
    """Passes over /proc, shared by all who ask while one runs.

    A pass reads what is new, and what belongs to a run or ever did. A stranger stays one: nobody
    joins a tree but by being born into it (its marker is read when it is young, and once). That a
    pid is somebody else's by now is told twice: by the order in which pids are given out, and by the
    inode of its folder, which procfs makes anew for a new process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scan = Scan(-1.0, {}, {}, {}, {})
        self._markers: dict[tuple[int, int], str | None] = {}
        self._inodes: dict[int, int] = {}
        self._last_pid = 0
        self._ours: set[int] = set()

    def fresh(self, age: float = 0.0) -> Scan:
        """A pass that began after this call, or at most ``age`` seconds before; blocks for milliseconds."""
        wanted = time.monotonic() - age
        with self._lock:
            if self._scan.began < wanted:
                self._scan = self._pass()
            return self._scan

    def _pass(self) -> Scan:
        began, last_pid = time.monotonic(), proc.last_pid()
        young = proc.uptime_ticks() - _YOUNG
        inodes = proc.listing()
        processes = self._read(inodes, _between(self._last_pid, proc.last_pid()))
        marked: dict[str, list[proc.Stat]] = {}
        children: dict[int, list[proc.Stat]] = {}
        sessions: dict[int, list[proc.Stat]] = {}
        markers: dict[tuple[int, int], str | None] = {}
        for pid, found in processes.items():
            children.setdefault(found.ppid, []).append(found)
            sessions.setdefault(found.session, []).append(found)
            if not found.alive:
                continue
            key = found.key
            known = self._markers.get(key)
            if known is None and key not in self._markers:
                known = proc.marker(pid)
            if known is not None:
                marked.setdefault(known, []).append(found)
            if known is not None or found.start_time < young:
                markers[key] = known
        self._markers, self._inodes, self._last_pid = markers, inodes, last_pid
        scan = Scan(began, processes, marked, children, sessions)
        self._ours = self._belonging(scan)
        return scan

    def _read(self, inodes: dict[int, int], born: Callable[[int], bool]) -> dict[int, proc.Stat]:
        before, ours, markers = self._scan.processes, self._ours, self._markers
        processes: dict[int, proc.Stat] = {}
        fresh: set[int] = set()
        for pid, inode in inodes.items():
            known = before.get(pid)
            if (
                known is None
                or pid in ours
                or self._inodes.get(pid) != inode
                or born(pid)
                or known.key not in markers
            ):
                known = proc.stat(pid)
                fresh.add(pid)
            if known is not None:
                processes[pid] = known
        # A stranger whose parent ended may have another one by now: the number of the old one can be
        # that of somebody new.
        for pid in [pid for pid, known in processes.items() if pid not in fresh and known.ppid in fresh]:
            if (found := proc.stat(pid)) is None:
                del processes[pid]
            else:
                processes[pid] = found
        return processes

    def _belonging(self, scan: Scan) -> set[int]:
        """Whoever belongs to some run, or did when it was last seen: these are read in every pass."""
        before = self._scan.processes
        found = {process.pid for processes in scan.marked.values() for process in processes}
        for pid in self._ours:
            now, then = scan.processes.get(pid), before.get(pid)
            if now is not None and then is not None and now.start_time == then.start_time:
                found.add(pid)
        waiting = list(found)
        while waiting:
            pid = waiting.pop()
            for other in (*scan.children.get(pid, ()), *scan.sessions.get(pid, ())):
                if other.pid not in found:
                    found.add(other.pid)
                    waiting.append(other.pid)
        return found


class SharedScan:
    """One pass over /proc for all coroutines that ask for one while the one before still runs."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._lock = anyio.Lock()
        self._scan: Scan | None = None

    async def __call__(self) -> Scan:
        """A pass that began after this call."""
        asked = time.monotonic()
        async with self._lock:
            if self._scan is None or self._scan.began < asked:
                await anyio.lowlevel.checkpoint()  # those that are about to ask get the same pass
                self._scan = await anyio.to_thread.run_sync(self._table.fresh)
            return self._scan


def group_pids(path: str) -> list[int] | None:
    """The processes in a group and in those below it; ``None`` when the group is gone."""
    try:
        with open(f"{path}/cgroup.procs", "rb") as file:
            found = [int(line) for line in file]
        if os.stat(path).st_nlink > 2:
            with os.scandir(path) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            for folder in below:
                found += group_pids(folder) or []
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # ENODEV: removed while it was open
            return None
        raise
    return [pid for pid in found if pid]


def members(run: Run, table: Table) -> list[proc.Stat]:
    """Every live process of the run's tree, parents first; the wrapper is one of them."""
    if run.tree is not None:
        stats = (proc.stat(pid) for pid in group_pids(run.tree) or [])
        found = {process.pid: process for process in stats if process and process.alive}
        if run.pid not in found and (wrapper := run.wrapper()):
            found[run.pid] = wrapper  # started a moment ago, not in its group yet
        return proc.parents_first(list(found.values()))
    return related(run, table.fresh())


def related(run: Run, scan: Scan) -> list[proc.Stat]:
    """The tree without a group: by descent, session, marker, and by having been seen in it before."""
    wrapper = scan.processes.get(run.pid)
    lives = wrapper is not None and wrapper.start_time == run.start_time
    found = {process.pid for process in scan.marked.get(run.carried, ())}
    for pid, start_time in run.seen:
        if (process := scan.processes.get(pid)) is not None and process.start_time == start_time:
            found.add(pid)
    if lives:
        found.add(run.pid)
        found.update(process.pid for process in scan.sessions.get(run.pid, ()))
    waiting = list(found)
    while waiting:
        for child in scan.children.get(waiting.pop(), ()):
            if child.pid not in found:
                found.add(child.pid)
                waiting.append(child.pid)
    tree = [scan.processes[pid] for pid in found if scan.processes[pid].alive]
    run.seen = {process.key for process in tree}
    return proc.parents_first(tree)


def main_program(run: Run, found: list[proc.Stat]) -> proc.Stat | None:
    """The program itself: the wrapper's child, or, without a wrapper, the oldest of the tree."""
    rest = [process for process in found if process.pid != run.pid]
    children = [process for process in rest if process.ppid == run.pid]
    return min(children or rest, key=lambda process: process.start_time, default=None)
