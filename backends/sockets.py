"""Whether a socket belongs to a run: by the control group it was made in, else by who holds it open."""

from __future__ import annotations

import os
from collections.abc import Iterable

from agenttop.core.backend import SocketPeer

from .runs import Run


def made_in(run: Run, peer: SocketPeer) -> bool:
    """Whether the socket was made in the run's version 2 group or in one below it."""
    if run.tree is None or not peer.cgroup:
        return False
    return _same(run.tree, peer.cgroup)


def _same(folder: str, group: int) -> bool:
    try:
        found = os.stat(folder)
        if found.st_ino == group:
            return True
        if found.st_nlink <= 2:
            return False
        with os.scandir(folder) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # removed meanwhile
        return False
    return any(_same(path, group) for path in below)


def held_by(pids: Iterable[int], inode: int) -> bool | None:
    """Whether one of these processes has the socket open; ``None`` where one could not be looked at."""
    wanted = f"socket:[{inode}]"
    hidden = False
    for pid in pids:
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                for entry in entries:
                    try:
                        if os.readlink(entry.path) == wanted:
                            return True
                    except OSError:  # closed meanwhile
                        continue
        except PermissionError:
            hidden = True
        except OSError:  # the process has ended
            continue
    return None if hidden else False
