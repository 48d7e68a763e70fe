"""The server's place in the kernel: a socket behind the gateway, opened at once, filled when first asked.

The SDK takes 0.4 s and 20 MB to import; a kernel without agents that use it never does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from ... import uds
from ...gateway.routes import KernelApp
from ..caller import Caller

if TYPE_CHECKING:
    from ...api.verbs import Verb
    from ...kernel import Kernel
    from .http import Requests

log = logging.getLogger(__name__)

PATH = "/mcp"
CONNECTIONS = 2_000
"""Connections of the gateway at once."""
KEEP_ALIVE = 120
"""Seconds an idle connection may stay: longer than the gateway keeps one, so that it is the one to leave."""


class McpDoor:
    """Serves agents' MCP requests inside ``running``, on a socket that only this very process may use.

    No tool does anything while the fleet is halted or the agent is held; a call under way goes on after that.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._wanted = anyio.Event()
        self._ready = anyio.Event()
        self._requests: Requests | None = None
        self.app: KernelApp

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[McpDoor]:
        """Listen; on exit cut what is under way.

        Raises:
            OSError: The socket cannot be made.
        """
        with contextlib.ExitStack() as stack:
            path = self._kernel.paths.mcp
            listener = uds.bind(path)
            stack.callback(path.unlink, missing_ok=True)
            self.app = KernelApp(stack.enter_context(uds.address(path)), PATH)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._host, name="mcp server")
                server, connections = await self._serve(listener)
                try:
                    yield self
                finally:
                    server.close()
                    await connections.end()
                    tasks.cancel_scope.cancel()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One HTTP request: the first one waits until the SDK is there."""
        self._wanted.set()
        await self._ready.wait()
        assert self._requests is not None
        await self._requests(scope, receive, send)

    async def _host(self) -> None:
        """Own the server once somebody wants it."""
        await self._wanted.wait()
        hosting = await anyio.to_thread.run_sync(_import_hosting)
        async with hosting(self._call, self._caller) as self._requests:
            self._ready.set()
            await anyio.sleep_forever()

    def _caller(self, agent_id: str) -> Caller:
        """Who asks, by the id the gateway knows.

        Raises:
            Refused: It has ended.
        """
        agent = self._kernel.desk.gate.agent(agent_id)
        return Caller(agent_id, agent.owner, agent.run.number if agent.run is not None else None)

    async def _call(self, caller: Caller, verb: Verb[Any, Any], request: Any) -> Any:
        gate = self._kernel.desk.gate
        while caller.agent is not None and gate.closed(gate.agent(caller.agent)):
            await gate.changed()
        return await self._kernel.syscalls.call(caller, verb, request)

    async def _serve(self, listener: Any) -> tuple[asyncio.AbstractServer, _Connections]:
        connections = _Connections(self)
        server = await asyncio.get_running_loop().create_unix_server(connections.made, sock=listener)
        return server, connections


class _Connections:
    """uvicorn's HTTP protocol on our socket, for no process but this one."""

    def __init__(self, app: Any) -> None:
        from uvicorn.config import Config
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
        from uvicorn.server import ServerState

        self._state = ServerState()
        self._config = Config(
            app=app,
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        self._config.load()

        class Protocol(HttpToolsProtocol):
            """One connection of the gateway."""

            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                # The header that names the agent is the gateway's word; nobody else may say it.
                stranger = uds.peer(transport.get_extra_info("socket")).pid != os.getpid()
                if stranger or len(self.connections) > CONNECTIONS:
                    transport.abort()

        self._protocol = Protocol

    def made(self) -> asyncio.Protocol:
        """One more connection."""
        return self._protocol(self._config, self._state, app_state={}, _loop=asyncio.get_running_loop())

    async def end(self) -> None:
        """Cut all of them, and see their requests end."""
        tasks = set(self._state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for connection in list(self._state.connections):
            connection.transport.abort()


def _import_hosting() -> Any:
    """What takes long, in a thread of its own: the SDK, and the models behind the verbs."""
    from .hosting import hosting

    return hosting
