"""From a launch to a running container: image, gate, create, start; nothing is left of one that fails."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from agenttop.core.backend import Launch
from agenttop.core.errors import BackendError

from . import docker_container as container_of
from .docker_engine import Engine, EngineRefused
from .docker_find import Containers
from .docker_gate import Gate, find_init
from .docker_program import missing_program
from .docker_run import Run

if TYPE_CHECKING:
    from aiodocker.stream import Stream as Connection

    #: Makes a started container, with its connection for output, a run of this kernel.
    Take = Callable[[Launch, dict[str, Any], Connection | None], Awaitable[Run]]

log = logging.getLogger(__name__)


class Start:
    """The start of one run.

    Args:
        take: Opens the door and follows the output; the program begins only after it returned.
    """

    def __init__(
        self, engine: Engine, containers: Containers, state: Path, launch: Launch, take: Take
    ) -> None:
        self._engine = engine
        self._containers = containers
        self._state = state
        self._launch = launch
        self._take = take
        self._doing = f"cannot start {launch.spec.name}"

    async def __call__(self, *, gated: bool) -> Run:
        """Create and start; ``gated`` keeps the program from beginning before its door is open.

        Raises:
            BackendError: There is no such image or program, or dockerd refused.
        """
        image = await self._image()
        argv = container_of.command_of(self._launch, image)
        gate = await self._shut_gate() if gated else None
        try:
            return await self._create_and_start(argv, gate)
        finally:
            if gate is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(_open_gate, gate)

    async def _image(self) -> dict[str, Any]:
        image = self._launch.spec.image
        try:
            return dict(await self._engine.json("GET", f"images/{image}/json", self._doing))
        except EngineRefused as refusal:
            if refusal.answer != 404:
                raise
            why, hint = f"there is no image {image} here", f"Get it: `docker pull {image}`"
            raise BackendError(refusal.what, why, hint) from refusal

    async def _shut_gate(self) -> Gate | None:
        init = find_init()
        if init is None:
            return None
        try:
            return await anyio.to_thread.run_sync(Gate, self._launch.folder, init)
        except OSError as error:
            log.warning("no gate for %s, its first call may come too early: %s", self._launch.marker, error)
            return None

    async def _create_and_start(self, argv: list[str], gate: Gate | None) -> Run:
        file = gate.file if gate is not None else None
        init = True
        while True:
            body = container_of.config(self._launch, argv, self._state, gate=file, init=init)
            container = await self._containers.create(self._launch, body, self._doing)
            try:
                return await self._begin(container, argv[0])
            except EngineRefused as refusal:
                await self._undo(container)
                if init and gate is None and "docker-init" in refusal.why:
                    init = False  # dockerd has none: the program is then the first process itself
                    continue
                raise
            except BaseException:
                await self._undo(container)
                raise

    async def _begin(self, container: str, program: str) -> Run:
        """Start what was created; its output is attached before, so that none is missed."""
        info = await self._containers.by_id(container, self._doing)
        if missing := await missing_program(self._engine, info, program, self._launch):
            hint = f"Look with `docker run --rm {self._launch.spec.image} ls`"
            raise BackendError(self._doing, missing, hint)
        live = await self._engine.attach(container)
        try:
            await self._engine.json("POST", f"containers/{container}/start", self._doing)
            return await self._take(self._launch, await self._containers.by_id(container, self._doing), live)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await live.close()
            raise

    async def _undo(self, container: str) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await self._containers.remove(container, force=True)
            except BackendError as error:
                log.warning(
                    "container %s was left behind; the next adoption removes it: %s", container[:12], error
                )


def _open_gate(gate: Gate) -> None:
    gate.open()
    gate.file.unlink(missing_ok=True)
