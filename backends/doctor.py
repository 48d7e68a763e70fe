"""What ``agenttop doctor`` says about running agents as processes here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from agenttop.core.backend import Check

from .cgroups import Cgroups

_SCOPE = "Start it with: loginctl enable-linger && systemd-run --user --scope -p Delegate=yes agenttop"
_WAYS = {
    "cgroup2": "cgroup.freeze of version 2: atomic, unseen by the agent",
    "cgroup1": "the version 1 freezer: atomic, unseen by the agent",
    "signal": "SIGSTOP to every process: agents can notice it, and a tree must be searched for",
}


def checks(groups: Cgroups) -> list[Check]:
    """One line each for freezing, limits, logins and the sandbox."""
    lines = [_freeze(groups), _limits(groups), _sandbox()]
    if (login := _login()) is not None:
        lines.append(login)
    return lines


def _freeze(groups: Cgroups) -> Check:
    way = groups.mechanism
    found = f"{way}, {_WAYS[way]}"
    if way == "signal":
        return Check("freeze", "warn", found, _SCOPE if os.geteuid() else "Mount cgroup2 at /sys/fs/cgroup")
    return Check("freeze", "ok", found)


def _limits(groups: Cgroups) -> Check:
    acting = sorted(groups.limits)
    absent = sorted({"memory", "cpus", "pids"} - groups.limits)
    if not absent:
        return Check("limits", "ok", f"{', '.join(acting)} act on whole trees")
    found = (f"{', '.join(acting)} act on whole trees; " if acting else "") + f"{', '.join(absent)} cannot"
    if "memory" in absent:
        found += "; memory is then limited for each process by itself"
    return Check("limits", "warn", found, _SCOPE if os.geteuid() else "Enable these controllers")


def _sandbox() -> Check:
    found = shutil.which("bwrap")
    if found:
        return Check("sandbox", "ok", found)
    return Check("sandbox", "warn", "bubblewrap is not installed", "Try: apt install bubblewrap")


def _login() -> Check | None:
    """Whether logind ends what a person leaves running at logout."""
    if shutil.which("loginctl") is None:
        return None
    files = [Path("/etc/systemd/logind.conf"), *sorted(Path("/etc/systemd/logind.conf.d").glob("*.conf"))]
    value = "no"
    for file in files:
        try:
            for line in file.read_text(errors="replace").splitlines():
                name, _, setting = line.partition("=")
                value = setting.strip().lower() if name.strip() == "KillUserProcesses" else value
        except OSError:
            continue  # not there, or not ours to read: logind's own default holds
    if value in ("yes", "true", "1", "on"):
        return Check(
            "logout",
            "warn",
            "KillUserProcesses=yes: agents end with the last login",
            "loginctl enable-linger",
        )
    return Check("logout", "ok", "KillUserProcesses=no: agents outlive the login")
