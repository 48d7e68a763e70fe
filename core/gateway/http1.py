"""The HTTP/1.1 vocabulary both sides of the gateway share (RFC 9110 and 9112)."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

import anyio

Header = tuple[bytes, bytes]

HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip


class BodyTooLarge(Exception):
    """A request body is longer than what may be read whole."""


class ClientGone(Exception):
    """The client's connection ended while its request was being read."""


def end_to_end(headers: Iterable[Header], drop: frozenset[bytes] = frozenset()) -> list[Header]:
    """The headers that are passed on: without hop-by-hop ones, those ``Connection`` names, and ``drop``."""
    kept = [(name, value, name.lower()) for name, value in headers]
    named = {
        token.strip().lower()
        for _, value, lower in kept
        if lower == b"connection"
        for token in value.split(b",")
    }
    named.discard(b"close")
    named.discard(b"keep-alive")
    if named:
        drop = drop | named
    return [(name, value) for name, value, lower in kept if lower not in HOP_BY_HOP and lower not in drop]


def render(first_line: bytes, headers: Iterable[Header]) -> bytes:
    """A message head, up to and with its blank line."""
    lines = [first_line]
    lines.extend(name + b": " + value for name, value in headers)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def chunk(data: bytes) -> bytes:
    """One chunk of the chunked coding; never the last one, whatever ``data`` is."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"


@functools.cache
def reason(status: int) -> bytes:
    """The usual phrase for a status."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Overloaded" if status == 529 else b"Unknown"


_AGAIN = {429: b"1", 503: b"1"}
"""Seconds after which a client may come again, by status."""


def headers_of(status: int) -> list[Header]:
    """The headers that go with a system call's answer, beside the usual ones."""
    if status == 405:
        return [(b"Allow", b"POST")]
    again = _AGAIN.get(status)
    return [] if again is None else [(b"Retry-After", again)]


class Body:
    """A request body on its way in: fed by the parser, read by one exchange, with back-pressure.

    Args:
        flow: Called with true when too much lies here unread, with false when that is over.
        wanted: Called once, when the body is first waited for (``100 Continue`` goes out then).
    """

    __slots__ = (
        "_arrived", "_flow", "_full", "_high", "_parts", "_size", "_wanted", "complete", "gone", "unwanted",
    )  # fmt: skip

    def __init__(self, flow: Callable[[bool], None], wanted: Callable[[], None], high: int) -> None:
        self._flow = flow
        self._wanted: Callable[[], None] | None = wanted
        self._high = high
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._full = False
        self._arrived: anyio.Event | None = None
        self.complete = False
        self.gone = False
        self.unwanted: int | None = None
        """Bytes that were thrown away since nobody wanted the rest; ``None`` while somebody may."""

    @property
    def asked_for(self) -> bool:
        """Whether somebody waited for it, so that a client that asked is told to go on."""
        return self._wanted is None

    def skip(self) -> None:
        """Throw away what lies here and what comes."""
        self.unwanted = 0
        self._parts.clear()
        self._size = 0
        if self._full:
            self._full = False
            self._flow(False)

    def feed(self, data: bytes) -> None:
        """The parser got a piece."""
        if self.unwanted is not None:
            self.unwanted += len(data)
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._high and not self._full:
            self._full = True
            self._flow(True)
        self._wake()

    def finish(self) -> None:
        """The parser got the end."""
        self.complete = True
        self._wake()

    def lose(self) -> None:
        """The connection ended first."""
        self.gone = True
        self._wake()

    async def next(self) -> bytes | None:
        """Everything that came since the last call, waiting for some; ``None`` at the end.

        Raises:
            ClientGone: The connection ended before the body did.
        """
        while not self._parts:
            if self.complete:
                return None
            if self.gone:
                raise ClientGone
            if self._wanted is not None:
                self._wanted()
                self._wanted = None
            self._arrived = anyio.Event()
            await self._arrived.wait()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if self._full:
            self._full = False
            self._flow(False)
        return data

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: It is longer than ``limit``.
            ClientGone: The connection ended before the body did.
        """
        data, more = await self.read_some(limit)
        if more:
            raise BodyTooLarge
        return data

    async def read_some(self, limit: int) -> tuple[bytes, bool]:
        """The body up to a little over ``limit`` bytes, and whether there may be more of it."""
        parts: list[bytes] = []
        size = 0
        while size <= limit:
            data = await self.next()
            if data is None:
                return b"".join(parts), False
            parts.append(data)
            size += len(data)
        return b"".join(parts), True

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()
            self._arrived = None


@dataclass(slots=True)
class Request:
    """One request of a client, its head complete."""

    method: str
    target: bytes
    headers: list[Header]
    body: Body
    keep_alive: bool
    old: bool = False
    """HTTP/1.0: no chunked answers."""
    expects_continue: bool = False
    length: int | None = None
    """Declared body length."""
    chunked: bool = False
    head: bytes = b""
    """Its bytes, without the digits of the length, where it came whole and alone (see ``shortcuts.py``)."""

    @property
    def has_body(self) -> bool:
        """Whether a body was announced."""
        return self.chunked or self.length is not None


@dataclass(slots=True)
class ResponseHead:
    """The head of a provider's answer."""

    status: int
    reason: bytes
    headers: list[Header]
    length: int | None = None
    chunked: bool = False
    bodyless: bool = False
    """HEAD, 204 and 304: no body whatever the headers say."""
    lower: dict[bytes, bytes] = field(default_factory=dict)
    """The headers by lower-case name (the last one of each)."""
