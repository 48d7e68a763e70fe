"""``agenttop mcp``: the kernel's MCP tools over stdio, for clients that start their servers themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import kernel_call
from .syscall import inside

if TYPE_CHECKING:
    from agenttop.core.api.verbs import Verb
    from agenttop.core.client import KernelClient
    from agenttop.core.syscalls.mcp.tools import Call


def mcp() -> None:
    """Serve mail and memory as MCP tools on stdin and stdout.

    Inside an agent it speaks as that agent, else as you: {"command": "agenttop", "args": ["mcp"]}
    """
    if inside():
        import anyio

        anyio.run(_as_agent)
    else:
        kernel_call.call(_as_person)


async def _as_agent() -> None:
    import os

    from agenttop.core.api.bus import DraftRequest
    from agenttop.core.client.asking import new_key
    from agenttop.core.client.door import AgentDoor
    from agenttop.core.syscalls.caller import Caller

    async with AgentDoor() as door:

        async def call(caller: Caller, verb: Verb[Any, Any], request: Any) -> Any:
            if isinstance(request, DraftRequest) and not request.key:
                # With a key of its own it is safe to send again what a restart of the kernel cut off.
                request = request.model_copy(update={"key": new_key()})
            return await door.call(verb, request)

        await _serve(call, Caller(os.environ.get("AGENTTOP_AGENT", ""), ""))


async def _as_person(client: KernelClient) -> None:
    from agenttop.core.syscalls.caller import Caller

    async def call(caller: Caller, verb: Verb[Any, Any], request: Any) -> Any:
        return await client.call(verb, request)

    await _serve(call, Caller(None, "me"))


async def _serve(call: Call, caller: Any) -> None:
    """Serve until stdin ends; stdout is the protocol's, and what goes wrong is told on stderr."""
    from mcp.server.stdio import stdio_server

    from agenttop.core.syscalls.mcp.server import build

    server = build(call, lambda context: caller)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
