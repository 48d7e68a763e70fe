"""What ``agenttop doctor`` says about running agents in containers here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agenttop.core.backend import Check

from .docker_door import Opener
from .docker_gate import find_init

_LIMITS = {"memory": "MemoryLimit", "cpus": "CpuCfsQuota", "pids": "PidsLimit"}


def checks(info: Mapping[str, Any], host: str, opener: Opener) -> list[Check]:
    """One line each for dockerd at ``host``, cgroups and the network gateway, and one for each weakness.

    Args:
        info: dockerd's ``info``.
    """
    cgroups = f"v{info.get('CgroupVersion', '1')}, driver {info.get('CgroupDriver', '?')}"
    lines = [Check("dockerd", "ok", f"{info['ServerVersion']} at {host}"), Check("cgroups", "ok", cgroups)]
    if short := sorted(set(_LIMITS) - limits(info)):
        found = f"no {', '.join(short)} limit"
        lines.append(Check("limits", "warn", found, "Enable these cgroup controllers"))
    if not info.get("LiveRestoreEnabled"):
        found = "containers end when dockerd stops"
        hint = 'Set "live-restore": true in /etc/docker/daemon.json'
        lines.append(Check("live-restore", "warn", found, hint))
    lines.append(_gateway(opener))
    return lines


def limits(info: Mapping[str, Any]) -> set[str]:
    """The limits of a spec that this dockerd can hold."""
    return {limit for limit, key in _LIMITS.items() if info.get(key)}


def _gateway(opener: Opener) -> Check:
    if not opener.possible:
        hint = 'Use a local dockerd, or `network = "open"` or "none"'
        return Check("network gateway", "warn", "needs a dockerd on this machine", hint)
    gate = "" if find_init() else ", but docker-init is missing: a first call may come too early"
    how = "through a sidecar container" if opener.by_sidecar else "possible"
    return Check("network gateway", "warn" if gate else "ok", f"{how}{gate}")
