"""Ending a whole tree, with evidence for each step."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from agenttop.core.backend import Killed, Step
from agenttop.core.clock import Clock

from . import cgroups, freeze, proc, signals, tree
from .runs import Run
from .ungrouped import Ungrouped

#: How long KILL may take: a process in uninterruptible sleep dies when it wakes.
KILL_DEADLINE = 10.0
#: A tree that is still there so long after a plain KILL forks as fast as it is killed.
PLAIN = 0.1
#: A tree is looked through again at least so often while it has time to end by itself.
_LOOK = 0.25

Key = tuple[int, int]
T = TypeVar("T")


class Stop:
    """One stop of one run, by its group; ``UngroupedStop`` does without one.

    ``limiter`` bounds the worker threads that all stops use together.
    """

    def __init__(
        self,
        run: Run,
        table: tree.Table,
        clock: Clock,
        limiter: anyio.CapacityLimiter,
        trees: Ungrouped,
        on_step: Callable[[Step], None] | None,
    ) -> None:
        self._run = run
        self._table = table
        self._clock = clock
        self._limiter = limiter
        self._trees = trees
        self._on_step = on_step
        self._steps: list[Step] = []
        self._ever: dict[Key, str] = {}
        self._told: dict[Key, str] = {}

    async def __call__(self, grace: float) -> Killed:
        """TERM, grace, KILL, proof."""
        began = time.monotonic()
        left = await self._look()
        if grace > 0:
            left = await self._term(left, began + grace)
        if left:
            await self._kill(left)
            self._say(
                f"KILL sent to {len(left)}",
                f"{_pids(left)}, {_names(process.comm for process in left)}"
                + (", ignored TERM" if grace > 0 else ", no grace was given"),
            )
        scan = await self._last_scan(began + grace + KILL_DEADLINE)
        survivors = await self._prove(scan)
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

    # -- what is there, and what is done otherwise without a group

    def _note(self, found: list[proc.Stat]) -> list[proc.Stat]:
        """Everything ever seen in the tree counts as a process of this kill."""
        for process in found:
            if self._ever.get(process.key) != process.comm:
                self._ever[process.key] = process.comm
        return found

    def _look_now(self) -> list[proc.Stat]:
        """The live tree now, in the thread this is called in."""
        return self._note(tree.members(self._run, self._table))

    async def _look(self) -> list[proc.Stat]:
        """The live tree now."""
        return await self._thread(self._look_now)

    async def _send_term(self, found: list[proc.Stat]) -> tuple[int, bool]:
        return await self._thread(partial(self._send_term_now, found))

    async def _kill(self, found: list[proc.Stat]) -> None:
        await self._thread(partial(self._kill_now, found))

    async def _last_scan(self, end: float) -> tree.Scan:
        """A pass over /proc that began after all that was done."""
        return await self._trees.scan()

    async def _prove(self, scan: tree.Scan) -> list[proc.Stat]:
        return await self._thread(lambda: self._prove_now(scan, self._look_now()))

    # -- TERM

    async def _term(self, found: list[proc.Stat], end: float) -> list[proc.Stat]:
        sent, thawed = await self._send_term(found)
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

    def _send_term_now(self, found: list[proc.Stat]) -> tuple[int, bool]:
        """TERM to all, and to what was forked meanwhile; a frozen tree is thawed with it pending."""
        frozen = freeze.is_frozen(self._run)
        done: set[Key] = set()
        for _ in range(3):  # once more for those that were forked meanwhile; a grace period follows
            fresh = [process for process in found if process.key not in done]
            if not fresh:
                break
            self._tell(fresh)
            done.update(process.key for process in fresh)
            found = self._look_now()
        if frozen:
            freeze.thaw(self._run)
        return len(done), frozen

    def _tell(self, found: list[proc.Stat]) -> None:
        for process in found:
            send(process, signal.SIGTERM)
            self._told[process.key] = process.comm

    async def _wait(self, end: float) -> list[proc.Stat]:
        """Until the tree is empty or time is up; returns what is left."""
        watch = signals.Watch()
        try:
            while True:
                left = await self._look()
                self._tell_again(left)
                rest = end - time.monotonic()
                if not left or rest <= 0:
                    return left
                watch.add(left)
                await ended(watch, min(rest, _LOOK if self._run.tree else 4 * _LOOK))
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
                send(process, signal.SIGTERM)

    # -- KILL

    def _kill_now(self, found: list[proc.Stat]) -> None:
        """KILL everything but the wrapper, so that it can note the exit status; at last that too.

        A tree that forks faster than it is killed is frozen first: nothing is forked then, and a
        frozen process still dies of KILL (in the version 1 freezer when it is thawed).
        """
        run, patience, end = self._run, PLAIN, time.monotonic() + KILL_DEADLINE
        frozen = freeze.is_frozen(run)
        attempt = 0
        while found and time.monotonic() < end:
            if attempt and not frozen:
                freeze.freeze(run, deadline=1.0)
                found = self._look_now()
            watch = signals.Watch()
            try:
                watch.add(found)
                self._send_kill(found, watch, attempt)
                if attempt or frozen:
                    freeze.thaw(run)
                _wait_for(watch, patience)
            finally:
                watch.close()
            run.reap()
            found, frozen = self._look_now(), False
            attempt, patience = attempt + 1, min(patience * 2, 1.0)

    def _send_kill(self, found: list[proc.Stat], watch: signals.Watch, attempt: int) -> None:
        """To all but the wrapper; to that as well if it is alone a second time, or nothing else helped."""
        alone = all(process.pid == self._run.pid for process in found)
        last = attempt >= 3 or (alone and attempt)
        for process in found:
            if process.pid != self._run.pid or last:
                send(process, signal.SIGKILL, watch)
        if last and "tree" in self._run.groups:
            cgroups.write(f"{self._run.groups['tree']}/cgroup.kill", "1")

    # -- proof

    def _prove_now(self, scan: tree.Scan, found: list[proc.Stat]) -> list[proc.Stat]:
        left = {process.key: process for process in found}
        reparented = 0
        for process in scan.marked.get(self._run.carried, ()):
            if process.key in left or process.pid == self._run.pid or not _is_there(process):
                continue
            reparented += 1
            self._ever[process.key] = process.comm
            send(process, signal.SIGKILL)
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


async def ended(watch: signals.Watch, seconds: float) -> None:
    """Until all that are watched have ended, or time is up; the event loop goes on."""
    end = time.monotonic() + seconds
    while len(watch) and (rest := end - time.monotonic()) > 0:
        with anyio.move_on_after(rest):
            await anyio.wait_readable(watch.fileno())
        watch.ended()


def _wait_for(watch: signals.Watch, seconds: float) -> None:
    """Until all that are watched have ended, or time is up."""
    end = time.monotonic() + seconds
    while len(watch) and (rest := end - time.monotonic()) > 0:
        watch.ended(rest)


def _is_there(process: proc.Stat) -> bool:
    found = proc.stat(process.pid)
    return found is not None and found.key == process.key and found.alive


def send(process: proc.Stat, signum: int, watch: signals.Watch | None = None) -> None:
    """Signal exactly this process, through ``watch`` if that has it open."""
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
