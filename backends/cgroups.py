"""Control groups for runs: which there are here, and making, entering, limiting and removing them.

One group per run and purpose, ``agenttop-<hash of the state folder>/<agent>.<run>``, so that two
kernels never meet. The *tree* group decides who belongs to a run and freezes it: version 2 where a
subtree can be written, else the version 1 freezer, never both (a group that is frozen twice never
reports itself frozen). Groups for limits exist only for runs that have limits.

A run's groups lie below the group the kernel itself is in, except that root's version 2 groups lie
at the top: a login's scope is taken down with the login, and the fleet must outlive that. So no
limit of version 1 that was set around the kernel is escaped.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agenttop.core.agents.spec import Limits
from agenttop.core.backend import state_name
from agenttop.core.errors import BackendError
from agenttop.core.nice import NORMAL
from agenttop.core.nice import weight as weight_of

from . import mounts, tree

Mechanism = Literal["cgroup2", "cgroup1", "signal"]
MECHANISMS: tuple[Mechanism, ...] = ("cgroup2", "cgroup1", "signal")

#: Controllers of version 2 and 1 by what they limit.
_CONTROLLERS = {"memory": "memory", "cpus": "cpu", "pids": "pids"}
_PERIOD = 100_000
_NAME = re.compile(r"agenttop-[0-9a-f]{12}")
#: Seconds for which an empty group of another kernel is left alone.
_YOUNG = 60.0


def weight(nice: int) -> int:
    """``cpu.weight`` for a nice value, as the kernel itself makes it of a weight: nice 0 is 100."""
    return max(1, min(10_000, round(weight_of(nice) * 100 / NORMAL)))


def shares(nice: int) -> int:
    """``cpu.shares`` of version 1, and of dockerd, for a nice value; nice 0 is 1024."""
    return weight_of(nice)


def write(path: str, text: str) -> None:
    """One write to a control file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def read(path: str) -> str:
    """A control file's content."""
    with open(path, encoding="ascii") as file:
        return file.read()


@dataclass(slots=True)
class Cgroups:
    """What can be used here, by this user, for this state folder."""

    name: str
    mechanisms: tuple[Mechanism, ...]
    """Those that work, best first; the first is used."""
    bases: dict[str, str] = field(default_factory=dict)
    """Purpose (``tree``, ``freezer``, ``memory``, ``cpu``, ``pids``) → folder that runs' groups go below."""
    v2_limits: frozenset[str] = frozenset()
    """Limits that the version 2 group itself can hold."""

    @property
    def mechanism(self) -> Mechanism:
        """The freeze mechanism in use."""
        return self.mechanisms[0]

    @property
    def limits(self) -> frozenset[str]:
        """Limits that act on a whole tree."""
        return self.v2_limits | {limit for limit, name in _CONTROLLERS.items() if name in self.bases}

    def make(self, marker: str, limits: Limits, nice: int) -> dict[str, str]:
        """The groups for a new run, with its limits set.

        Raises:
            BackendError: A limit was asked for that cannot be held here, or a group cannot be made.
        """
        made: dict[str, str] = {}
        try:
            purposes = self._purposes(limits, nice)
            for purpose in purposes:
                made[purpose] = self._folder(self.bases[purpose], marker)
            self._limit(made, limits, nice)
        except OSError as error:
            remove(made.values())
            raise BackendError(
                f"no control group could be made for {marker}", f"{error.filename}: {error.strerror}"
            ) from error
        return made

    def _purposes(self, limits: Limits, nice: int) -> list[str]:
        purposes: list[str] = [purpose for purpose in ("tree", "freezer") if purpose in self.bases]
        for limit, controller in _CONTROLLERS.items():
            wanted = getattr(limits, limit) is not None or (controller == "cpu" and nice)
            if not wanted or limit in self.v2_limits:
                continue
            if controller in self.bases:
                purposes.append(controller)
            elif limit != "memory" and getattr(limits, limit) is not None:
                raise BackendError(
                    f"the limit on {limit} cannot be held",
                    f"No {controller} control group can be written here",
                    "Start agenttop with: systemd-run --user --scope -p Delegate=yes agenttop",
                )
        return purposes

    def _folder(self, base: str, marker: str) -> str:
        above = f"{base}/{self.name}"
        folder = f"{above}/{marker}"
        while True:
            try:
                os.mkdir(folder)
            except FileExistsError:  # of an attempt that a crash cut short
                return folder
            except FileNotFoundError:  # the first run, or the last one was just forgotten
                if not os.path.isdir(base):
                    raise
                os.makedirs(above, exist_ok=True)
                if base == self.bases.get("tree"):
                    _enable(above, self.v2_limits)
            else:
                return folder

    def _limit(self, made: dict[str, str], limits: Limits, nice: int) -> None:
        group = made.get("tree", "")
        if limits.memory is not None:
            if "memory" in self.v2_limits:
                write(f"{group}/memory.max", str(limits.memory))
                _write_if_there(f"{group}/memory.swap.max", "0")
            elif "memory" in made:
                write(f"{made['memory']}/memory.limit_in_bytes", str(limits.memory))
                _write_if_there(f"{made['memory']}/memory.memsw.limit_in_bytes", str(limits.memory))
        if limits.cpus is not None:
            quota = max(1000, int(limits.cpus * _PERIOD))
            if "cpus" in self.v2_limits:
                write(f"{group}/cpu.max", f"{quota} {_PERIOD}")
            else:
                write(f"{made['cpu']}/cpu.cfs_period_us", str(_PERIOD))
                write(f"{made['cpu']}/cpu.cfs_quota_us", str(quota))
        if limits.pids is not None:
            folder = group if "pids" in self.v2_limits else made["pids"]
            write(f"{folder}/pids.max", str(limits.pids))
        if nice:
            renice(made, nice)

    def tidy(self, kept: Iterable[str] = ()) -> None:
        """Remove what nothing lives in any more, on leaving: runs' groups but ``kept``, and those above."""
        kept = set(kept)
        remove(folder for folder in leftovers(self) if folder not in kept)
        self.close()

    def close(self) -> None:
        """Remove the folders above the runs' groups where they are empty; the next run makes them anew."""
        for base in self.bases.values():
            try:
                os.rmdir(f"{base}/{self.name}")
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise


def _write_if_there(path: str, text: str) -> None:
    try:
        write(path, text)
    except FileNotFoundError:
        return  # a machine without swap accounting


def renice(groups: dict[str, str], nice: int) -> bool:
    """Give a run's groups their share of the CPU; ``False`` when none of them decides it."""
    for path, value in (
        (f"{groups.get('tree', '')}/cpu.weight", weight(nice)),
        (f"{groups.get('cpu', '')}/cpu.shares", shares(nice)),
    ):
        if os.access(path, os.W_OK):
            write(path, str(value))
            return True
    return False


def remove(folders: Iterable[str]) -> list[str]:
    """Remove groups that are empty, with what an agent made below them; returns those that are not."""
    left = []
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            continue
        left += remove(below)
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise
            left.append(folder)
    return left


def _enable(folder: str, limits: Iterable[str]) -> None:
    """Hand controllers down to the groups below ``folder`` (which then may have no processes itself)."""
    if wanted := " ".join(f"+{_CONTROLLERS[limit]}" for limit in sorted(limits)):
        write(f"{folder}/cgroup.subtree_control", wanted)


def choose(state: Path, settings: dict[str, Any]) -> Cgroups:
    """Look at this machine and decide; nothing is changed but controllers handed down.

    Settings: ``cgroup`` names a folder in version 2 (or in the version 1 freezer) to use, ``freeze``
    forces a mechanism.

    Raises:
        BackendError: What the settings force cannot be had.
    """
    found = mounts.current()
    name = f"agenttop-{state_name(state)}"
    given = settings.get("cgroup")
    v2 = _v2_base(found, given)
    freezer = _v1_base(found, "freezer", given)
    possible = {"cgroup2": v2 is not None, "cgroup1": freezer is not None, "signal": True}
    working = [mechanism for mechanism in MECHANISMS if possible[mechanism]]
    forced = settings.get("freeze")
    if forced is not None:
        if forced not in working:
            raise BackendError(
                f"backends.subprocess.freeze = {forced!r} cannot be used",
                f"What works here is {', '.join(working)}",
            )
        working = [forced]
    bases: dict[str, str] = {}
    limits: frozenset[str] = frozenset()
    if working[0] == "cgroup2" and v2:
        bases["tree"] = v2
        limits = _hand_down(v2)
    elif working[0] == "cgroup1" and freezer:
        bases["freezer"] = freezer
    for limit, controller in _CONTROLLERS.items():
        if limit not in limits and (base := _v1_base(found, controller, None)):
            bases[controller] = base
    return Cgroups(name, tuple(working), bases, limits)


def _v2_base(found: mounts.Hierarchies, given: str | None) -> str | None:
    if found.v2 is None:
        return None
    if given is not None:
        candidates = [given] if (given + "/").startswith(found.v2.mount + "/") else []
    elif os.geteuid() == 0:
        candidates = [found.v2.mount]
    else:
        candidates = [found.v2.own]
    for folder in candidates:
        if os.path.isdir(folder) and os.access(folder, os.W_OK) and found.v2.may_move_to(folder):
            return folder
    return None


def _v1_base(found: mounts.Hierarchies, controller: str, given: str | None) -> str | None:
    place = found.v1.get(controller)
    if place is None:
        return None
    folder = given if given is not None and (given + "/").startswith(place.mount + "/") else place.own
    usable = os.path.isdir(folder) and os.access(folder, os.W_OK)
    return folder if usable else None


def _hand_down(base: str) -> frozenset[str]:
    """Which limits groups two levels below ``base`` can hold, enabling their controllers on the way."""
    try:
        there = set(read(f"{base}/cgroup.controllers").split())
        limits = {limit for limit, name in _CONTROLLERS.items() if name in there}
        _enable(base, limits)
    except OSError:  # EBUSY: processes live in the base itself, so its controllers stay there
        return frozenset()
    return frozenset(limits)


def sweep(groups: Cgroups) -> None:
    """Remove the empty groups that killed kernels of other state folders left beside this one's.

    What has a process in it cannot be removed; and a kernel may be about to use what it has just made,
    so young groups stay.
    """
    others = [
        folder
        for base in groups.bases.values()
        for folder in _folders(base)
        if _NAME.fullmatch(os.path.basename(folder)) and os.path.basename(folder) != groups.name
    ]
    for other in others:
        with contextlib.suppress(FileNotFoundError):
            # Its time is that of the last group made in it, or removed.
            if time.time() - os.stat(other).st_mtime > _YOUNG:
                for folder in (*_folders(other), other):
                    with contextlib.suppress(OSError):  # in use, somebody else's, or just gone
                        os.rmdir(folder)


def _folders(above: str) -> list[str]:
    try:
        with os.scandir(above) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def leftovers(groups: Cgroups) -> list[str]:
    """Groups of this state folder that exist and have no process; for cleaning after crashes."""
    empty = []
    for base in groups.bases.values():
        empty += [folder for folder in _folders(f"{base}/{groups.name}") if not tree.group_pids(folder)]
    return empty
