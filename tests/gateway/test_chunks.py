"""An answer's chunks, however they arrive: the shortcut for whole ones and the parser agree."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.clock import SystemClock
from agenttop.core.gateway.dial import Dialer
from agenttop.core.gateway.http1 import ResponseHead
from agenttop.core.gateway.limits import Limits
from agenttop.core.gateway.pool import Pool
from agenttop.core.gateway.providers import Origin
from agenttop.core.gateway.upstream import UpstreamConnection

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """A connection that only takes note of its end."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Sink:
    """Takes an answer, and checks that whole chunks are what they are said to be."""

    def __init__(self) -> None:
        self.body = b""
        self.done = False
        self.lost = ""
        self.quick = 0

    def answer_head(self, head: ResponseHead) -> None:
        assert head.chunked

    def answer_data(self, data: bytes, last: bool) -> None:
        assert not self.done
        self.body += data
        self.done = last

    def answer_chunks(self, raw: bytes, data: bytes) -> None:
        assert not self.done
        parsed = receive([HEAD + raw], shortcut=False)
        assert (parsed.body, parsed.lost) == (data, "")
        self.quick += 1
        self.body += data

    def answer_lost(self, why: str) -> None:
        self.lost = why

    def request_room(self, room: bool) -> None: ...


def receive(pieces: list[bytes], *, shortcut: bool = True) -> Sink:
    limits = Limits()
    pool = Pool(Dialer({}, 1.0), limits, SystemClock())
    connection = UpstreamConnection(Origin("http", "x", 80), pool)
    sink = Sink()
    connection.connection_made(Wire())
    connection.begin(sink, "POST")
    for piece in pieces:
        connection._between = connection._between and shortcut
        if piece and not sink.lost:
            connection.data_received(piece)
    return sink


def cut(data: bytes, borders: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(border % (len(data) + 1) for border in borders)})
    return [data[a:b] for a, b in pairwise(at)]


# Bodies that look like framing are the hard ones.
BODY = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([b"\r\n", b"5\r\n", b"0\r\n\r\n", b"1\r\na\r\n", b"\n", b"a\r", b"3;x\r\n"]),
)
SIZE = st.sampled_from([b"%x\r\n", b"%X\r\n", b"0%x\r\n", b"%x;a=b\r\n", b"%x \r\n"])


@given(st.lists(st.tuples(BODY, SIZE), max_size=8), st.lists(st.integers(0, 2000), max_size=12))
def test_the_body_is_the_same_wherever_it_is_cut(
    chunks: list[tuple[bytes, bytes]], borders: list[int]
) -> None:
    parts = [size % len(body) + body + b"\r\n" for body, size in chunks]
    spoiled = any(size.endswith(b" \r\n") for _, size in chunks)
    whole = receive([HEAD + b"".join(parts) + b"0\r\n\r\n"])
    expected = b"".join(body for body, _ in chunks)
    if not spoiled or not whole.lost:
        assert (whole.body, whole.done) == (expected, True)
    for pieces in (
        cut(HEAD + b"".join(parts) + b"0\r\n\r\n", borders),
        [HEAD, *parts, b"0\r\n\r\n"],
        [HEAD + b"".join(parts[:1]), *parts[1:], b"0\r\n", b"\r\n"],
        [HEAD, *(half for part in parts for half in cut(part, borders)), b"0\r\nX: y\r\n\r\n"],
    ):
        got = receive(pieces)
        assert bool(got.lost) == bool(whole.lost)
        if not whole.lost:
            assert (got.body, got.done) == (expected, True)


@given(st.lists(st.one_of(BODY, st.sampled_from([b"5\r\nhello\r\n", b"0\r\n\r\n", b"zz\r\n"])), max_size=8))
def test_no_bytes_make_the_shortcut_see_what_the_parser_would_not(pieces: list[bytes]) -> None:
    slow = receive([HEAD + b"".join(pieces)])
    quick = receive([HEAD + b"1\r\na\r\n", *pieces])
    assert bool(quick.lost) == bool(slow.lost)
    if not slow.lost:
        assert (quick.body, quick.done) == (b"a" + slow.body, slow.done)


def test_whole_chunks_take_the_shortcut() -> None:
    parts = [b"5\r\nhello\r\n"] * 10
    assert receive([HEAD, *parts, b"0\r\n\r\n"]).quick == 9  # the parser saw the first
    assert receive([HEAD, parts[0], b"".join(parts), b"0\r\n\r\n"]).quick == 1
    assert receive([HEAD, parts[0], b"".join(parts) + b"0\r\n\r\n"]).quick == 0
