"""Leaving nothing of a demo behind: agents, kernel, provider, containers, image, files, in this order."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio

from agenttop.core.errors import AgentTopError
from agenttop.core.paths import Paths

from . import box
from .sweep import Survivors, cgroups, remove_cgroups, sweep

_KERNEL_SECONDS = 20.0
_IMPORT_SECONDS = 10.0
_CGROUPS = "cgroups"


def clean(home: Path, image: str | None) -> list[str]:
    """Take everything down; returns what could not be, one line each (empty: nothing is left).

    First politely through the kernel, which knows every run and proves each kill; then whatever is
    left, and all of it if there is no kernel any more, by what the operating system and Docker know.
    Calling it again, or after a part was done already, is harmless.
    """
    problems: list[str] = []
    groups = cgroups(home) | recorded_cgroups(home)
    if home.exists():
        anyio.run(_through_kernel, home)
    try:
        sweep(home)
    except Survivors as error:
        problems.append(str(error))
    remove_cgroups(groups)
    if image is not None:
        try:
            importing = (home / box.IMPORTING).exists()
            box.remove(image, expect=_IMPORT_SECONDS if importing else 0.0)
        except (box.DockerSaid, OSError) as error:
            problems.append(f"image {image}: {error}")
    try:
        shutil.rmtree(home)
    except FileNotFoundError:
        pass
    except OSError as error:
        problems.append(f"folder {home}: {error}")
    return problems


def record_cgroups(home: Path) -> None:
    """Note where the kernel made its cgroups, while there are agents alive to tell."""
    (home / _CGROUPS).write_text("".join(f"{path}\n" for path in sorted(cgroups(home))))


def recorded_cgroups(home: Path) -> set[Path]:
    """What ``record_cgroups`` noted; nothing if it never came to that."""
    try:
        return {Path(line) for line in (home / _CGROUPS).read_text().splitlines()}
    except FileNotFoundError:
        return set()


async def _through_kernel(home: Path) -> None:
    """Kill, remove, shut down. What fails here is found again by the sweep, so it is not an error."""
    paths = Paths.from_environ({"AGENTTOP_HOME": str(home)})
    if not paths.socket.exists():
        return
    from agenttop.core.api import RemoveRequest, StopRequest
    from agenttop.core.connect import connect

    with anyio.move_on_after(_KERNEL_SECONDS):
        try:
            async with await connect(paths, start=False) as client:
                await client.stop(StopRequest(all=True, how="kill", grace=0))
                await client.remove(RemoveRequest(all=True, force=True))
                await client.shutdown()
        except (AgentTopError, OSError):
            return
