"""Ending every process of one demo, whoever started it and whatever became of its parents.

They are known by a marker in their environment: the demo's home, whose name no other process has (and
the holder, which is started without an environment, by the socket in its arguments). A process is
only ever signalled through a pidfd that was opened before its marker was read.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from agenttop.core.paths import Paths

MARKERS = ("AGENTTOP_HOME", "AGENTTOP_DEMO")
#: Seconds that emptied cgroups may take to be removable.
GONE = 2.0
_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


class Survivors(Exception):
    """Processes that SIGKILL did not end in time."""


def marked(home: Path) -> dict[int, int]:
    """The live processes that carry ``home``, without ourselves: pid → pidfd, for the caller to close."""
    wanted = {f"{name}={home}".encode() for name in MARKERS}
    holder = os.fsencode(Paths.from_environ({"AGENTTOP_HOME": str(home)}).holder_socket)
    found: dict[int, int] = {}
    for entry in os.listdir(_PROC):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        pid = int(entry)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue  # gone meanwhile, or a thread
        try:
            carries = _words(entry, "environ") & wanted or holder in _words(entry, "cmdline")
        except OSError:
            carries = False  # another user's, or gone
        if carries:
            found[pid] = pidfd
        else:
            os.close(pidfd)
    return found


def _words(pid: str, file: str) -> set[bytes]:
    return set((_PROC / pid / file).read_bytes().split(b"\0"))


def sweep(home: Path, *, seconds: float = 20.0) -> int:
    """Kill them all and wait until they are gone; returns how many there were.

    Raises:
        Survivors: Some were still there after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    ended: set[int] = set()
    groups: set[Path] = set()
    while found := marked(home):
        try:
            for pid, pidfd in found.items():
                groups |= _cgroups_of(pid)
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            _thaw(groups)
            _await_all(found.values(), deadline)
        finally:
            for pidfd in found.values():
                os.close(pidfd)
        ended |= found.keys()
        if time.monotonic() > deadline:
            left = marked(home)
            for pidfd in left.values():
                os.close(pidfd)
            if left:
                raise Survivors(f"{len(left)} processes did not end: {', '.join(map(str, sorted(left)))}")
    remove_cgroups(groups)
    return len(ended)


def cgroups(home: Path) -> set[Path]:
    """The cgroups a kernel made for the live processes of this demo."""
    found = marked(home)
    try:
        return set().union(*(_cgroups_of(pid) for pid in found))
    finally:
        for pidfd in found.values():
            os.close(pidfd)


def _await_all(pidfds: Iterable[int], deadline: float) -> None:
    poll = select.poll()
    waiting = set(pidfds)
    for pidfd in waiting:
        poll.register(pidfd, select.POLLIN)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(left * 1000):
            poll.unregister(pidfd)
            waiting.discard(pidfd)


def _cgroups_of(pid: int) -> set[Path]:
    """The cgroups made by a kernel of ours for this process (the others are not ours to touch)."""
    try:
        lines = (_PROC / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return set()
    found = set()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "agenttop" not in path:
            continue
        name = controllers.removeprefix("name=")
        for root in (_CGROUPS / name, _CGROUPS / "unified", _CGROUPS):
            if (root / path.lstrip("/")).is_dir():
                found.add(root / path.lstrip("/"))
    return found


def _thaw(groups: set[Path]) -> None:
    """A v1 freezer keeps even SIGKILL waiting until it is thawed; v2 does not."""
    for group in groups:
        with suppress(OSError):
            (group / "freezer.state").write_text("THAWED")


def remove_cgroups(groups: set[Path]) -> None:
    """Empty cgroups go, and then the folder of their kernel, once its last one has gone.

    The system may take a moment to see that a process has left its group (EBUSY).
    """
    deadline = time.monotonic() + GONE
    waiting = [
        group
        for group in sorted(groups | {group.parent for group in groups}, key=_depth, reverse=True)
        if "agenttop" in group.name or "agenttop" in group.parent.name
    ]
    while waiting := [group for group in waiting if not _removed(group)]:
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _depth(path: Path) -> int:
    return len(path.parts)
