"""Stopping a tree by its group and proving it; blocking, to be called in a worker thread.

Version 2 stops a group atomically and says when it is done. The version 1 freezer may need to be told
more than once: it looks at each process when it is told and at each that is born, but one that goes
to wait for its vfork(2)ed child just then is missed by both, cannot be woken, and keeps the group in
``FREEZING`` for ever. Told again, it is taken where it sleeps. (runc does the same.) What has no group
is stopped in ``ungrouped``.
"""

from __future__ import annotations

import time

from agenttop.core.backend import Frozen

from . import cgroups, tree
from .runs import Run
from .ungrouped import DEADLINE


def freeze(run: Run, deadline: float = DEADLINE) -> Frozen:
    """Stop the tree; the result says of how many processes it is proven."""
    began = time.monotonic()
    _order(run, freeze=True)
    done = _wait(run, began + deadline)
    total = len(tree.group_pids(run.tree or "") or [])
    return Frozen(total if done else 0, total, run.mechanism, time.monotonic() - began)


def thaw(run: Run) -> None:
    """Let the tree run again; harmless if it does."""
    _order(run, freeze=False)


def is_frozen(run: Run) -> bool:
    """Whether the tree was told to stop (by this kernel or the one before)."""
    if "tree" in run.groups:
        return cgroups.read(f"{run.groups['tree']}/cgroup.freeze").strip() == "1"
    return _freezer(run) != "THAWED"


def _order(run: Run, *, freeze: bool) -> None:
    if "tree" in run.groups:
        cgroups.write(f"{run.groups['tree']}/cgroup.freeze", "1" if freeze else "0")
    else:
        cgroups.write(f"{run.groups['freezer']}/freezer.state", "FROZEN" if freeze else "THAWED")


def _insist(run: Run) -> None:
    """Stop those, too, that the version 1 freezer missed; a tree that somebody thawed meanwhile is let be."""
    if "tree" not in run.groups and _freezer(run) == "FREEZING":
        _order(run, freeze=True)


def _reached(run: Run) -> bool:
    if "tree" in run.groups:
        return "frozen 1" in cgroups.read(f"{run.groups['tree']}/cgroup.events")
    return _freezer(run) == "FROZEN"


def _freezer(run: Run) -> str:
    return cgroups.read(f"{run.groups['freezer']}/freezer.state").strip()


def _wait(run: Run, end: float) -> bool:
    pause = 0.0002
    while not _reached(run):
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        _insist(run)
        pause = min(pause * 1.5, 0.02)
    return True
