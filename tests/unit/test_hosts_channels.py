"""Frames on a line, and the brake of a channel."""

from __future__ import annotations

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.hosts.channels import (
    LONGEST,
    PIECE,
    WINDOW,
    Channel,
    FrameReader,
    Garbled,
    Kind,
    Relay,
    frame,
)

pytestmark = pytest.mark.anyio

FRAMES = st.lists(
    st.tuples(st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=20
)


@given(FRAMES, st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_frames_arrive_whole_however_they_are_cut(
    frames: list[tuple[Kind, int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(frame(*one) for one in frames)
    reader, found, place, turn = FrameReader(), [], 0, 0
    while place < len(data):
        size = cuts[turn % len(cuts)]
        found += list(reader.feed(data[place : place + size]))
        place, turn = place + size, turn + 1
    assert found == frames


@pytest.mark.parametrize("head", [b"Welcome to box!\n", struct.pack("!BII", 4, 1, LONGEST + 1)])
def test_what_are_not_frames_is_refused(head: bytes) -> None:
    with pytest.raises(Garbled):
        list(FrameReader().feed(head))


class Reader(asyncio.Protocol):
    """Takes what a channel gives, and notes its end."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.lost: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Wire:
    """The frames one end sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Kind, int, bytes]] = []
        self.left: list[int] = []

    def send(self, kind: Kind, number: int, payload: bytes) -> None:
        self.sent.append((kind, number, payload))

    def granted(self) -> int:
        return sum(struct.unpack("!I", payload)[0] for kind, _, payload in self.sent if kind == Kind.MORE)


async def test_a_reader_that_pauses_grants_nothing_and_misses_nothing() -> None:
    wire, reader = Wire(), Reader()
    channel = Channel(1, wire.send, wire.left.append)
    channel.serve(reader)
    channel.pause_reading()
    data = bytes(range(256)) * 512
    for start in range(0, len(data), PIECE):
        channel.arrived(data[start : start + PIECE])
    assert reader.got == b""
    assert wire.granted() == 0
    channel.resume_reading()
    assert reader.got == data
    assert 0 < wire.granted() <= len(data)
    channel.lost(None)
    channel.lost(None)
    await asyncio.sleep(0)
    assert reader.lost == [None]
    assert wire.left == [1]
    channel.write(b"too late")
    assert Kind.DATA not in [kind for kind, _, _ in wire.sent]


async def test_what_came_before_the_end_is_delivered_before_it() -> None:
    wire, reader = Wire(), Reader()
    channel = Channel(1, wire.send, wire.left.append)
    channel.serve(reader)
    channel.pause_reading()
    channel.arrived(b"last words")
    channel.lost(None)
    assert reader.got == b"last words"
    await asyncio.sleep(0)
    assert reader.lost == [None]


class Socket(asyncio.Transport):
    """The bridge's connection to a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False
        self.written = bytearray()
        self.aborted = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=30))
def test_a_kernel_is_read_only_as_far_as_the_window_reaches(sizes: list[int]) -> None:
    wire, socket = Wire(), Socket()
    relay = Relay(7, wire.send, wire.left.append)
    relay.arrived(b"early")
    relay.connection_made(socket)
    assert socket.written == b"early"
    sent, granted = 0, WINDOW
    for size in sizes:
        while socket.paused:
            relay.more(struct.pack("!I", 64 << 10))
            granted += 64 << 10
            assert socket.paused == (sent >= granted)
        relay.data_received(b"x" * size)
        sent += size
        assert socket.paused == (sent >= granted)
    payloads = [payload for kind, _, payload in wire.sent if kind == Kind.DATA]
    assert sum(map(len, payloads)) == sent
    assert max(map(len, payloads)) <= PIECE


async def test_a_client_that_hangs_up_before_the_kernel_accepts_is_not_connected() -> None:
    wire, socket = Wire(), Socket()
    relay = Relay(7, wire.send, wire.left.append)
    relay.shut()
    relay.connection_made(socket)
    assert socket.aborted
    relay.connection_lost(None)
    assert wire.sent == []
    assert wire.left == [7]
