"""Ending a whole tree, with evidence for each step."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from agenttop.core.backend import Killed, Step
from agenttop.core.clock import Clock

from . import cgroups, freeze, proc, signals, tree
from .runs import Run

#: How long KILL may take: a process in uninterruptible sleep dies when it wakes.
KILL_DEADLINE = 10.0
#: A tree that is still there so long after a plain KILL forks as fast as it is killed.
_PLAIN = 0.1
#: A tree is looked through again at least so often while it has time to end by itself.
_LOOK = 0.25

#: So long nobody of the tree may be born before it counts as ended (without a group only).
_QUIET = 0.05
#: How many of the newest pids are looked at in one round.
_NEWEST = 16

Key = tuple[int, int]
T = TypeVar("T")


class Stop:
    """One stop of one run; ``limiter`` bounds the worker threads that all stops use together."""

    def __init__(
        self,
        run: Run,
        table: tree.Table,
        clock: Clock,
        limiter: anyio.CapacityLimiter,
        scan: Callable[[], Awaitable[tree.Scan]],
        on_step: Callable[[Step], None] | None,
    ) -> None:
        self._run = run
        self._table = table
        self._clock = clock
        self._limiter = limiter
        self._scan = scan
        self._on_step = on_step
        self._steps: list[Step] = []
        self._ever: dict[Key, str] = {}
        self._told: dict[Key, str] = {}

    async def __call__(self, grace: float) -> Killed:
        """TERM, grace, KILL, proof."""
        began = time.monotonic()
        left = await self._thread(self._look)
        if grace > 0:
            left = await self._term(left, began + grace)
        if left:
            await self._thread(partial(self._kill, left))
            self._say(
                f"KILL sent to {len(left)}",
                f"{_pids(left)}, {_names(process.comm for process in left)}"
                + (", ignored TERM" if grace > 0 else ", no grace was given"),
            )
        scan = await self._scan()
        if self._run.mechanism == "signal":
            scan = await self._hunt(scan, began + grace + KILL_DEADLINE)
        survivors = await self._thread(partial(self._prove, scan))
        total = len(self._ever)
        return Killed(
            processes=total,
            ended=total - len(survivors),
            survivors=tuple(process.pid for process in survivors),
            mechanism=self._run.mechanism,
            seconds=time.monotonic() - began,
            steps=tuple(self._steps),
        )

    async def _thread(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)

    def _say(self, what: str, evidence: str, ok: bool = True) -> None:
        step = Step(self._clock.time(), what, evidence, ok)
        self._steps.append(step)
        if self._on_step is not None:
            self._on_step(step)

    def _look(self) -> list[proc.Stat]:
        """The live tree now; everything ever seen in it counts as a process of this kill."""
        found = tree.members(self._run, self._table)
        for process in found:
            if self._ever.get(process.key) != process.comm:
                self._ever[process.key] = process.comm
        return found

    # -- TERM

    async def _term(self, found: list[proc.Stat], end: float) -> list[proc.Stat]:
        sent, thawed = await self._thread(partial(self._send_term, found))
        where = "in 1 cgroup" if self._run.tree else "found by descent and marker"
        self._say(f"TERM sent to {_count(sent)} {where}", "pid and start time checked for each")
        if thawed:
            self._say(f"thawed {_count(sent)}", "so that TERM could act")
        left = await self._wait(end)
        alive = {process.key for process in left}
        ended = [comm for key, comm in self._ever.items() if key not in alive]
        if ended:
            self._say(f"{len(ended)} ended by themselves", _names(ended))
        return left

    def _send_term(self, found: list[proc.Stat]) -> tuple[int, bool]:
        """TERM to all, and to what was forked meanwhile; a frozen tree is thawed with it pending."""
        frozen = freeze.is_frozen(self._run, self._table)
        done: set[Key] = set()
        for _ in range(3):  # once more for those that were forked meanwhile; a grace period follows
            fresh = [process for process in found if process.key not in done]
            if not fresh:
                break
            for process in fresh:
                _signal(process, signal.SIGTERM)
                self._told[process.key] = process.comm
                done.add(process.key)
            if self._run.tree is None:
                break  # every look is a pass over /proc
            found = self._look()
        if frozen:
            freeze.thaw(self._run, self._table)
        return len(done), frozen

    async def _wait(self, end: float) -> list[proc.Stat]:
        """Until the tree is empty or time is up; returns what is left."""
        watch = signals.Watch()
        try:
            while True:
                left = await self._thread(self._look)
                self._tell_again(left)
                rest = end - time.monotonic()
                if not left or rest <= 0:
                    return left
                watch.add(left)
                look_again = time.monotonic() + min(rest, _LOOK if self._run.tree else 4 * _LOOK)
                while len(watch) and (pause := look_again - time.monotonic()) > 0:
                    with anyio.move_on_after(pause):
                        await anyio.wait_readable(watch.fileno())
                    watch.ended()
        finally:
            watch.close()

    def _tell_again(self, left: list[proc.Stat]) -> None:
        """TERM once more to what has become another program since it was told.

        A shell that had just forked takes the signal with its own handler, and the program it then
        turns into never hears of it. What was forked later is let be: it may be tidying up.
        """
        for process in left:
            if self._told.get(process.key, process.comm) != process.comm:
                self._told[process.key] = process.comm
                _signal(process, signal.SIGTERM)

    # -- KILL

    def _kill(self, found: list[proc.Stat]) -> None:
        """KILL everything but the wrapper, so that it can note the exit status; at last that too.

        A tree that forks faster than it is killed is frozen first: nothing is forked then, and a
        frozen process still dies of KILL (in the version 1 freezer when it is thawed).
        """
        run, patience, end = self._run, _PLAIN, time.monotonic() + KILL_DEADLINE
        frozen = run.mechanism != "signal" and freeze.is_frozen(run, self._table)
        attempt = 0
        while found and time.monotonic() < end:
            if attempt and not frozen:
                freeze.freeze(run, self._table, deadline=1.0)
                found = self._look()
            watch = signals.Watch()
            try:
                watch.add(found)
                self._send_kill(found, watch, attempt)
                if attempt or frozen or run.mechanism == "signal":
                    freeze.thaw(run, self._table)
                _wait_for(watch, patience)
            finally:
                watch.close()
            run.reap()
            found, frozen = self._look(), False
            attempt, patience = attempt + 1, min(patience * 2, 1.0)

    def _send_kill(self, found: list[proc.Stat], watch: signals.Watch, attempt: int) -> None:
        """To all but the wrapper; to that as well if it is alone a second time, or nothing else helped."""
        alone = all(process.pid == self._run.pid for process in found)
        last = attempt >= 3 or (alone and attempt)
        for process in found:
            if process.pid != self._run.pid or last:
                _signal(process, signal.SIGKILL, watch)
        if last and "tree" in self._run.groups:
            cgroups.write(f"{self._run.groups['tree']}/cgroup.kill", "1")

    async def _hunt(self, scan: tree.Scan, end: float) -> tree.Scan:
        """Without a group: until a pass over /proc and a watch on new pids both find nobody.

        A chain of processes that each start their successor and end is never in a list of pids for
        long enough to be killed from it. So the newest pids are looked at again and again, and what
        has our marker dies in the microseconds between its start and its own first fork.
        """
        while True:
            caught = await self._thread(self._catch_new)
            scan = await self._scan()
            found = [p for p in scan.marked.get(self._run.marker, ()) if p.pid != self._run.pid]
            for process in found:
                self._ever[process.key] = process.comm
                _signal(process, signal.SIGKILL)
            if not (caught or found) or time.monotonic() > end:
                return scan

    def _catch_new(self) -> int:
        """Kill what is born with our marker, until none was for a while; returns how many."""
        caught = 0
        quiet = time.monotonic()
        while time.monotonic() - quiet < _QUIET:
            newest = proc.last_pid()
            for pid in range(newest, max(newest - _NEWEST, 1), -1):
                if pid == self._run.pid or proc.marker(pid) != self._run.marker:
                    continue
                found = proc.stat(pid)
                if found is None or not found.alive:
                    continue
                _signal(found, signal.SIGKILL)
                self._ever[found.key] = found.comm
                caught += 1
                quiet = time.monotonic()
        return caught

    # -- proof

    def _prove(self, scan: tree.Scan) -> list[proc.Stat]:
        left = {process.key: process for process in self._look()}
        reparented = 0
        for process in scan.marked.get(self._run.marker, ()):
            if process.key in left or process.pid == self._run.pid or not _is_there(process):
                continue
            reparented += 1
            self._ever[process.key] = process.comm
            _signal(process, signal.SIGKILL)
            if not self._died(process):
                left[process.key] = process
        self._run.reap()
        zombies = sum(self._is_zombie(key) for key in self._ever if key not in left)
        where = "cgroup.procs is empty" if self._run.tree else "no process of the tree is left"
        self._say(
            where if not left else f"{_count(len(left))} left: {_pids(list(left.values()))}",
            f"{len(left)} survivors, {reparented} reparented, {zombies} zombies",
            ok=not left,
        )
        return list(left.values())

    def _died(self, process: proc.Stat) -> bool:
        watch = signals.Watch()
        try:
            watch.add([process])
            _wait_for(watch, 1.0)
            return not len(watch)
        finally:
            watch.close()

    def _is_zombie(self, key: Key) -> bool:
        found = proc.stat(key[0])
        return (
            found is not None
            and found.start_time == key[1]
            and found.state == "Z"
            and key[0] != self._run.pid
        )


def _wait_for(watch: signals.Watch, seconds: float) -> None:
    """Until all that are watched have ended, or time is up."""
    end = time.monotonic() + seconds
    while len(watch) and (rest := end - time.monotonic()) > 0:
        watch.ended(rest)


def _is_there(process: proc.Stat) -> bool:
    found = proc.stat(process.pid)
    return found is not None and found.key == process.key and found.alive


def _signal(process: proc.Stat, signum: int, watch: signals.Watch | None = None) -> None:
    try:
        if watch is not None:
            watch.send(process, signum)
        else:
            signals.send(process.pid, process.start_time, signum)
    except PermissionError:
        return  # it changed its user; it is then counted among the survivors


def _count(number: int) -> str:
    return f"{number} process{'es' if number != 1 else ''}"


def _pids(found: list[proc.Stat], most: int = 8) -> str:
    shown = " ".join(str(process.pid) for process in found[:most])
    return shown if len(found) <= most else f"{shown} and {len(found) - most} more"


def _names(comms: Iterable[str], most: int = 8) -> str:
    counted = Counter(comms).most_common()
    shown = ", ".join(f"{name} {number}" for name, number in counted[:most])
    return shown if len(counted) <= most else f"{shown}, …"
