"""Gauges of many runs at once, through descriptors that stay open.

A second's round reads one file per run: ``cpu.stat`` of its group, or /proc/PID/stat of its
processes. What costs more (memory, IO, the number of processes) is read in turns, and only for runs
whose CPU time moved since: a tree that did not run has not changed.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from agenttop.core.backend import Sample

from . import proc, tree
from .runs import Run

#: Seconds between two slow looks at one run that is at work.
SLOW = 4.0
#: Slow looks in one round, so that a thousand runs do not have theirs together.
SLOW_ROUND = 60
#: Bytes of ``cpu.stat`` that its first line, ``usage_usec`` and a number of 64 bits, fits in.
_USAGE = 32
#: Descriptors left to the rest of the kernel.
_SPARE = 512


@dataclass(slots=True)
class _Entry:
    run: Run
    cpu: int | None = None
    """Kept descriptor of ``cpu.stat``; ``None`` without a group, or when descriptors ran out."""
    raw: bytes = b""
    moved: bool = True
    looked: float = -1e9
    sample: Sample = field(default_factory=Sample)
    processes: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)
    """Pid and start time → ticks, bytes read, bytes written as last seen."""
    gone: tuple[int, int, int] = (0, 0, 0)
    """What processes that have ended had used."""
    used: int = 0

    def took(self, raw: bytes) -> None:
        """Note the group's CPU time: ``usage_usec N``, a newline, and what follows."""
        self.raw, self.moved = raw, True
        self.sample = self.sample._replace(cpu_seconds=int(raw[11 : raw.index(b"\n")]) / 1e6)


class Sampler:
    """Keeps what it needs per run between rounds; call from one thread at a time."""

    def __init__(self, table: tree.Table) -> None:
        self._table = table
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._open = 0
        self._room = _raise_limit()

    def sample(self, runs: Mapping[str, Run]) -> dict[str, Sample]:
        """One round. Runs that have ended are left out.

        The way of a run that did nothing since the last round is written out here, without a call:
        it is most runs' in most rounds, and the reading itself is then what a round costs.
        """
        with self._lock:
            now = time.monotonic()
            looks = SLOW_ROUND
            result: dict[str, Sample] = {}
            entries, pread = self._entries, os.pread
            for key, run in runs.items():
                entry = entries.get(run.marker)
                if entry is None or entry.run is not run:
                    entry = self._enter(run)
                if run.done.is_set():
                    continue
                if entry.cpu is None:
                    if not self._quick(entry):
                        continue
                else:
                    try:
                        raw = pread(entry.cpu, _USAGE, 0)
                    except OSError:  # ENODEV: the group was removed
                        continue
                    if raw != entry.raw:
                        entry.took(raw)
                if entry.moved and (entry.looked < 0 or (looks > 0 and now - entry.looked >= SLOW)):
                    looks -= 1
                    if not self._look(entry, now):
                        continue
                result[key] = entry.sample
            return result

    def drop(self, marker: str) -> None:
        """Let go of a run."""
        with self._lock:
            self._drop(marker)

    def close(self) -> None:
        """Let go of all."""
        with self._lock:
            for marker in list(self._entries):
                self._drop(marker)

    def _drop(self, marker: str) -> None:
        entry = self._entries.pop(marker, None)
        if entry is not None and entry.cpu is not None:
            os.close(entry.cpu)
            self._open -= 1

    def _enter(self, run: Run) -> _Entry:
        self._drop(run.marker)
        entry = self._entries[run.marker] = _Entry(run)
        if "tree" in run.groups and self._open < self._room:
            try:
                entry.cpu = os.open(f"{run.groups['tree']}/cpu.stat", os.O_RDONLY | os.O_CLOEXEC)
                self._open += 1
            except OSError:  # the group is gone, or descriptors are: the slow look finds out which
                entry.cpu = None
        return entry

    def _quick(self, entry: _Entry) -> bool:
        """CPU time of a run without a kept descriptor; ``False`` when the run has ended."""
        found = self._live(entry)
        if not found and not entry.run.wrapper():
            return False
        ticks = self._account(entry, found)
        if ticks != entry.used:
            entry.used, entry.moved = ticks, True
        entry.sample = entry.sample._replace(cpu_seconds=ticks / proc.TICKS)
        return True

    def _live(self, entry: _Entry) -> list[proc.Stat]:
        """The tree without its wrapper, looked through anew when its turn comes, else as it was."""
        if entry.run.tree is not None:
            found = tree.members(entry.run, self._table)
        elif time.monotonic() - entry.looked >= SLOW or not entry.processes:
            found = tree.related(entry.run, self._table.fresh(age=SLOW / 2))
        else:
            again = (proc.stat(pid) for pid, _ in entry.processes)
            found = [
                process for process in again if process and process.alive and process.key in entry.processes
            ]
        return [process for process in found if process.pid != entry.run.pid]

    def _account(self, entry: _Entry, found: list[proc.Stat]) -> int:
        """Ticks of the live and of those that were seen alive before; never less than last time."""
        old, entry.processes = entry.processes, {}
        for process in found:
            _, read, written = old.pop(process.key, (0, 0, 0))
            entry.processes[process.key] = (process.ticks, read, written)
        for used in old.values():
            entry.gone = (entry.gone[0] + used[0], entry.gone[1] + used[1], entry.gone[2] + used[2])
        return entry.gone[0] + sum(used[0] for used in entry.processes.values())

    def _look(self, entry: _Entry, now: float) -> bool:
        """Memory, IO and processes; ``False`` when nothing of the run is alive."""
        run = entry.run
        found = tree.members(run, self._table) if run.tree is not None else self._with_wrapper(entry)
        if not found:
            return False
        if entry.cpu is not None or run.tree is None:
            self._account(entry, [process for process in found if process.pid != run.pid])
        for key, (ticks, *_) in entry.processes.items():
            if (io := _io(key[0])) is not None:
                entry.processes[key] = (ticks, *io)
        counted = list(entry.processes.values())
        entry.sample = entry.sample._replace(
            memory=_group_memory(run) or sum(process.pages for process in found) * proc.PAGE,
            read_bytes=entry.gone[1] + sum(used[1] for used in counted),
            write_bytes=entry.gone[2] + sum(used[2] for used in counted),
            pids=len(found),
        )
        entry.looked, entry.moved = now, False
        return True

    def _with_wrapper(self, entry: _Entry) -> list[proc.Stat]:
        wrapper = entry.run.wrapper()
        return ([wrapper] if wrapper else []) + self._live(entry)


def _group_memory(run: Run) -> int | None:
    """What the group's own books say, where there is a memory group; shared pages count once."""
    for purpose, name in (("memory", "memory.usage_in_bytes"), ("tree", "memory.current")):
        if purpose in run.groups and (data := proc.read(f"{run.groups[purpose]}/{name}")):
            return int(data)
    return None


def _io(pid: int) -> tuple[int, int] | None:
    """Bytes a process has had read from and written to storage; ``None`` if that is not told to us."""
    try:
        data = proc.read(f"/proc/{pid}/io")
    except PermissionError:
        return None
    if not data:
        return None
    fields = dict(line.split(b": ") for line in data.splitlines())
    return int(fields[b"read_bytes"]), int(fields[b"write_bytes"])


def _raise_limit() -> int:
    """Allow this process as many descriptors as it may have; returns how many can be kept here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(0, (1 << 20 if soft == resource.RLIM_INFINITY else soft) - _SPARE) // 2
