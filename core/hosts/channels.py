"""Several connections over one pair of pipes: what travels inside an ssh session.

A frame is a kind, a channel and a payload. The screen's end opens channels, the bridge's end connects
each of them to the kernel's control socket. Only what a kernel sends needs a brake: a channel's sender
stops after ``WINDOW`` bytes until it is told that some were taken (``MORE``), so that one long output
neither fills the memory nor stands in the way of the table. Requests are small and come one at a time.

Both ends send beats: bytes of any kind prove the line, silence condemns it.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any

from .. import __version__
from ..errors import KernelUnreachable

PROTOCOL = 1
MAGIC = b"\0agenttop bridge "
"""Begins the bridge's first line; what a shell's start files print before it is skipped."""

WINDOW = 256 << 10
"""Bytes of one channel that may be on their way."""
MOST_KEPT = 4 * WINDOW
"""Bytes that are kept of a channel whose reader pauses; the other end's last read goes past its window."""
PIECE = 32 << 10
"""Payload of the longest data frame."""
LONGEST = 4 << 20
"""Payload of the longest frame that is believed: an environment, at most."""

BEAT = 1.0
"""Seconds between two beats."""
SILENCE = 8
"""Beats without any byte from the other end after which the line is dead. They are counted, not timed:
a machine that slept has not listened in vain meanwhile."""

_HEAD = struct.Struct("!BII")
_COUNT = struct.Struct("!I")


class Kind(IntEnum):
    """What a frame is."""

    BEAT = 0
    WAKE = 1
    """To the bridge: see that a kernel runs, and say who it is."""
    AWAKE = 2
    """Its answer: JSON, ``{"there": …}`` or ``{"error": …}``."""
    OPEN = 3
    DATA = 4
    MORE = 5
    SHUT = 6
    """The channel is over; the payload, if any, is the error as JSON."""


Frame = tuple[int, int, bytes]


def greeting() -> bytes:
    """The bridge's first line."""
    return MAGIC + f"{PROTOCOL} {__version__}\n".encode()


def frame(kind: Kind, channel: int = 0, payload: bytes = b"") -> bytes:
    """One frame's bytes."""
    return _HEAD.pack(kind, channel, len(payload)) + payload


class Garbled(KernelUnreachable):
    """What came over the line are not frames."""


class FrameReader:
    """Bytes in any pieces → frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterable[Frame]:
        """The frames that ``data`` completes.

        Raises:
            Garbled: A frame no bridge sends.
        """
        self._rest += data
        place = 0
        while len(self._rest) - place >= _HEAD.size:
            kind, channel, length = _HEAD.unpack_from(self._rest, place)
            if length > LONGEST or kind > max(Kind):
                raise Garbled(
                    "the line carries something else", "Its bytes are not those of agenttop",
                    "Look for what writes to standard output in a shell's start files there",
                )  # fmt: skip
            if len(self._rest) - place - _HEAD.size < length:
                break
            place += _HEAD.size
            yield kind, channel, bytes(self._rest[place : place + length])
            place += length
        del self._rest[:place]


class Channel(asyncio.Transport):
    """The client's end of one connection to the kernel; its protocol takes it for a socket."""

    def __init__(self, number: int, send: Callable[[Kind, int, bytes], None], left: Callable[[int], None]):
        super().__init__()
        self._number = number
        self._send = send
        self._left = left
        self._protocol: asyncio.Protocol | None = None
        self._paused = False
        self._closing = False
        self._waiting: deque[bytes] = deque()
        self._kept = 0
        self._owed = 0

    def serve(self, protocol: asyncio.Protocol) -> None:
        """Let ``protocol`` have what comes."""
        self._protocol = protocol
        protocol.connection_made(self)

    # --- from the line

    def arrived(self, data: bytes) -> None:
        """Bytes for the protocol; kept while it does not read, which the window bounds.

        Raises:
            Garbled: The other end does not keep to its window.
        """
        if self._closing:
            return
        if self._paused:
            self._kept += len(data)
            if self._kept > MOST_KEPT:
                raise Garbled(
                    "the line carries something else", "It sends more than it may",
                    "Install the same version on both machines",
                )  # fmt: skip
            self._waiting.append(data)
        else:
            self._deliver(data)

    def lost(self, error: Exception | None) -> None:
        """The other end, or the whole line, is gone; what came before is still delivered."""
        self._over(error)

    # --- asyncio.Transport

    def write(self, data: Any) -> None:
        """Send bytes to the kernel."""
        view = memoryview(data)
        for start in range(0, 0 if self._closing else len(view), PIECE):
            self._send(Kind.DATA, self._number, bytes(view[start : start + PIECE]))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Send several pieces."""
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        """Whether it is over."""
        return self._closing

    def pause_reading(self) -> None:
        """Keep what comes."""
        self._paused = True

    def resume_reading(self) -> None:
        """Deliver what was kept, and go on."""
        self._paused = False
        while self._waiting and not self._paused:
            data = self._waiting.popleft()
            self._kept -= len(data)
            self._deliver(data)

    def close(self) -> None:
        """Hang up."""
        self.abort()

    def abort(self) -> None:
        """Hang up."""
        if not self._closing:
            self._send(Kind.SHUT, self._number, b"")
            self._waiting.clear()
            self._over(None)

    # --- inside

    def _deliver(self, data: bytes) -> None:
        if self._protocol is not None:
            self._protocol.data_received(data)
        self._owed += len(data)
        if self._owed >= WINDOW // 4 and not self._closing:
            owed, self._owed = self._owed, 0
            self._send(Kind.MORE, self._number, _COUNT.pack(owed))

    def _over(self, error: Exception | None) -> None:
        if self._closing:
            return
        if self._paused:
            self.resume_reading()
        self._closing = True
        self._left(self._number)
        if self._protocol is not None:
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)


class Relay(asyncio.Protocol):
    """The bridge's end of one channel: a connection to the kernel's control socket."""

    def __init__(self, number: int, send: Callable[[Kind, int, bytes], None], left: Callable[[int], None]):
        self._number = number
        self._send = send
        self._left = left
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._room = WINDOW
        self._shut = False

    def arrived(self, data: bytes) -> None:
        """Bytes for the kernel; those that come before the connection is made wait for it."""
        if self._transport is None:
            self._early.append(data)
        else:
            self._transport.write(data)

    def more(self, payload: bytes) -> None:
        """The client has taken so many bytes."""
        self._room += _COUNT.unpack(payload)[0]
        if self._room > 0 and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def shut(self) -> None:
        """The client hung up."""
        self._shut = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The kernel accepted."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._shut:
            transport.abort()
        for data in self._early:
            transport.write(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        """Bytes of the kernel's."""
        for start in range(0, len(data), PIECE):
            self._send(Kind.DATA, self._number, data[start : start + PIECE])
        self._room -= len(data)
        if self._room <= 0 and self._transport is not None:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The kernel hung up, or we did."""
        self._left(self._number)
        if not self._shut:
            self._send(Kind.SHUT, self._number, b"")
