"""The client's side: HTTP/1.1 as agents speak it, one request at a time per connection."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import Protocol, cast

import httptools

from ..clock import Clock
from .http1 import LAST_CHUNK, Body, Header, Request, chunk, headers_of, reason, render
from .limits import Limits
from .shortcuts import Shortcuts, alone

log = logging.getLogger("agenttop.gateway")


_CHUNK_COST = 32


class Handler(Protocol):
    """What becomes of one request. Its end is ``ClientConnection.answered``."""

    def client_gone(self) -> None:
        """The connection ended; nothing can be answered any more."""
        ...

    def client_room(self, room: bool) -> None:
        """Whether the client takes more of the answer now."""
        ...


class Acceptor(Protocol):
    """Who takes requests."""

    limits: Limits
    clock: Clock

    def opened(self, connection: ClientConnection) -> bool:
        """A client connected; false turns it away."""
        ...

    def closed(self, connection: ClientConnection) -> None:
        """A client's connection ended."""
        ...

    def accept(self, connection: ClientConnection, request: Request) -> Handler:
        """Begin to work on a request."""
        ...


class _Refuse(Exception):
    """The request cannot be served and the connection cannot go on."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ClientConnection(asyncio.Protocol):
    """One connection of an agent."""

    def __init__(self, acceptor: Acceptor, key: str) -> None:
        self.key = key
        self.full = False
        self.agent: str | None = None
        """Whose connection this is, once a request has shown that agent's secret with right."""
        self.shortcuts = Shortcuts()
        self.short = False
        """Whether the present answer is that of a call which was begun without a task."""
        self._head = b""
        self._acceptor = acceptor
        self._limits = acceptor.limits
        self._clock = acceptor.clock
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[Request] = deque()
        self._handler: Handler | None = None
        self._current: Request | None = None
        self._receiving: Request | None = None
        self._target = b""
        self._headers: list[Header] = []
        self._head_bytes = 0
        self._in_head = False
        self._flooded = False
        self._paused = False
        self._refusal: _Refuse | None = None
        self._lingering = False
        self._closing = False
        self._since = 0.0
        self._chunked = False
        self._unframed = False
        self._started = False
        self._swallowed = 0
        self._framing = 0
        """Bytes of the present request body's chunked coding, less those of its content."""

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._since = self._clock.monotonic()
        if not self._acceptor.opened(self):
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=self._limits.buffer_bytes)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request."""
        if self._lingering or self._refusal is not None:
            self._swallow(data)
            return
        self._head = b""
        if self._handler is None and (call := alone(data)) is not None and self._idle:
            if self._begin(data, *call):
                return
            self._head = call[0]
        if self._in_head:
            self._head_bytes += len(data)
        else:
            self._head_bytes = len(data) if self._receiving is None else 0
            self._since = self._clock.monotonic()
        chunked = self._receiving if self._receiving is not None and self._receiving.chunked else None
        try:
            self._parser.feed_data(data)
            if self._in_head and self._head_bytes > self._limits.head_bytes:
                raise _Refuse(431, "the headers are too long")
            if chunked is not None and chunked is self._receiving:
                self._framing += len(data)
                if self._framing > self._limits.head_bytes:
                    raise _Refuse(400, "the chunked coding of the body is longer than it need be")
        except httptools.HttpParserUpgrade:
            self._refuse(_Refuse(426, "this server speaks HTTP/1.1 only"))  # CONNECT
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, _Refuse):
                log.error("a request could not be taken", exc_info=cause)
                cause = _Refuse(500, "the request could not be taken; the kernel's log says why")
            self._refuse(cause)
        except httptools.HttpParserError:
            self._refuse(_Refuse(400, "the request is not HTTP/1.1"))
        except _Refuse as refusal:
            self._refuse(refusal)

    def eof_received(self) -> bool:
        """The client sends no more. As with other proxies, that means that it left."""
        if self._transport is not None and self._handler is not None:
            self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._transport = None
        self._acceptor.closed(self)
        self._queue.clear()
        if self._receiving is not None:
            self._receiving.body.lose()
        if self._handler is not None:
            self._handler.client_gone()

    def pause_writing(self) -> None:
        """The client reads more slowly than its answer comes."""
        self.full = True
        if self._handler is not None:
            self._handler.client_room(False)

    def resume_writing(self) -> None:
        """The client caught up."""
        self.full = False
        if self._handler is not None:
            self._handler.client_room(True)
        self._steer()

    # --- httptools

    def on_message_begin(self) -> None:
        """A request line begins."""
        self._in_head = True
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._target += url
        if len(self._target) > self._limits.head_bytes:
            raise _Refuse(414, "the path is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are dropped."""
        if self._in_head:
            self._headers.append((name, value))
            if len(self._headers) > self._limits.headers:
                raise _Refuse(431, "there are too many headers")

    def on_headers_complete(self) -> None:
        """A request's head is complete."""
        self._in_head = False
        if sum(len(n) + len(v) for n, v in self._headers) > self._limits.head_bytes:
            raise _Refuse(431, "the headers are too long")
        if self._parser.should_upgrade():
            raise _Refuse(426, "this server speaks HTTP/1.1 only; no upgrade, no WebSocket")
        if len(self._queue) >= self._limits.pipelined:
            raise _Refuse(400, "too many requests were sent ahead")
        body = Body(self._flood, self._continue, self._limits.buffer_bytes)
        request = Request(
            method=self._parser.get_method().decode("ascii"),
            target=self._target,
            headers=self._headers,
            body=body,
            keep_alive=self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1",
            old=self._parser.get_http_version() != "1.1",
            head=self._head,
        )
        for name, value in self._headers:
            lower = name.lower()
            if lower == b"content-length":
                request.length = int(value)
            elif lower == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    raise _Refuse(501, "only the chunked transfer coding is understood")
                request.chunked = True
            elif lower == b"expect":
                if value.strip().lower() != b"100-continue":
                    raise _Refuse(417, "only Expect: 100-continue is understood")
                request.expects_continue = not request.old
        self._head = b""
        self._receiving = request
        self._framing = 0
        self._queue.append(request)
        if self._handler is None:
            self._next()
        else:
            self._steer()

    def on_body(self, data: bytes) -> None:
        """A piece of a request body."""
        receiving = self._receiving
        if receiving is None:
            return
        self._framing -= len(data)
        receiving.body.feed(data)
        if (receiving.body.unwanted or 0) > self._limits.skip_bytes:
            self._linger()

    def on_chunk_header(self) -> None:
        """A chunk begins; its size, an extension of a few bytes and its ends are what the coding costs."""
        self._framing -= _CHUNK_COST

    def on_message_complete(self) -> None:
        """A request is complete."""
        receiving, self._receiving = self._receiving, None
        if receiving is None:
            return
        receiving.body.finish()
        if receiving.body.unwanted is not None and self._closing and self._transport is not None:
            self._transport.close()

    # --- for the exchange

    @property
    def gone(self) -> bool:
        """Nothing can be answered any more."""
        return self._transport is None or self._transport.is_closing()

    def busy_with(self, handler: Handler) -> bool:
        """Whether ``handler`` still owes the answer."""
        return self._handler is handler

    @property
    def started(self) -> bool:
        """Whether the head of the present answer was written."""
        return self._started

    def start(
        self,
        status: int,
        phrase: bytes,
        headers: list[Header],
        *,
        length: int | None,
        bodyless: bool,
        body: bytes = b"",
    ) -> None:
        """Write the head of the answer.

        Args:
            length: Bytes of body to come, if that is known; then ``headers`` has a Content-Length.
            bodyless: There will be no body at all.
            body: All of it, where it is there already and has a length: one write is half the cost of two.
        """
        request = self._current
        assert request is not None
        self._started = True
        self._chunked = length is None and not bodyless and not request.old
        self._unframed = length is None and not bodyless and request.old
        if self._chunked:
            headers = [*headers, (b"Transfer-Encoding", b"chunked")]
        unread = request is self._receiving and not self._skippable(request)
        if not request.keep_alive or self._closing or self._unframed or unread:
            request.keep_alive = False
            headers = [*headers, (b"Connection", b"close")]
        self._write(render(b"HTTP/1.1 %d %b" % (status, phrase), headers) + body)

    def write(self, data: bytes) -> None:
        """Write a part of the body."""
        if data:
            self._write(chunk(data) if self._chunked else data)

    @property
    def chunked(self) -> bool:
        """Whether the answer's body is written in chunks."""
        return self._chunked

    def pass_chunks(self, raw: bytes) -> None:
        """Write a part of a chunked body that is in chunks already."""
        if self._transport is not None:
            self._transport.write(raw)

    def answered(self, data: bytes = b"") -> None:
        """Write the last part of the body: the request is done with."""
        if self._chunked:
            self._write(chunk(data) + LAST_CHUNK)
        elif data:
            self._write(data)
        request, self._current, self._handler = self._current, None, None
        self._since = self._clock.monotonic()
        if request is None or self._transport is None:
            return
        if request is self._receiving:
            if self._skippable(request):
                request.body.skip()
                self._steer()
            else:
                self._linger()
        elif not request.keep_alive:
            self._transport.close()
        else:
            self._go_on()

    def reply(self, status: int, body: bytes, headers: list[Header] | None = None) -> None:
        """Write a whole answer of the gateway's own."""
        bodyless = self._current is not None and self._current.method == "HEAD"
        own = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        headers = [*own, *headers] if headers else own
        sent = b"" if bodyless else body
        self.start(status, reason(status), headers, length=len(body), bodyless=bodyless, body=sent)
        self.answered()

    def told(self, status: int, body: bytes) -> None:
        """Write the whole answer of a call that was begun without a task."""
        self.short = False
        self._handler = None
        self._since = self._clock.monotonic()
        if self._transport is None or self._transport.is_closing():
            return
        if status == 200 and not self._closing:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            self._transport.write(head % len(body) + body)
        else:
            headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
            headers += headers_of(status)
            if self._closing:
                headers.append((b"Connection", b"close"))
            self._write(render(b"HTTP/1.1 %d %b" % (status, reason(status)), headers) + body)
        self._go_on()

    def drop_short(self) -> None:
        """Give up a call that was begun without a task; its client sees the connection end."""
        if self.short and self._handler is not None:
            handler = self._handler
            self.cut()
            self.short = False
            handler.client_gone()

    def cut(self) -> None:
        """End the connection so that the client sees the answer is incomplete; what was written goes out."""
        self._current = self._handler = None
        if self._transport is None:
            return
        if self._refusal is not None and not self._started:
            self._answer_refusal()
        elif self._unframed:
            # Without a length or chunks the end of the connection would look like the end of the
            # answer: only a reset does not.
            _reset_on_close(self._transport)
            self._transport.abort()
        else:
            self._transport.close()

    # --- for the gateway

    @property
    def ends(self) -> tuple[object, object]:
        """Our address of the connection, and the client's; ``None`` where there is none any more."""
        if self._transport is None:
            return None, None
        return self._transport.get_extra_info("sockname"), self._transport.get_extra_info("peername")

    def shut(self) -> None:
        """Take no further request; an idle connection ends now."""
        self._closing = True
        if self._handler is None and self._transport is not None and not self._lingering:
            self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now: float, frozen: float = 0.0) -> None:
        """Act on what took too long; ``frozen`` seconds since the last time do not count."""
        self._since += frozen
        waited = now - self._since
        limits = self._limits
        if self._transport is None:
            return
        if self._lingering:
            if waited > limits.linger_seconds:
                self._transport.abort()
        elif self._receiving is not None:
            skipping = self._receiving.body.unwanted is not None
            if waited > (limits.linger_seconds if skipping else limits.body_seconds) and not self._paused:
                self._transport.abort()
        elif self._handler is not None:
            return
        elif self._in_head:
            if waited > limits.head_seconds:
                self._refuse(_Refuse(408, "the headers did not come"))
        elif waited > limits.idle_seconds:
            self._transport.close()

    # --- inside

    @property
    def _idle(self) -> bool:
        """Whether what comes now is a request from its first byte on, with none to be answered before."""
        nothing = self._receiving is None and not self._in_head and not self._queue
        return nothing and self._refusal is None and not self.full and not self._closing

    def _begin(self, data: bytes, head: bytes, body: int) -> bool:
        """Begin a call whose like was made on this connection before; false if it is to be parsed."""
        known = self.shortcuts.find(head)
        if known is None or known[0] != self.agent or len(data) - body > self._limits.syscall_bytes:
            return False
        call = known[1](known[0], data[body:], self.told)
        if call is None:
            return False
        if not call.done:
            self.short = True
            self._handler = call
            self._since = self._clock.monotonic()
        return True

    def _go_on(self) -> None:
        """An answer is complete: what is next?"""
        if self._transport is None:
            return
        if self._closing:
            self._transport.close()
        elif self._queue:
            self._next()
        elif self._refusal is not None:
            self._answer_refusal()
        else:
            self._steer()

    def _next(self) -> None:
        self._current = self._queue.popleft()
        self._started = self._unframed = False
        self._handler = self._acceptor.accept(self, self._current)
        self._steer()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _flood(self, full: bool) -> None:
        self._flooded = full
        self._since = self._clock.monotonic()
        self._steer()

    def _steer(self) -> None:
        """Read while somebody wants what comes, and not further than one request ahead."""
        stop = self._flooded or bool(self._queue) or (self.full and self._handler is None)
        if self._transport is None or stop == self._paused or self._transport.is_closing():
            return
        self._paused = stop
        if stop:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _continue(self) -> None:
        if self._current is not None and self._current.expects_continue:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, refusal: _Refuse) -> None:
        """Answer once what came before is answered; then no more."""
        self._refusal = refusal
        broken, self._receiving = self._receiving, None
        if broken is not None and broken.body is not None and not broken.body.complete:
            broken.body.lose()
        if self._handler is None:
            self._answer_refusal()

    def _answer_refusal(self) -> None:
        refusal = self._refusal
        if refusal is None or self._transport is None:
            return
        body = b'{"type":"error","error":{"type":"invalid_request_error","message":"agenttop: %b"}}' % (
            refusal.message.encode()
        )
        headers = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Connection", b"close"),
            (b"x-should-retry", b"false"),
        ]
        if refusal.status == 426:
            headers.append((b"Upgrade", b"HTTP/1.1"))
        self._write(render(b"HTTP/1.1 %d %b" % (refusal.status, reason(refusal.status)), headers) + body)
        self._linger()

    def _skippable(self, request: Request) -> bool:
        """Whether the rest of this body, unwanted, is short enough to wait for the next request behind it."""
        waits = request.expects_continue and not request.body.asked_for
        short = request.chunked or (request.length or 0) <= self._limits.skip_bytes
        return request.keep_alive and short and not waits and not self._closing

    def _swallow(self, data: bytes) -> None:
        """Nobody wants this; of a client that goes on and on no more is read, until its time is up."""
        self._swallowed += len(data)
        if self._swallowed > self._limits.skip_bytes and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _linger(self) -> None:
        """Close, but read on for a while: data that meets a closed socket would reset it, answer and all."""
        if self._receiving is not None:
            self._receiving.body.lose()
            self._receiving = None
        self._lingering = True
        self._since = self._clock.monotonic()
        if self._transport is None:
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._transport.write_eof()


def _reset_on_close(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
