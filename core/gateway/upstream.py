"""A connection to a provider: one answer at a time, kept alive."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from .http1 import ResponseHead
from .providers import Origin

if TYPE_CHECKING:
    from .pool import Pool

_HEAD_LIMIT = 256 << 10
_CHUNK_SIZE = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,6})\r\n").match
"""The size line of a chunk without extensions, as all known providers send them."""


#: By the length of a piece: the size line it begins with if it is a single chunk in the plainest form.
_SIZES = {len(b"%x" % size) + size + 4: b"%x\r\n" % size for size in range(1, 2_048)}


class AnswerSink(Protocol):
    """Where an answer goes as it arrives. Called on the loop, never after ``answer_lost``."""

    def answer_head(self, head: ResponseHead) -> None:
        """The head is complete."""
        ...

    def answer_data(self, data: bytes, last: bool) -> None:
        """A piece of the body; the last one may be empty."""
        ...

    def answer_chunks(self, raw: bytes, data: bytes) -> None:
        """A piece of the body, not the last: ``raw`` is whole chunks, with ``data`` in them."""
        ...

    def answer_lost(self, why: str) -> None:
        """The connection ended before the answer did."""
        ...

    def request_room(self, room: bool) -> None:
        """Whether more of the request may be written now."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to a provider."""

    def __init__(self, origin: Origin, pool: Pool) -> None:
        self.origin = origin
        self.used = 0
        self.idle_since = 0.0
        self.sending = False
        """The request is not complete yet; an answer that comes sooner ends the connection."""
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._sink: AnswerSink | None = None
        self._paused = False
        self._method = ""
        self._draining = 0
        """Bytes of the present answer that are still read although nobody wants it."""
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._head: ResponseHead | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._pieces: list[bytes] = []
        self._head_done = False
        self._head_told = False
        self._head_bytes = 0
        self._complete = False
        self._reusable = False
        self._between = False
        """All chunks that came are complete, and nothing of the next one is here."""

    # --- for the exchange

    @property
    def closing(self) -> bool:
        """No further request can be sent here."""
        return self._transport is None or self._transport.is_closing()

    @property
    def touched(self) -> bool:
        """Whether any byte of the present answer was seen."""
        return self._head_bytes > 0

    def begin(self, sink: AnswerSink, method: str) -> None:
        """The next answer belongs to ``sink``."""
        self._sink = sink
        self._method = method
        self.used += 1

    def send(self, *parts: bytes) -> None:
        """Write a part of the request."""
        if self._transport is not None:
            self._transport.writelines([part for part in parts if part])

    def pause(self) -> None:
        """Stop reading: the client is slower, or the last chunk is being withheld."""
        if not self._paused and not self.closing:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            if self._transport is not None and not self.closing:
                self._transport.resume_reading()

    def drain(self) -> None:
        """Nobody wants this answer: read its rest if that is short, and keep the connection, or drop that.

        The sink hears nothing more.
        """
        self._sink = None
        length = self._head.length if self._head is not None else None
        most = self._pool.limits.drain_bytes
        if self.sending or (length or 0) > most:
            self.abort()
            return
        self._draining = most
        self._pool.drained(self)
        self.resume()

    def release(self) -> None:
        """No request was sent here after all."""
        self._pool.give_back(self, True)

    def abort(self) -> None:
        """Drop the connection; the sink hears nothing more."""
        self._sink = None
        self._draining = 0
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._pool.limits.buffer_bytes)

    def data_received(self, data: bytes) -> None:
        """Some bytes of an answer."""
        if self._sink is None and not self._draining:
            self._drop()  # nobody asked: not to be trusted for another call
            return
        if self._between and self._sink is not None:
            # The usual piece of a stream is one chunk, or some. The parser need not see them: it stands
            # between two chunks before and after.
            size = _SIZES.get(len(data))
            if size is not None and data.startswith(size) and data.endswith(b"\r\n"):
                self._sink.answer_chunks(data, data[len(size) : -2])
                return
            content = _content(data)
            if content is not None:
                self._sink.answer_chunks(data, content)
                return
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self._lose(f"the provider did not speak HTTP/1.1: {error}")
                return
            self._reusable = False
        if not self._head_done and self._head_bytes > _HEAD_LIMIT:
            self._lose("the provider's headers were too long")
            return
        # Only whole lines: half a size line would have made no callback yet.
        self._between = self._between and self._head_told and data.endswith(b"\r\n")
        self._deliver()

    def eof_received(self) -> bool:
        """The provider will send no more; close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = None
        self._pool.remove(self)
        head = self._head
        if (
            head is not None
            and exc is None
            and not head.chunked
            and head.length is None
            and not self._complete
        ):
            self._complete = True  # a body without a length ends with the connection
            self._deliver()
        else:
            self._lose((exc and str(exc)) or "the provider closed the connection")

    def pause_writing(self) -> None:
        """The provider is slow to read the request."""
        if self._sink is not None:
            self._sink.request_room(False)

    def resume_writing(self) -> None:
        """The provider reads again."""
        if self._sink is not None:
            self._sink.request_room(True)

    # --- httptools

    def on_message_begin(self) -> None:
        """A status line begins; a second one after the answer is not ours."""
        if self._complete:
            raise httptools.HttpParserError("more than one answer")
        self._headers = []
        self._reason = b""

    def on_status(self, status: bytes) -> None:
        """A part of the reason phrase."""
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are dropped."""
        if not self._head_done:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete; 1xx ones are not passed on."""
        status = self._parser.get_status_code()
        if status < 200:
            return
        lower = {name.lower(): value for name, value in self._headers}
        length = lower.get(b"content-length", b"").strip()
        head = ResponseHead(status, self._reason, self._headers, lower=lower)
        head.chunked = b"transfer-encoding" in lower
        if head.chunked and lower[b"transfer-encoding"].strip().lower() != b"chunked":
            raise httptools.HttpParserError("an unknown transfer coding")
        head.length = int(length) if length.isdigit() and not head.chunked else None
        head.bodyless = self._method == "HEAD" or status in (204, 304)
        self._head = head
        self._head_done = True
        if head.bodyless:
            # The parser would wait for the body a HEAD's Content-Length speaks of: the connection ends here.
            self._complete = True

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if not self._complete:
            self._pieces.append(data)

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._between = False

    def on_chunk_complete(self) -> None:
        """A chunk is complete."""
        self._between = True

    def on_message_complete(self) -> None:
        """The answer is complete, or it was a 1xx one."""
        self._between = False
        if self._head_done and not (self._head and self._head.bodyless and self._method == "HEAD"):
            self._complete = True
            self._reusable = self._parser.should_keep_alive()

    # --- inside

    def _deliver(self) -> None:
        if self._head is None:
            return
        if not self._head_told and self._sink is not None:
            self._head_told = True
            self._sink.answer_head(self._head)
        pieces = self._pieces
        if not pieces and not self._complete:
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        sink, last = self._sink, self._complete  # the head's reader may have let go of the answer
        if sink is None and not self._draining:
            return
        if last:
            self._sink = None
            self._draining = 0
            self._pool.give_back(self, self._reusable and not self.sending and not self._head.bodyless)
        if sink is not None:
            sink.answer_data(data, last)
        elif not last:
            self._draining -= len(data)
            if self._draining <= 0:
                self.abort()

    def _lose(self, why: str) -> None:
        sink, self._sink = self._sink, None
        self._drop()
        if sink is not None:
            sink.answer_lost(why)

    def _drop(self) -> None:
        self._pool.remove(self)
        if self._transport is not None:
            self._transport.abort()


class Room:
    """Whether more of a request may be written; what ``AnswerSink.request_room`` tells is kept here."""

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free: asyncio.Event | None = None

    def set(self, room: bool) -> None:
        """There is room, or none."""
        if not room and self._free is None:
            self._free = asyncio.Event()
        elif room and self._free is not None:
            self._free.set()
            self._free = None

    async def wait(self) -> None:
        """Return when there is room."""
        while self._free is not None:
            await self._free.wait()


def _content(data: bytes) -> bytes | None:
    """What is in ``data``, if that is nothing but whole chunks of the plainest form and not the last one."""
    parts: list[bytes] = []
    at, length = 0, len(data)
    while at < length:
        size = _CHUNK_SIZE(data, at)
        if size is None:
            return None
        start = size.end()
        end = start + int(size[1], 16)
        if data[end : end + 2] != b"\r\n":
            return None
        at = end + 2
        if at == length and not parts:
            return data[start:end]
        parts.append(data[start:end])
    return b"".join(parts)
