"""The client's end of one control connection: HTTP/1.1 over a Unix socket, parsed by httptools."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import httptools

from .. import uds
from ..errors import AgentTopError, KernelUnreachable, from_dict

HIGH, LOW = 1 << 20, 256 << 10
"""Bytes of an answer that may wait for their reader before the socket is left alone, and until when."""

HEAD = 1 << 20
"""Bytes that may come before the head of an answer is complete."""

CONNECT = 5.0
"""Seconds a kernel may take to accept."""


class Connection(asyncio.Protocol):
    """One request at a time; the body is read in pieces, with back-pressure.

    Args:
        longest: Bytes of an answer that is taken as a whole; more are not believed. ``None``: any number.
    """

    def __init__(self, longest: int | None = None) -> None:
        self._longest = longest
        self._transport: asyncio.Transport | None = None
        self._lost = False
        self._reason: AgentTopError | None = None
        """Why it was lost, where that is known."""
        self._held = False
        self.status: int | None = None
        self._begin()

    @classmethod
    async def open(cls, path: Path) -> Connection:
        """Connect.

        Raises:
            KernelUnreachable: Nobody listens.
            Forbidden: The socket is another user's.
        """
        loop = asyncio.get_running_loop()
        try:
            link = uds.connect(path, timeout=CONNECT)
        except OSError as error:
            raise uds.unreachable(path, error) from error
        link.setblocking(False)
        _, connection = await loop.create_unix_connection(cls, sock=link)
        return connection

    @property
    def usable(self) -> bool:
        """Whether another request can be made: the last answer was read whole and nobody hung up."""
        return self._complete and self._keep and not self._lost and not self._transport_closing()

    async def send(self, method: str, target: str, body: bytes | None, media_type: str) -> int:
        """Make a request; gives the status once the head of the answer is there.

        Raises:
            KernelUnreachable: The kernel went away instead.
        """
        assert self._transport is not None
        self._begin()
        self._complete = False
        head = f"{method} {target} HTTP/1.1\r\nhost: kernel\r\n"
        if body is not None:
            head += f"content-type: {media_type}\r\ncontent-length: {len(body)}\r\n"
        self._transport.writelines([head.encode("ascii"), b"\r\n", body or b""])
        while (status := self._status()) is None:
            await self._until_news()
        return status

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, as it comes.

        Raises:
            KernelUnreachable: The kernel went away before its end.
        """
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._waiting -= len(piece)
                if self._held and self._waiting < LOW:
                    self._held = False
                    self._resume()
                yield piece
            if self._complete:
                return
            await self._until_news()

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            KernelUnreachable: The kernel went away before its end, or it has none.
        """
        found, size = [], 0
        async for piece in self.pieces():
            found.append(piece)
            size += len(piece)
            if self._longest is not None and size > self._longest:
                raise KernelUnreachable("the kernel's answer cannot be read", "It does not end")
        return b"".join(found)

    def close(self) -> None:
        """Hang up at once, whatever is still on its way."""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has the socket."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        if self.status is None:
            self._head += len(data)
            if self._head > HEAD:
                self._fault = "The head of its answer does not end"
                self.close()
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fault = f"its answer is not HTTP: {error}"
            self.close()
        self._tell()

    def eof_received(self) -> bool:
        """The kernel will not send more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over; an answer that is not complete never will be."""
        self._lost = True
        if isinstance(exc, AgentTopError):
            self._reason = exc
        self._tell()

    # --- httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header of the answer."""
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting > HIGH and not self._held and self._transport is not None:
            self._held = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is complete."""
        self._keep = self._parser.should_keep_alive()
        self._complete = True

    # --- inside

    def _status(self) -> int | None:
        return self.status

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = None
        self._head = 0
        self.headers: dict[bytes, bytes] = {}
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._held = False
        self._keep = True
        self._complete = True
        self._fault = ""
        self._news: asyncio.Future[None] | None = None

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _transport_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _until_news(self) -> None:
        if self._reason is not None:
            raise from_dict(self._reason.to_dict())
        if self._lost:
            raise KernelUnreachable(
                "the kernel went away in the middle of an answer",
                self._fault or "It ended or was restarted",
                "Ask again; the agents run on",
            )
        self._news = asyncio.get_running_loop().create_future()
        await self._news
