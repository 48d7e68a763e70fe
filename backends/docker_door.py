"""The gateway's door inside a container: a listener on the container's own loopback.

A socket opened in the container's network namespace, which takes root and a local dockerd. For those
who are not root, ``docker_sidecar`` has a container open it.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import anyio
import anyio.to_thread

from agenttop.core.backend import BackendContext, Launch
from agenttop.core.errors import BackendError

from . import docker_sidecar, netns
from .docker_cgroup import Group
from .docker_engine import Engine
from .docker_find import Containers, is_live

log = logging.getLogger(__name__)


def key(marker: str) -> str:
    """The name of a run's door in ``Doors``, by the run's marker."""
    return f"docker:{marker}"


def listen(pid: int, container: str, port: int) -> socket.socket:
    """A listener inside the container whose first process is ``pid``. Blocking.

    Raises:
        ProcessLookupError: The container has ended, or is not on this machine.
        OSError: The namespace cannot be entered, or the port is taken there.
    """
    try:
        namespace = netns.open_namespace(pid)
    except FileNotFoundError as error:
        raise ProcessLookupError(error.errno, "the container's first process has gone") from error
    try:
        # Only now is it known whose namespace was opened: a number can be given to another process.
        group = Group.of(pid, container)
        if group is None:
            raise ProcessLookupError(0, "the container's first process is not on this machine")
        group.close()
        return netns.listen_in(namespace, port)
    finally:
        os.close(namespace)


class Opener:
    """Opens the doors of one kernel's containers.

    Args:
        sidecar: By a sidecar container, even where this process may enter namespaces itself.
    """

    def __init__(
        self, engine: Engine, containers: Containers, context: BackendContext, *, sidecar: bool
    ) -> None:
        self._engine = engine
        self._containers = containers
        self._context = context
        self._sidecar_wanted = sidecar
        self._sweeping = anyio.Lock()
        self._swept = False

    @property
    def possible(self) -> bool:
        """Whether dockerd's containers are on this machine."""
        return self._engine.local

    @property
    def by_sidecar(self) -> bool:
        """Whether doors are opened by a container, because this process may not enter namespaces."""
        return self._sidecar_wanted or not netns.may_enter()

    async def open(self, launch: Launch, info: dict[str, Any]) -> None:
        """Open the gateway's door inside the container, unless it is open.

        Raises:
            BackendError: It cannot be opened.
        """
        own = key(launch.marker)
        doors = self._context.doors
        if launch.spec.network == "none" or doors.has(own):
            return
        if not self.possible:
            if launch.spec.network == "gateway":
                log.warning("%s has no door to the gateway: this kernel may not open it", launch.marker)
            return
        doing = f"cannot open the gateway's door of {launch.spec.name}"
        if self.by_sidecar:
            await doors.add(own, await self._sidecar(info["Id"]))
            return
        try:
            pid = int(info["State"]["Pid"])
            listener = await anyio.to_thread.run_sync(listen, pid, info["Id"], doors.port)
        except ProcessLookupError:
            if is_live(await self._containers.by_id(info["Id"], doing)):
                raise BackendError(doing, "dockerd's containers are not on this machine") from None
            return  # it has ended already
        except OSError as error:
            raise BackendError(doing, error.strerror or str(error)) from error
        await doors.add(own, listener)

    async def _sidecar(self, container: str) -> socket.socket:
        state = self._containers.state_label
        async with self._sweeping:
            if not self._swept:  # before the first of our own: what a kernel that was killed left
                await docker_sidecar.sweep(self._engine, state)
                self._swept = True
        info = await self._engine.info()
        return await docker_sidecar.listen(
            self._engine,
            container,
            self._context.doors.port,
            self._context.state / "doors",
            state,
            rootless="name=rootless" in (info.get("SecurityOptions") or ()),
        )
