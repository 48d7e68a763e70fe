"""The MCP server over HTTP, with its life: whoever enters ``hosting`` owns all it starts."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings

from ...errors import Forbidden
from ..caller import Caller
from .http import AGENT, BODY, Requests
from .server import Context, build
from .tools import Call

logging.getLogger("mcp").setLevel(logging.WARNING)  # it tells of every request
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@contextlib.asynccontextmanager
async def hosting(call: Call, caller: Callable[[str], Caller]) -> AsyncIterator[Requests]:
    """The ASGI app of a server for agents.

    Args:
        call: Asks the kernel as somebody.
        caller: From an agent's id to the caller it is.
    """

    def identify(context: Context) -> Caller:
        if context.request is None:
            raise Forbidden("a request came from nowhere")
        return caller(context.request.headers[AGENT.decode()])

    manager = StreamableHTTPSessionManager(
        app=build(call, identify),
        json_response=True,
        stateless=True,
        max_request_body_size=BODY + 1,
        # A page in a browser that guessed an address would be told by its Host or Origin.
        security_settings=TransportSecuritySettings(
            allowed_hosts=[*_LOOPBACK, *(f"{host}:*" for host in _LOOPBACK)],
            allowed_origins=[f"http://{host}:*" for host in _LOOPBACK],
        ),
    )
    async with manager.run():
        yield Requests(manager.handle_request)
