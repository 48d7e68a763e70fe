"""An agent's connection to the door of system calls, with as little in between as can be."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson


class Refused(Exception):
    """The door answered with an error; ``status`` and ``error`` say which."""

    def __init__(self, status: int, error: dict[str, str]) -> None:
        super().__init__(f"{status} {error}")
        self.status = status
        self.error = error


class Line(asyncio.Protocol):
    """One connection, one call at a time: ``await line.call("bus.send", {...})``."""

    def __init__(self, secret: str) -> None:
        self._path = f"POST /a/{secret}/sys/"
        self._heads: dict[str, bytes] = {}
        self._buffer = b""
        self._need = -1
        self._status = 0
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int, secret: str) -> Line:
        """Connect to the gateway on loopback."""
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(lambda: cls(secret), "127.0.0.1", port)
        return line

    def close(self) -> None:
        """Leave, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    async def call(self, name: str, request: Any) -> Any:
        """The answer.

        Raises:
            Refused: It was an error. ConnectionError: the kernel is gone; it may have done it or not.
        """
        if self._transport is None:
            raise ConnectionResetError
        head = self._heads.get(name)
        if head is None:
            text = f"{self._path}{name} HTTP/1.1\r\nHost: agenttop\r\nContent-Length: "
            head = self._heads[name] = text.encode()
        body = orjson.dumps(request)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(head + b"%d\r\n\r\n" % len(body) + body)
        answer = orjson.loads(await self._answer)
        if self._status != 200:
            raise Refused(self._status, answer["error"])
        return answer

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self._buffer = buffer = self._buffer + data if self._buffer else data
        if self._need < 0:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._status = int(buffer[9:12])
            length = buffer.index(b"Content-Length: ") + 16
            self._need = end + 4 + int(buffer[length : buffer.index(b"\r", length)])
        if len(buffer) >= self._need:
            body = buffer[buffer.index(b"\r\n\r\n") + 4 : self._need]
            self._buffer, self._need = b"", -1
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """The kernel is gone."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the connection ended"))
