"""The control API on its Unix socket: uvicorn's HTTP protocol on a socket of our own.

uvicorn's ``Server`` would make the socket 0666, wake ten times a second and take the signals; its
protocol is used without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from .. import __version__, uds
from ..client import KernelClient
from .callers import Connection
from .front import Front

VERSION = "agenttop-version"
"""Header with the kernel's version, in every response."""

CONNECTIONS = 1000
"""Connections served at once; more are turned away."""

KEEP_ALIVE = 3600
"""Seconds an idle connection may stay. Clients do not retry, so they must not be hung up on."""

GRACE = 3.0
"""Seconds in which requests may end when the kernel leaves; streams are cut at once."""


class _Protocol(HttpToolsProtocol):
    """One connection; turned away unless its process is our own user's (or root's)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = uds.peer(transport.get_extra_info("socket"))
        self.app_state = {**self.app_state, "connection": Connection(peer)}
        super().connection_made(transport)
        if peer.uid not in (os.geteuid(), 0) or len(self.connections) > CONNECTIONS:
            transport.abort()


class ControlServer:
    """Serves ``client`` at ``path`` inside ``running``; whoever makes it holds the kernel lock."""

    def __init__(self, client: KernelClient, path: Path) -> None:
        self._path = path
        self.activity = Front(client)
        self._state = ServerState()
        self._closing: anyio.Event
        self._config = Config(
            app=self.activity,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            headers=[(VERSION, __version__)],
        )
        self._config.load()
        self._state.default_headers = self._config.encoded_headers

    async def complete(self) -> None:
        """Import what only the rarer requests need, before one of them waits for it."""
        await self.activity.whole()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ControlServer]:
        """Listen and serve; on exit let requests end, cut streams, and take the socket away.

        Raises:
            OSError: The socket cannot be made.
        """
        listener = uds.bind(self._path)
        made = os.stat(self._path)
        server = await self._serve(listener)
        try:
            yield self
        finally:
            with anyio.CancelScope(shield=True):
                server.close()
                _remove(self._path, made)
                await self._end()

    async def _serve(self, listener: socket.socket) -> asyncio.AbstractServer:
        loop = asyncio.get_running_loop()
        self._closing = anyio.Event()

        def protocol() -> asyncio.Protocol:
            return _Protocol(self._config, self._state, app_state={"closing": self._closing}, _loop=loop)

        return await loop.create_unix_server(protocol, sock=listener)

    async def _end(self) -> None:
        """Idle connections close at once, answers in progress get ``GRACE`` seconds."""
        tasks: set[asyncio.Task[Any]] = set(self._state.tasks)
        self._closing.set()
        for connection in list(self._state.connections):
            connection.shutdown()
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE)
        for connection in list(self._state.connections):
            connection.transport.abort()


def _remove(path: Path, made: os.stat_result) -> None:
    """Unlink our socket, and no other's that took its place."""
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path)
        if (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):
            path.unlink()
