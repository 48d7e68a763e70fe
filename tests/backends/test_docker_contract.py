"""The backend contract, whole, against containers of the machine's dockerd."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from agenttop.backends.docker import DockerBackend
from agenttop.backends.netns import may_enter
from agenttop.core.backend import Backend, BackendContext, Launch

from .contract import BackendContract
from .docker_fixtures import docker_image  # noqa: F401 - a fixture
from .docker_rig import remove_containers
from .rig import Rig

pytestmark = [pytest.mark.anyio, pytest.mark.docker]


class DockerRig(Rig):
    """Containers of the test image, on the gateway network where this user may have it."""

    backend_name = "docker"

    def __init__(self, state: Path, image: str, tasks: anyio.abc.TaskGroup) -> None:
        self._image = image
        self._tasks = tasks
        super().__init__(state)

    def make_backend(self, context: BackendContext) -> Backend:
        backend = DockerBackend(context)
        self._tasks.start_soon(backend.run)
        return backend

    def spec_fields(self) -> dict[str, Any]:
        return {"image": self._image, "network": "gateway" if may_enter() else "none"}

    def environ(self) -> dict[str, str]:
        return {}

    def leftovers(self, launch: Launch) -> list[str]:
        command = ["docker", "ps", "-aq", "--filter", f"label=agenttop.run={launch.marker}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


class TestDocker(BackendContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path, docker_image: str, anyio_backend: str) -> AsyncIterator[Rig]:  # noqa: F811
        async with anyio.create_task_group() as tasks:
            rig = DockerRig(tmp_path / "state", docker_image, tasks)
            try:
                yield rig
                await rig.finish()
            finally:
                remove_containers(rig.state, {})
                tasks.cancel_scope.cancel()
