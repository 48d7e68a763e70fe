"""An HTTP answer that goes on: coalesced, bounded, cancelled when its reader or the kernel leaves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar, cast

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import AgentTopError
from .errors import answer

T = TypeVar("T")

ROOM = 256 << 10
"""Bytes that may wait for a slow reader; then the source waits."""

FIRST = 0.05
"""Seconds in which an error can still become the status instead of the last line."""


class Stream(Response):
    """Items of ``source``, each turned into bytes by ``encode``.

    One task takes items and appends them to a buffer, another sends what has gathered: a source that
    has much to tell is sent in large pieces, one that tells little at once.
    """

    def __init__(
        self,
        source: AsyncIterator[T],
        encode: Callable[[T], bytes],
        fail: Callable[[AgentTopError], bytes],
        media_type: str,
    ) -> None:
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self._source = cast("AsyncGenerator[Any, None]", source)
        self._encode: Callable[[Any], bytes] = encode
        self._fail = fail
        self._buffer = bytearray()
        self._changed = anyio.Event()
        self._ended = False
        self._error: AgentTopError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream to its end, or until the reader or the kernel leaves."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_left, receive, tasks.cancel_scope)
            tasks.start_soon(until_closing, scope, tasks.cancel_scope)
            tasks.start_soon(self._take)
            with anyio.move_on_after(FIRST):
                await self._until_change()
            if self._error is not None and not self._buffer:
                await answer(self._error)(scope, receive, send)
            else:
                await self._send(send)
            tasks.cancel_scope.cancel()

    async def _take(self) -> None:
        try:
            async with aclosing(self._source) as items:
                async for item in items:
                    self._buffer += self._encode(item)
                    self._change()
                    while len(self._buffer) > ROOM:
                        await self._until_change()
        except AgentTopError as error:
            self._error = error
        self._ended = True
        self._change()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while True:
            if self._buffer:
                body, self._buffer = self._buffer, bytearray()
                self._change()
                await send({"type": "http.response.body", "body": bytes(body), "more_body": True})
            elif self._ended:
                break
            else:
                await self._until_change()
        tail = self._fail(self._error) if self._error is not None else b""
        await send({"type": "http.response.body", "body": tail, "more_body": False})

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _until_change(self) -> None:
        if not self._ended:
            await self._changed.wait()


async def until_left(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel ``scope`` when the client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def until_closing(request: Scope, scope: anyio.CancelScope) -> None:
    """Cancel ``scope`` when the server says, through the request's state, that it closes."""
    closing = request.get("state", {}).get("closing")
    if isinstance(closing, anyio.Event):
        await closing.wait()
        scope.cancel()


async def unless_gone(request: Request, work: Callable[[], Awaitable[T]]) -> T | None:
    """The result of ``work``; cancelled (then ``None``) when the client or the kernel leaves."""
    result: T | None = None
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(until_left, request.receive, tasks.cancel_scope)
        tasks.start_soon(until_closing, request.scope, tasks.cancel_scope)
        try:
            result = await work()
        except Exception as error:  # noqa: BLE001 - raised below, out of the task group's bundle
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result
