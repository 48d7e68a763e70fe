"""The HTTP side of the server: who asks is bound to each request, and nobody holds the server up.

No sessions are kept. Agents outlive kernels, and few clients begin anew when theirs is gone; so each
request stands for itself, in the older protocol versions too. What a session would be needed for, to
cancel a request by its id, works by a session id that is given out and otherwise not looked at.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import orjson

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY = 1 << 20
"""Bytes of a request; 413 beyond."""
AT_ONCE = 32
"""Requests of one agent that are worked on at once; 429 beyond."""
AGENT = b"x-agenttop-agent"
_SESSION = b"mcp-session-id"
_JSON = (b"content-type", b"application/json")
_CANCELLED = "notifications/cancelled"

Key = tuple[str, str, Any]
"""Agent, session and the request's id."""


class Requests:
    """An ASGI app in front of the SDK's: bounds, and cancellation.

    Args:
        app: Answers POST requests, each standing for itself.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._busy: Counter[str] = Counter()
        self._running: dict[Key, anyio.CancelScope] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        agent = headers.get(AGENT, b"").decode("latin-1")
        if not agent:
            await _answer(send, 403, "no agent asks")
        elif scope["method"] != "POST":
            # Nothing is ever sent unasked, and there are no sessions to end.
            await _answer(send, 405, "POST is all there is", [(b"allow", b"POST")])
        elif self._busy[agent] >= AT_ONCE:
            await _answer(
                send, 429, f"{AT_ONCE} requests of this agent are running", [(b"retry-after", b"1")]
            )
        else:
            self._busy[agent] += 1
            try:
                await self._work(agent, headers, scope, receive, send)
            finally:
                self._busy[agent] -= 1
                if not self._busy[agent]:
                    del self._busy[agent]

    async def _work(
        self, agent: str, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        body = await _body(receive)
        if body is None:
            return
        if len(body) > BODY:
            await _answer(send, 413, f"the request has more than {BODY} bytes")
            return
        asked = _read(body)
        method, session = asked.get("method"), headers.get(_SESSION, b"").decode("latin-1")
        if method == _CANCELLED and session:
            self._cancel(agent, session, asked)
        if method == "initialize":
            send = _with_session(send)
        key = (
            (agent, session, number) if session and (number := _number(asked.get("id"))) is not None else None
        )
        await self._serve(key, scope, body, receive, send)

    async def _serve(self, key: Key | None, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Let the SDK answer; an answer that nobody waits for any more is given up."""
        gone = anyio.Event()
        begun = False
        rest = [body]

        async def once() -> Message:
            if rest:
                return {"type": "http.request", "body": rest.pop(), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        async def watch(tasks: anyio.abc.TaskGroup) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            tasks.cancel_scope.cancel()

        with anyio.CancelScope() as cancelled:
            if key is not None:
                self._running[key] = cancelled
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(watch, tasks)
                    await self._app(scope, once, noted)
                    tasks.cancel_scope.cancel()
            finally:
                if key is not None and self._running.get(key) is cancelled:
                    del self._running[key]
        if cancelled.cancelled_caught and not begun and key is not None:
            error = {"code": 0, "message": "Request cancelled"}
            await _send(send, 200, orjson.dumps({"jsonrpc": "2.0", "id": key[2], "error": error}))

    def _cancel(self, agent: str, session: str, asked: dict[str, Any]) -> None:
        params = asked.get("params")
        number = _number(params.get("requestId")) if isinstance(params, dict) else None
        running = self._running.get((agent, session, number))
        if running is not None:
            running.cancel()


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or the beginning of one that is too long; ``None``: its client left."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False) or len(body) > BODY:
            return bytes(body)


def _read(body: bytes) -> dict[str, Any]:
    """The message, as far as it is one; what is wrong with it is the SDK's to say."""
    try:
        asked = orjson.loads(body)
    except ValueError:
        return {}
    return asked if isinstance(asked, dict) else {}


def _number(value: Any) -> Any:
    """A request's id, if it is one."""
    if isinstance(value, str) and len(value) <= 200:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    return None


def _with_session(send: Send) -> Send:
    """Give a session id out."""

    async def given(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            headers = [*message.get("headers", ()), (_SESSION, secrets.token_hex(16).encode())]
            message = {**message, "headers": headers}
        await send(message)

    return given


async def _answer(
    send: Send, status: int, what: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": what}}
    await _send(send, status, orjson.dumps(error), headers)


async def _send(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    start = [_JSON, (b"content-length", b"%d" % len(body)), *(headers or ())]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
