"""What this kernel keeps of one run in a container, and how dockerd's words become the kernel's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from agenttop.core.backend import Doors, Exit, Launch, RunRef

from .docker_cgroup import Group
from .docker_container import LABEL_RUN
from .docker_engine import Engine
from .docker_spool import Spool
from .docker_stdin import Stdin


class Run:
    """A run this kernel started or adopted: its handle, its output's copy, its stdin, its cgroups."""

    def __init__(
        self,
        engine: Engine,
        launch: Launch,
        ref: RunRef,
        doors: Doors,
        running: Callable[[], Awaitable[bool]],
    ) -> None:
        container = ref["container"]
        self.ref = ref
        self.spool = Spool(engine, container, launch.folder, running)
        self.stdin = (
            Stdin(engine, container, launch.marker, launch.folder, doors) if launch.spec.stdin else None
        )
        self.group: Group | None = None

    async def close(self) -> None:
        """The kernel leaves: give back what is only this process's."""
        await self.spool.close()
        if self.stdin is not None:
            await self.stdin.close()
        if self.group is not None:
            self.group.close()

    async def forget(self) -> None:
        """The run is over for good."""
        await self.spool.close()
        if self.stdin is not None:
            await self.stdin.forget()
        if self.group is not None:
            self.group.close()


def ref_of(info: Mapping[str, Any]) -> RunRef:
    """The durable handle of a run, from ``docker inspect``.

    ``container`` and ``run`` identify it; ``pid`` (the first process's, on dockerd's machine) only says
    where to look for its cgroups, whose path then proves it.
    """
    return {
        "container": info["Id"],
        "name": str(info["Name"]).lstrip("/"),
        "run": info["Config"]["Labels"][LABEL_RUN],
        "pid": int(info["State"]["Pid"]),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
    }


def exit_of(info: Mapping[str, Any]) -> Exit:
    """How a container ended. dockerd tells a code only: a 137 stays one."""
    state = info["State"]
    detail = str(state.get("Error") or "")
    if state.get("OOMKilled"):
        detail = "out of memory"
    return Exit(code=int(state["ExitCode"]), detail=detail)
