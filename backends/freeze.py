"""Stopping a whole tree and proving it; blocking, to be called in a worker thread.

Version 2 and the version 1 freezer stop groups atomically and say when they are done. Without a
group every process is stopped by a signal, again and again, until two passes over /proc in a row
show the same processes, all stopped: a child that was forked while a pass ran is in the next one.
"""

from __future__ import annotations

import signal
import time

from agenttop.core.backend import Frozen

from . import cgroups, proc, signals, tree
from .runs import Run

#: How long a freeze may take. A process in uninterruptible sleep can hold it up.
DEADLINE = 5.0


def freeze(run: Run, table: tree.Table, deadline: float = DEADLINE) -> Frozen:
    """Stop the tree; the result says of how many processes it is proven."""
    began = time.monotonic()
    if run.mechanism == "signal":
        frozen, total = _stop_all(run, table, began + deadline)
    else:
        _order(run, freeze=True)
        done = _wait(run, began + deadline)
        total = len(tree.group_pids(run.tree or "") or [])
        frozen = total if done else 0
    return Frozen(frozen, total, run.mechanism, time.monotonic() - began)


def thaw(run: Run, table: tree.Table, deadline: float = DEADLINE) -> None:
    """Let the tree run again; harmless if it does."""
    if run.mechanism != "signal":
        _order(run, freeze=False)
        return
    end = time.monotonic() + deadline
    while True:
        stopped = [process for process in tree.members(run, table) if _held(process)]
        for process in stopped:
            signals.send(process.pid, process.start_time, signal.SIGCONT)
        if not stopped or time.monotonic() > end:
            return


def is_frozen(run: Run, table: tree.Table) -> bool:
    """Whether the tree was told to stop (by this kernel or the one before)."""
    if "tree" in run.groups:
        return cgroups.read(f"{run.groups['tree']}/cgroup.freeze").strip() == "1"
    if "freezer" in run.groups:
        return cgroups.read(f"{run.groups['freezer']}/freezer.state").strip() != "THAWED"
    return any(process.stopped for process in tree.members(run, table))


def _order(run: Run, *, freeze: bool) -> None:
    if "tree" in run.groups:
        cgroups.write(f"{run.groups['tree']}/cgroup.freeze", "1" if freeze else "0")
    else:
        cgroups.write(f"{run.groups['freezer']}/freezer.state", "FROZEN" if freeze else "THAWED")


def _reached(run: Run) -> bool:
    if "tree" in run.groups:
        return "frozen 1" in cgroups.read(f"{run.groups['tree']}/cgroup.events")
    return cgroups.read(f"{run.groups['freezer']}/freezer.state").strip() == "FROZEN"


def _wait(run: Run, end: float) -> bool:
    pause = 0.0002
    while not _reached(run):
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)
    return True


def _stop_all(run: Run, table: tree.Table, end: float) -> tuple[int, int]:
    signals.send_group(run.pid, run.start_time, signal.SIGSTOP)
    before: set[tuple[int, int]] | None = None
    while True:
        found = tree.members(run, table)
        moving = [process for process in found if not _held(process)]
        known = {process.key for process in found}
        if (not moving and known == before) or time.monotonic() > end:
            return len(found) - len(moving), len(found)
        before = known if not moving else None
        _stop(moving)


def _held(process: proc.Stat) -> bool:
    """Whether it runs no instruction until SIGCONT: stopped, or waiting in the kernel with SIGSTOP pending.

    The parent of a vfork(2) cannot stop before its child execs, and the child is stopped: it stays
    in uninterruptible sleep (``D``) and stops on its way out.
    """
    return process.stopped or (process.state == "D" and proc.is_pending(process.pid, signal.SIGSTOP))


def _stop(moving: list[proc.Stat]) -> None:
    """Stop these, whole process groups first: a group stops at once, so that no fork gets away."""
    for process in moving:
        if process.group == process.pid:
            signals.send_group(process.pid, process.start_time, signal.SIGSTOP)
    for process in moving:
        signals.send(process.pid, process.start_time, signal.SIGSTOP)
