"""Leaving the session and the cgroups of whoever started us, so that their end is not ours."""

from __future__ import annotations

import os
import resource
from pathlib import Path

_GOVERNING = ("", "name=systemd", "freezer")


def hierarchies(membership: str, mounts: str) -> list[tuple[Path, str]]:
    """Each cgroup hierarchy that ends or stops what is in it, as (mount point, our path in it).

    That is version 2, and of version 1 logind's own and the freezer. Version 1 controllers only
    limit, and whoever limited the starter's memory limited what it starts.

    Args:
        membership: The text of ``/proc/self/cgroup`` (``ID:CONTROLLERS:PATH`` a line, cgroups(7)).
        mounts: The text of ``/proc/self/mounts``.
    """
    points: dict[str, Path] = {}
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[2] == "cgroup2":
            points.setdefault("", Path(fields[1]))
        elif len(fields) > 3 and fields[2] == "cgroup":
            for option in fields[3].split(","):
                points.setdefault(option, Path(fields[1]))
    found: list[tuple[Path, str]] = []
    for line in membership.splitlines():
        number, controllers, path = line.split(":", 2)
        first = "" if number == "0" else controllers.split(",")[0]
        if first in _GOVERNING and first in points:
            found.append((points[first], path))
    return found


def leave_cgroups(pid: int | None = None) -> list[str]:
    """Move a process (default: this one) to the root of those hierarchies where that is allowed.

    Gives the groups that could not be left (an ordinary user's login session, say), for the log.
    """
    pid = os.getpid() if pid is None else pid
    membership = Path(f"/proc/{pid}/cgroup").read_text()
    mounts = Path("/proc/self/mounts").read_text()
    stayed: list[str] = []
    for point, path in hierarchies(membership, mounts):
        if path == "/" or path.startswith("/.."):
            continue
        try:
            (point / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            stayed.append(f"{point}{path}: {error.strerror}")
    return stayed


def raise_limits() -> None:
    """As many open files as the hard limit allows: each agent costs some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def become_daemon() -> None:
    """Leave session, parent and terminal (daemon(7)): fork, ``setsid``, fork, ``/``, umask 077.

    The caller must not have threads or an event loop yet. Returns in the grandchild only.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which ``pid`` started, or ``None`` when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[19])
