"""Whether a container has the program it is to run, before it is started.

With an init as the first program a missing one would only show as exit status 127, after a start that
counted. So the program is looked up as the init will (execvp(3)), through dockerd's own eyes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from agenttop.core.backend import Launch

from .docker_engine import Engine, FileStat

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_EXECUTABLE = 0o111


async def missing_program(engine: Engine, info: Mapping[str, Any], program: str, launch: Launch) -> str:
    """Why ``program`` cannot run in this created container, or ``""`` if it can or nobody can tell.

    Args:
        info: dockerd's ``containers/ID/json``.
    """
    config = info["Config"]
    workdir = config.get("WorkingDir") or "/"
    if "/" in program:
        candidates = [posixpath.normpath(posixpath.join(workdir, program))]
    else:
        env = dict(pair.split("=", 1) for pair in config.get("Env") or () if "=" in pair)
        folders = env.get("PATH", _PATH).split(":")
        candidates = [posixpath.normpath(posixpath.join(workdir, folder, program)) for folder in folders]
    mounted = [launch.cwd] if launch.spec.cwd else []
    mounted += [mount.target for mount in launch.spec.mounts]
    if any(_below(path, mounted) for path in candidates):
        return ""  # a mount appears only when the container starts; what is in it is not dockerd's to tell
    reason = f"there is no program {program} in image {launch.spec.image}"
    for path in candidates:
        stat = await _follow(engine, info["Id"], path)
        if stat is not None and not stat.directory and stat.mode & _EXECUTABLE:
            return ""
        if stat is not None:
            reason = f"{program} in image {launch.spec.image} is not executable"
    return reason


async def _follow(engine: Engine, container: str, path: str) -> FileStat | None:
    stat = await engine.stat(container, path)
    if stat is not None and stat.link:
        return await engine.stat(container, stat.link)  # dockerd resolved the whole chain
    return stat


def _below(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
