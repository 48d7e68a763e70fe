"""The doors agents come through: the gateway's loopback listener and those inside containers.

Each listening socket has its original here and in the holder process; the gateway gets duplicates.
So a kernel that is killed leaves every door open: calls wait in its backlog, nobody else can listen
there, and the next kernel takes the same sockets up again.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Protocol

import anyio
import anyio.to_thread

from . import port
from .errors import AgentTopError
from .holder import Holder
from .paths import Paths

GATEWAY = "gateway"
"""The holder's key of the loopback listener."""
DOOR = "door:"
"""What the keys of doors that backends opened begin with."""
_KEPT = "kept:"


class Server(Protocol):
    """What answers behind a door; the gateway does."""

    async def serve(self, listener: socket.socket, key: str) -> None:
        """Accept on ``listener``, which is the server's own from now on."""
        ...

    async def stop_serving(self, key: str) -> None:
        """Close that listener again; unknown keys are ignored."""
        ...


class GatewayDoors:
    """``Doors`` of the backend contract, with the gateway behind them.

    Inside ``running`` the sockets exist and keep calls waiting; between ``open`` and ``close`` they are
    served.

    Args:
        paths: The state directory, whose lock the caller holds.
        server: The gateway.
        wanted: The port the configuration asks for; default: chosen once and kept.
    """

    def __init__(self, paths: Paths, server: Server, wanted: int | None = None) -> None:
        self._paths = paths
        self._server = server
        self._wanted = wanted
        self.holder = Holder(paths.holder_socket)
        self._port = 0
        self._doors: set[str] = set()
        self._open = False

    @property
    def port(self) -> int:
        """The gateway's port; known inside ``running``."""
        return self._port

    @property
    def problem(self) -> str:
        """What ails the holder, or empty."""
        return self.holder.problem

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[GatewayDoors]:
        """Find the holder and the doors it kept, or make them; the holder stays on exit.

        Raises:
            PortTaken: Somebody else has the gateway's port.
            AgentTopError: The port or the holder cannot be had.
        """
        kept = await self.holder.open()
        try:
            if GATEWAY not in kept:
                await self._make()
            await self._read_port()
            self._doors = {key.removeprefix(DOOR) for key in kept if key.startswith(DOOR)}
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.holder.watch, name="holder")
                try:
                    yield self
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                # A holder with nothing to keep (the start failed) would only be left lying about.
                await (self.holder.close() if self.holder.keys else self.holder.dismiss())

    async def open(self) -> None:
        """Serve the gateway on its port and on every door that was kept."""
        self._open = True
        await self._serve(GATEWAY)
        for key in sorted(self._doors):
            await self._serve(DOOR + key)

    async def close(self) -> None:
        """Stop serving; the sockets stay, and calls wait in them for the next kernel."""
        self._open = False
        for key in [GATEWAY, *(DOOR + key for key in self._doors)]:
            await self._server.stop_serving(key)

    async def dismiss(self) -> None:
        """Nothing is left to look after: let the holder close everything and end."""
        await self.holder.dismiss()

    # --- the backends' side ----------------------------------------------------------------------

    async def add(self, key: str, listener: socket.socket) -> None:
        """Keep ``listener``, which is taken over and replaces what ``key`` named, and serve on it."""
        with listener:
            await self._server.stop_serving(DOOR + key)
            await self.holder.put(DOOR + key, listener.fileno())
        self._doors.add(key)
        if self._open:
            await self._serve(DOOR + key)

    async def remove(self, key: str) -> None:
        """Stop serving and close everywhere; unknown keys are ignored."""
        if key in self._doors:
            self._doors.discard(key)
            await self._server.stop_serving(DOOR + key)
            await self.holder.drop(DOOR + key)

    def has(self, key: str) -> bool:
        """Whether this door is open."""
        return key in self._doors

    async def keep(self, key: str, fd: int) -> None:
        """Keep a duplicate of ``fd`` across kernel restarts."""
        await self.holder.put(_KEPT + key, fd)

    async def drop(self, key: str) -> None:
        """Close what was kept under ``key``."""
        await self.holder.drop(_KEPT + key)

    # --- inside ----------------------------------------------------------------------------------

    async def _make(self) -> None:
        """Bind the port and hand it over; a socket that nobody keeps is never served."""
        with await anyio.to_thread.run_sync(port.listener, self._paths.port, self._wanted) as bound:
            await self.holder.put(GATEWAY, bound.fileno())

    async def _read_port(self) -> None:
        with await self._duplicate(GATEWAY) as listener:
            bound = int(listener.getsockname()[1])
        stored = port.read(self._paths.port)
        if stored != bound:
            raise AgentTopError(
                f"{self._paths.port} says {stored}",
                f"The holder keeps port {bound}",
                f"Write {bound} into that file",
            )
        if self._wanted not in (None, bound):
            port.listener(self._paths.port, self._wanted).close()  # raises: it cannot move
        self._port = bound

    async def _duplicate(self, key: str) -> socket.socket:
        fd = await self.holder.get(key)
        if fd is None:
            raise AgentTopError(f"the holder lost {key}")
        return socket.socket(fileno=fd)

    async def _serve(self, key: str) -> None:
        await self._server.serve(await self._duplicate(key), key)
