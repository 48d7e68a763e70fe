"""One answer on its way from a provider to a client, with back-pressure and a last chunk that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from ..clock import Clock
from .http1 import ResponseHead, end_to_end
from .protocols.base import StreamFilter
from .server import ClientConnection
from .tap import Tap
from .upstream import Room, UpstreamConnection

Ending = Literal["complete", "last", "again", "upstream_cut", "client_cut", "timeout", "shutdown"]
"""How an answer ended: its body is complete; its last event was seen; it is not to be passed on at all;
or why none of these happened."""

Decide = Callable[[ResponseHead], bool]
"""Whether the answer with this head is passed on."""

_LENGTH = frozenset({b"content-length"})


def is_plain_stream(head: ResponseHead) -> bool:
    """Whether this is an event stream that can be cut into events as it comes."""
    lower = head.lower
    return lower.get(b"content-type", b"").lower().startswith(b"text/event-stream") and lower.get(
        b"content-encoding", b""
    ).strip().lower() in (b"", b"identity")


class Relay:
    """Passes an answer on. With a tap, the end of the answer is kept back until ``release``.

    Args:
        tap: Reads along; ``None`` for calls that are not metered.
        decide: Asked about the head before the client sees any of it.
        strip: Takes something out of what the client gets, if it is a plain event stream.

    Attributes:
        muted: The client has the head of a stream already, and this answer is none: it gets nothing of it.
    """

    def __init__(
        self,
        client: ClientConnection,
        tap: Tap | None,
        clock: Clock,
        *,
        decide: Decide | None = None,
        strip: StreamFilter | None = None,
    ) -> None:
        self.head: ResponseHead | None = None
        self.ending: Ending | None = None
        self.why = ""
        self.first_at: float | None = None
        self.room = Room()
        self.muted = False
        self._seen = True
        """Something came since the last look."""
        self._seen_at = 0.0
        self._read: Callable[[bytes], int | None] | None = None
        """The tap's reader, while chunks may pass as they come."""
        self._client = client
        self._tap = tap
        self._clock = clock
        self._decide = decide
        self._strip = strip
        self._upstream: UpstreamConnection | None = None
        self._held: list[bytes] = []
        self._holding = False
        self._client_full = client.full
        self._last = False
        self._broken = False
        self._turned = asyncio.Event()
        self._over = asyncio.Event()

    def attach(self, upstream: UpstreamConnection) -> None:
        """The answer comes from here."""
        self._upstream = upstream
        if self._client_full:
            upstream.pause()
        self._seen = True

    def retry(self) -> None:
        """Nothing was seen of the answer: another connection will be tried."""
        self.ending, self.why = None, ""
        self._broken = False
        self._turned, self._over = asyncio.Event(), asyncio.Event()
        self.room.set(True)

    def seen(self) -> None:
        """There is life at the other end."""
        self._seen = True

    def silent(self, now: float, frozen: float) -> float:
        """Seconds for which the provider has kept everybody waiting, as far as ticks can tell.

        Args:
            frozen: Seconds since the last look that do not count.
        """
        waiting = not (self._holding or self._client_full or self._last or self._over.is_set())
        if self._seen or not waiting:
            self._seen = False
            self._seen_at = now
        else:
            self._seen_at += frozen
        return now - self._seen_at

    @property
    def begun(self) -> bool:
        """Whether the client has something of this answer."""
        return self.head is not None and not self.muted

    async def turn(self) -> Ending:
        """Wait for the end: with a tap, for the point where the call can be settled."""
        await self._turned.wait()
        assert self.ending is not None
        return self.ending

    def release(self) -> None:
        """The call is settled: pass on what was kept back."""
        self._holding = False
        held, self._held = b"".join(self._held), []
        if self._last:
            self._finish(held)
            return
        self._pass(held)
        if self._broken:
            self._over.set()
        elif self._upstream is not None and not self._client_full:
            self._seen = True
            self._upstream.resume()

    async def over(self) -> bool:
        """Wait until the client has the whole answer; false if that was not to be."""
        await self._over.wait()
        return not self._broken

    def stop(self, ending: Ending, why: str = "") -> None:
        """Give the answer up: the provider is not listened to any longer."""
        if self._upstream is not None and not self._last:
            self._upstream.abort()
        self._break(ending, why)

    # --- AnswerSink

    def answer_head(self, head: ResponseHead) -> None:
        """Pass the head on, unless this answer is not for the client."""
        self._seen = True
        if self._decide is not None and not self._decide(head):
            assert self._upstream is not None
            self._upstream.drain()
            self._upstream = None  # it may serve another call by now
            self._end("again")
            self._over.set()
            return
        self.head = head
        if self._tap is not None:
            self._tap.head(head)
        stream = is_plain_stream(head)
        if self._client.started:  # by keep-alives
            self._muted(stream and 200 <= head.status < 300)
            return
        if not stream:
            self._strip = None
        framed = head.bodyless or (head.length is not None and self._strip is None)
        headers = end_to_end(head.headers, frozenset() if framed else _LENGTH)
        length = 0 if head.bodyless else head.length if framed else None
        self._client.start(head.status, head.reason, headers, length=length, bodyless=head.bodyless)
        self._hurry()

    def answer_chunks(self, raw: bytes, data: bytes) -> None:
        """Pass chunks on as they came, if that can be."""
        read = self._read
        if read is None:
            self.answer_data(data, False)
            return
        self._seen = True
        cut = read(data)
        if cut is not None:
            self._note_first()
            self._hold(data, cut)
            return
        self._client.pass_chunks(raw)
        if self.first_at is None:
            self._note_first()

    def answer_data(self, data: bytes, last: bool) -> None:
        """Pass a piece on, or keep it back."""
        self._seen = True
        self._last = last
        if self._holding:
            self._held.append(data)
            return
        tap = self._tap
        if tap is not None:
            cut = tap.feed(data, last)
            self._note_first()
            if cut is not None:
                self._hold(data, cut)
                return
        if last:
            self._finish(data)
        else:
            self._pass(data)

    def answer_lost(self, why: str) -> None:
        """The provider's connection ended too early."""
        self._break("upstream_cut", why)

    def request_room(self, room: bool) -> None:
        """The provider reads the request, or does not."""
        self.room.set(room)

    # --- the client

    def client_room(self, room: bool) -> None:
        """The client reads the answer, or does not."""
        self._client_full = not room
        if self._upstream is None or self._holding or self._last:
            return
        if room:
            self._seen = True
            self._upstream.resume()
        else:
            self._upstream.pause()

    # --- inside

    def _muted(self, fits: bool) -> None:
        self.muted = not fits
        if self.muted:
            self._strip = None
        else:
            self._hurry()

    def _hurry(self) -> None:
        if self._tap is not None and self._strip is None and self._client.chunked:
            self._read = self._tap.direct

    def _note_first(self) -> None:
        if self.first_at is None and self._tap is not None and self._tap.answered:
            self.first_at = self._clock.monotonic()

    def _pass(self, data: bytes) -> None:
        if self.muted:
            return
        if self._strip is not None:
            data = self._strip.feed(data, False)
        self._client.write(data)

    def _hold(self, data: bytes, cut: int) -> None:
        self._tap = self._read = None
        self._pass(data[:cut])
        self._held = [data[cut:]]
        self._holding = True
        if not self._last and self._upstream is not None:
            self._upstream.pause()
        self._end("complete" if self._last else "last")

    def _finish(self, data: bytes = b"") -> None:
        self._end("complete")
        self._over.set()
        if self.muted:
            return  # whoever sent the head ends the stream
        if self._strip is not None:
            data = self._strip.feed(data, True)
        self._client.answered(data)

    def _break(self, ending: Ending, why: str) -> None:
        self._broken = True
        if self.ending is None:
            self.why = why
        self._end(ending)
        if not self._holding:
            self._over.set()
        self.room.set(True)

    def _end(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
        self._turned.set()
