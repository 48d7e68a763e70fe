"""What a screen asks first, answered at once; all else by the whole control API, imported meanwhile.

FastAPI and its models are a third of a kernel's imports, and a fleet is on screen after two requests:
the status and the watch. These two, asked in the plain way the clients ask them, are answered here
with the same words as by ``core/http/control.py``, which describes and serves them too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import anyio
import anyio.to_thread
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..client import KernelClient
from ..errors import AgentTopError, UsageError
from ..table import Window
from . import errors, frames
from .callers import Caller, Connection
from .stream import Stream

if TYPE_CHECKING:
    from pydantic import BaseModel

BODY = 64 << 20
"""Longest request body in bytes."""

_WATCHES: dict[bytes, Window] = {f"window={window}".encode(): window for window in get_args(Window)}


class Front:
    """The control API of one kernel, complete from its first request on.

    ``now`` and ``served`` count what is being answered and what ever was; a kernel that answers
    anything is not idle.
    """

    def __init__(self, client: KernelClient) -> None:
        self._client = client
        self._whole: ASGIApp | None = None
        self._loading = anyio.Lock()
        self.now = 0
        self.served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, counted while it lasts."""
        self.now += 1
        self.served += 1
        try:
            answer = await self._first(scope)
            if answer is None:
                whole = await self.whole()
                await whole(scope, _bounded(receive), send)
            else:
                await answer(scope, receive, send)
        finally:
            self.now -= 1

    async def whole(self) -> ASGIApp:
        """The whole control API; imported by whoever asks first, off the loop."""
        async with self._loading:
            if self._whole is None:
                self._whole = await anyio.to_thread.run_sync(_create, self._client)
            return self._whole

    async def _first(self, scope: Scope) -> Response | None:
        """The answer to a request that is served here; ``None`` leaves it to the whole API."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        path, query = scope["path"], scope["query_string"]
        try:
            if path == "/v1/status" and not query:
                return status(await self._client.status())
            if path == "/v1/watch" and query in _WATCHES:
                (await self._caller(scope)).must_be_owner()
                return watch(self._client, _WATCHES[query])
        except AgentTopError as error:
            return errors.answer(error)
        except Exception as error:  # noqa: BLE001 - answered and logged, as the whole API does it
            return errors.unforeseen("GET", path, error)
        return None

    async def _caller(self, scope: Scope) -> Caller:
        connection = scope.get("state", {}).get("connection")
        if isinstance(connection, Connection):
            return await connection.caller(self._client)
        return Caller(self._client)


def status(found: BaseModel) -> Response:
    """What ``GET /v1/status`` answers."""
    return Response(found.model_dump_json().encode(), media_type=errors.JSON)


def watch(client: KernelClient, window: Window) -> Response:
    """What ``GET /v1/watch`` answers: one snapshot, then deltas."""
    return Stream(client.watch(window), frames.change_line, frames.error_line, frames.LINES)


def _create(client: KernelClient) -> ASGIApp:
    from .control import create_app

    return create_app(client)


def _bounded(receive: Receive) -> Receive:
    size = 0

    async def take() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > BODY:
            raise UsageError("the request is too long", f"At most {BODY >> 20} MiB are read")
        return message

    return take
