"""A small HTTP/1.1 server for the mock provider: asyncio protocols on httptools' parser.

It serves one request of a connection at a time, keeps connections alive, holds back when the client
reads slowly, and ends the handler as soon as the client is gone: a provider notices that too.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Self, cast
from urllib.parse import parse_qsl, unquote

import anyio
import anyio.abc
import httptools

MAX_BODY = 64 << 20
_PIPELINE = 4

Headers = Sequence[tuple[str, str]]


class Request:
    """One request as received; header names are lower case, the first of equal ones counts."""

    __slots__ = ("body", "headers", "method", "path", "query")

    def __init__(self, method: str, target: bytes, headers: dict[str, str], body: bytes) -> None:
        url = httptools.parse_url(target)
        self.method = method
        self.path = unquote(url.path.decode("utf-8", "replace"))
        self.query = dict(parse_qsl((url.query or b"").decode("ascii", "replace")))
        self.headers = headers
        self.body = body


Handler = Callable[[Request, "Exchange"], Awaitable[None]]


class Exchange:
    """The answer to one request."""

    __slots__ = ("_chunked", "_connection", "finished", "head_only", "keep", "started")

    def __init__(self, connection: Connection, *, keep: bool, head_only: bool) -> None:
        self._connection = connection
        self._chunked = False
        self.keep = keep
        self.head_only = head_only
        self.started = False
        self.finished = False

    def start(self, status: int, headers: Headers, *, length: int | None = None) -> None:
        """Send the status line and the headers; without ``length`` the body goes in chunks."""
        self.started = True
        self._chunked = length is None
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "Overloaded" if status == 529 else "Unknown"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
        lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
        if not self.keep:
            lines.append("connection: close")
        self._connection.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a piece of the body; ``last`` ends it in the same segment."""
        if self.head_only:
            data = b""
        if self._chunked:
            framed = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if last:
                framed += b"0\r\n\r\n"
        else:
            framed = data
        self.finished = self.finished or last
        if framed:
            self._connection.write(framed)

    async def drain(self) -> None:
        """Wait while the client reads slower than we write."""
        await self._connection.writable()

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        self.start(status, headers, length=len(body))
        self.write(body, last=True)

    async def cut(self, *, reset: bool = False) -> None:
        """End the connection without ending the body: after what was sent, or with a reset at once."""
        await self._connection.close(reset=reset)


class Connection(asyncio.Protocol):
    """One client connection: bytes in, requests out, one handler at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._requests: deque[tuple[Request, bool]] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._gone = asyncio.Event()
        self._scope = anyio.CancelScope()
        self._transport: asyncio.Transport | None = None
        self._target = bytearray()
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._bad = 0

    # --- the transport's side -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new connection."""
        # uvloop's transports are like asyncio's, but not their subclasses.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)  # drained means: taken by the operating system
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.took(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone: whatever was being said to it ends."""
        self._gone.set()
        self._arrived.set()
        self._room.set()
        self._scope.cancel()
        self._server.lost(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(426)
        except httptools.HttpParserError:
            self._refuse(self._bad or 400)

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._room.clear()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._room.set()

    # --- the parser's side ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request starts."""
        self._target.clear()
        self._headers = {}
        self._body = bytearray()

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """All headers are in: a client that asks first whether to send the body is told to."""
        if self._headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if len(self._body) + len(body) > MAX_BODY:
            self._bad = 413
            raise ValueError("body too large")
        self._body += body

    def on_message_complete(self) -> None:
        """A request is whole."""
        method = self._parser.get_method().decode("ascii")
        request = Request(method, bytes(self._target), self._headers, bytes(self._body))
        self._requests.append((request, self._parser.should_keep_alive()))
        if len(self._requests) >= _PIPELINE and self._transport is not None:
            self._transport.pause_reading()
        self._arrived.set()

    # --- the handler's side ---------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Give bytes to the transport; after the client is gone they go nowhere."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def writable(self) -> None:
        """Wait for room in the transport's buffer."""
        if not self._room.is_set():
            await self._room.wait()

    async def close(self, *, reset: bool = False) -> None:
        """Close (delivering what was written) or reset, and wait until the connection is gone."""
        if self._transport is None:
            return
        if reset:
            peer = self._transport.get_extra_info("socket")
            if peer is not None:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self._transport.abort()
        else:
            self._transport.close()
        with anyio.CancelScope(shield=True):
            await self._gone.wait()

    def abort(self) -> None:
        """End it now, as the server does when it stops."""
        if self._transport is not None:
            self._transport.abort()

    async def serve(self, handle: Handler) -> None:
        """Answer requests until the client leaves or asks to close."""
        with self._scope:
            while not self._gone.is_set():
                if not self._requests:
                    self._arrived.clear()
                    await self._arrived.wait()
                    continue
                request, keep = self._requests.popleft()
                if self._transport is not None and len(self._requests) < _PIPELINE:
                    self._transport.resume_reading()
                exchange = Exchange(self, keep=keep, head_only=request.method == "HEAD")
                await handle(request, exchange)
                if not keep or not exchange.finished:
                    break
        if not self._gone.is_set():
            await self.close()

    def _refuse(self, status: int) -> None:
        Exchange(self, keep=False, head_only=False).respond(status, [], b"")
        if self._transport is not None:
            self._transport.close()


class Server:
    """A loopback HTTP server; ``async with Server(handle) as server: server.port``."""

    def __init__(self, handle: Handler, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._handle = handle
        self._host = host
        self._ask_port = port
        self._live: set[Connection] = set()
        self._group: anyio.abc.TaskGroup | None = None
        self._listener: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self), self._host, self._ask_port, backlog=1024, start_serving=False
        )
        self._group = await anyio.create_task_group().__aenter__()
        self.port = int(self._listener.sockets[0].getsockname()[1])
        await self._listener.start_serving()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._listener is not None
        assert self._group is not None
        self._listener.close()
        for connection in list(self._live):
            connection.abort()
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(kind, error, trace)

    def took(self, connection: Connection) -> None:
        """A connection came: its handler belongs to the server's task group."""
        if self._group is None or self._group.cancel_scope.cancel_called:
            connection.abort()
            return
        self._live.add(connection)
        self._group.start_soon(connection.serve, self._handle)

    def lost(self, connection: Connection) -> None:
        """A connection went."""
        self._live.discard(connection)


def header_lines(headers: Iterable[tuple[str, str | None]]) -> list[tuple[str, str]]:
    """Headers without those that have no value."""
    return [(name, value) for name, value in headers if value is not None]
