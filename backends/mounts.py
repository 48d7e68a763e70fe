"""Where control groups are mounted, and in which of them this process is (cgroups(7), proc(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy and our place in it."""

    mount: str
    own: str
    """The folder of this process's own group, below ``mount``."""

    def may_move_to(self, folder: str) -> bool:
        """Whether this process may move itself into groups below ``folder``.

        In version 2 that takes write access to ``cgroup.procs`` of the nearest common ancestor of
        the group left and the group entered.
        """
        common = os.path.commonpath([self.own, folder])
        if not (common + "/").startswith(self.mount + "/"):
            return False
        return os.access(f"{common}/cgroup.procs", os.W_OK)


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """All of them: version 2 (if mounted), and version 1 by controller name."""

    v2: Hierarchy | None
    v1: dict[str, Hierarchy]


def _unescape(path: str) -> str:
    """Undo the octal escapes of mountinfo."""
    for code, char in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        path = path.replace(code, char)
    return path


def parse(mountinfo: str, own: str) -> Hierarchies:
    """The hierarchies, from /proc/self/mountinfo and /proc/self/cgroup.

    A mount that shows only a part of its hierarchy (inside a container without a namespace of its
    own) counts from that part.
    """
    places: dict[str, str] = {}
    for line in own.splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            places[name] = path
    v2: Hierarchy | None = None
    v1: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        fields, kind = head.split(), tail.split()
        if not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        root, mount = _unescape(fields[3]), _unescape(fields[4])
        if kind[0] == "cgroup2":
            v2 = v2 or _hierarchy(root, mount, places.get("", "/"))
            continue
        for option in kind[2].split(","):
            if option in places and option not in v1:
                v1[option] = _hierarchy(root, mount, places[option])
    return Hierarchies(v2, v1)


def _hierarchy(root: str, mount: str, place: str) -> Hierarchy:
    inside = os.path.relpath(place, root) if place.startswith(root) else "."
    return Hierarchy(mount, os.path.normpath(os.path.join(mount, inside)))


def current() -> Hierarchies:
    """The hierarchies of this machine as this process sees them."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mountinfo = file.read()
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        own = file.read()
    return parse(mountinfo, own)
