"""Trees without a control group: stopped, let go and hunted process by process.

Everything is found by passes over /proc, and a pass costs the same for one tree as for all. So the
many who act at once go in step: each round of all of them is one pass.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread

from agenttop.core.backend import Frozen

from . import proc, signals, tree
from .runs import Run

#: How long stopping a tree may take. A process in uninterruptible sleep can hold it up.
DEADLINE = 5.0
#: Processes that are signalled on the event loop (some 20 µs each); more of them from a thread.
_FEW = 64
#: So long nobody of the tree may be born before it counts as ended.
_QUIET = 0.05
#: So long after somebody was born the newest pids are looked at again and again.
_ALERT = 0.005
#: How many of the newest pids are looked at in one round.
_NEWEST = 16


async def act(call: Callable[[], None], on: int) -> None:
    """Signal ``on`` processes: at once, or from a thread if they are many."""
    if on <= _FEW:
        call()
    else:
        await anyio.to_thread.run_sync(call)


class Ungrouped:
    """What all trees without a group share: the passes, and the watch on who is born."""

    def __init__(self, table: tree.Table) -> None:
        self.scan = tree.SharedScan(table)
        self.births = Births()

    async def members(self, run: Run) -> list[proc.Stat]:
        """The live tree now, parents first."""
        return tree.related(run, await self.scan())

    async def freeze(self, run: Run, deadline: float = DEADLINE) -> Frozen:
        """Stop the tree; the result says of how many processes it is proven.

        It is done when two passes in a row show the same processes, all stopped: a child that was
        forked while a pass ran is in the next one.
        """
        began = time.monotonic()
        signals.send_group(run.pid, run.start_time, signal.SIGSTOP)
        before: set[tuple[int, int]] | None = None
        while True:
            found = await self.members(run)
            moving = [process for process in found if not held(process)]
            known = {process.key for process in found}
            if (not moving and known == before) or time.monotonic() > began + deadline:
                frozen = len(found) - len(moving)
                return Frozen(frozen, len(found), run.mechanism, time.monotonic() - began)
            before = known if not moving else None
            await act(partial(_stop, moving), len(moving))

    async def thaw(self, run: Run, deadline: float = DEADLINE) -> None:
        """Let the tree run again; harmless if it does."""
        end = time.monotonic() + deadline
        while True:
            stopped = [process for process in await self.members(run) if held(process)]
            await act(partial(_go_on, stopped), len(stopped))
            if not stopped or time.monotonic() > end:
                return


def held(process: proc.Stat) -> bool:
    """Whether it runs no instruction until SIGCONT: stopped, or waiting in the kernel with SIGSTOP pending.

    The parent of a vfork(2) cannot stop before its child execs, and the child is stopped: it stays
    in uninterruptible sleep (``D``) and stops on its way out.
    """
    return process.stopped or (process.state == "D" and proc.is_pending(process.pid, signal.SIGSTOP))


def _stop(moving: Iterable[proc.Stat]) -> None:
    """Stop these, whole process groups first: a group stops at once, so that no fork gets away."""
    moving = list(moving)
    for process in moving:
        if process.group == process.pid:
            signals.send_group(process.pid, process.start_time, signal.SIGSTOP)
    for process in moving:
        signals.send(process.pid, process.start_time, signal.SIGSTOP)


def _go_on(stopped: Iterable[proc.Stat]) -> None:
    for process in stopped:
        signals.send(process.pid, process.start_time, signal.SIGCONT)


@dataclass(slots=True, eq=False)
class _Hunt:
    run: Run
    caught: list[proc.Stat] = field(default_factory=list)
    over: bool = False


class Births:
    """A watch on the newest pids of the machine, for all trees that are being ended.

    A chain of processes that each start their successor and end is never in a list of pids for long
    enough to be killed from it. So the newest pids are looked at again and again, and what has a
    hunted marker dies in the microseconds between its start and its own first fork.
    """

    def __init__(self) -> None:
        self._lock = anyio.Lock()
        self._next: list[_Hunt] = []

    async def hunt(self, run: Run) -> list[proc.Stat]:
        """Kill what is born with the run's marker during ``_QUIET`` seconds; returns who that was."""
        hunt = _Hunt(run)
        self._next.append(hunt)
        async with self._lock:
            if not hunt.over:
                await anyio.lowlevel.checkpoint()  # those that are about to ask share this watch
                hunts, self._next = self._next, []
                await anyio.to_thread.run_sync(_watch, hunts)
        return hunt.caught


def _watch(hunts: list[_Hunt]) -> None:
    by_marker: dict[str, list[_Hunt]] = {}
    for hunt in hunts:
        by_marker.setdefault(hunt.run.carried, []).append(hunt)
    alert = end = time.monotonic() + _QUIET
    last = -1
    while (now := time.monotonic()) < end:
        newest = proc.last_pid()
        if newest != last:
            last, alert = newest, now + _ALERT
        elif now > alert:
            continue
        for pid in range(newest, max(newest - _NEWEST, 1), -1):
            marker = proc.marker(pid)
            if marker is not None and marker in by_marker:
                _catch(pid, by_marker[marker])
    for hunt in hunts:
        hunt.over = True


def _catch(pid: int, hunts: list[_Hunt]) -> None:
    found = proc.stat(pid)
    if found is None or not found.alive or pid == hunts[0].run.pid:
        return
    try:
        signals.send(found.pid, found.start_time, signal.SIGKILL)
    except PermissionError:
        return  # it changed its user; a pass finds it, and it is counted among the survivors
    for hunt in hunts:
        hunt.caught.append(found)
