"""The contract's rig for the subprocess backend, one per freeze mechanism."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from agenttop.backends import proc, runs
from agenttop.backends.subprocess import SubprocessBackend
from agenttop.core.backend import Backend, BackendContext, Launch

from .rig import Rig


class SubprocessRig(Rig):
    backend_name: ClassVar[str] = "subprocess"

    def make_backend(self, context: BackendContext) -> Backend:
        return SubprocessBackend(context)

    def leftovers(self, launch: Launch) -> list[str]:
        return group_leftovers(launch)


def group_leftovers(launch: Launch) -> list[str]:
    """Processes and control groups of a run."""
    found = []
    for pid in proc.pids():
        process = proc.stat(pid)
        if process and process.alive and proc.marker(pid) == launch.mark:
            found.append(f"process {pid} {proc.command(pid, process.comm)}")
    groups = runs.load_groups(launch.folder).values()
    return found + [f"group {path}" for path in groups if Path(path).exists()]
