"""A container's stdin, by attach connections that outlive the kernel.

dockerd closes a container's stdin when a connection that was attached to it goes away, and offers no
other way to close it on purpose. So every connection's descriptor is also left with the holder: when
the kernel is killed the connection stays, and the next kernel attaches a second one. Closing is said
on the current connection by shutting its writing side.

A write returns when dockerd has read all of it: what still waited in the connection of a kernel that left
would come after what the next kernel writes, or be lost when that closes the stdin. One limit: of what
dockerd has read and the program has not (32 kB at most, and a pipe), the same is true.
"""

from __future__ import annotations

import array
import fcntl
import os
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from agenttop.core.backend import Doors
from agenttop.core.errors import BackendError

from .docker_engine import Engine

if TYPE_CHECKING:
    import asyncio

    from aiodocker.stream import Stream

_COUNT = "stdin.attached"
_CLOSED = "stdin.closed"
#: Seconds between two looks at what dockerd has not read yet; a socket has no event for that.
_LOOK = (0.001, 0.05)


class Stdin:
    """The stdin of one run; attaches at the first write."""

    def __init__(self, engine: Engine, container: str, marker: str, folder: Path, doors: Doors) -> None:
        self._engine = engine
        self._container = container
        self._marker = marker
        self._folder = folder
        self._doors = doors
        self._stream: Stream | None = None
        self._lock = anyio.Lock()

    async def write(self, data: bytes | None) -> None:
        """Write, waiting for room; ``None`` closes.

        Raises:
            BackendError: It was closed, or the program closed its end.
        """
        async with self._lock:
            if (self._folder / _CLOSED).exists():
                raise BackendError("cannot write to stdin", "It was closed")
            stream = self._stream or await self._attach()
            if data is None:
                (self._folder / _CLOSED).touch(0o600)
                _transport(stream).write_eof()  # after what is still in its buffer
                return
            _transport(stream)
            try:
                await stream.write_in(data)
                await _read_by_dockerd(stream)
            except (OSError, RuntimeError, AssertionError) as error:
                raise BackendError("cannot write to stdin", "The program no longer reads it") from error

    async def close(self) -> None:
        """Let this kernel's connection go; the holder's duplicate keeps stdin open."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        response = stream._resp
        stream._closed = True  # its own close() would shut the writing side, which ends the stdin
        if response is not None:
            response.close()

    async def forget(self) -> None:
        """Drop everything, the holder's duplicates too."""
        await self.close()
        for number in range(1, _count(self._folder) + 1):
            await self._doors.drop(self._key(number))

    async def _attach(self) -> Stream:
        number = _count(self._folder) + 1
        _set_count(self._folder, number)
        stream = await self._engine.attach(self._container, stdin=True)
        # What was written is the system's, not this process's, when ``write`` returns.
        _transport(stream).set_write_buffer_limits(high=0)
        await self._doors.keep(self._key(number), _transport(stream).get_extra_info("socket").fileno())
        self._stream = stream
        return stream

    def _key(self, number: int) -> str:
        return f"docker-stdin:{self._marker}:{number}"


def _transport(stream: Stream) -> asyncio.Transport:
    response = stream._resp
    connection = response.connection if response is not None else None
    transport = connection.transport if connection is not None else None
    if transport is None or transport.is_closing():
        raise BackendError("cannot write to stdin", "The program has ended or no longer reads it")
    return transport


async def _read_by_dockerd(stream: Stream) -> None:
    pause, longest = _LOOK
    left = array.array("i", [1])
    while True:
        # Asked anew each time: once the connection is gone its number may be somebody else's.
        fcntl.ioctl(_transport(stream).get_extra_info("socket").fileno(), termios.TIOCOUTQ, left)
        if not left[0]:
            return
        await anyio.sleep(pause)
        pause = min(pause * 2, longest)


def _count(folder: Path) -> int:
    try:
        return int((folder / _COUNT).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


def _set_count(folder: Path, number: int) -> None:
    temporary = folder / (_COUNT + ".new")
    temporary.write_text(str(number), encoding="ascii")
    os.rename(temporary, folder / _COUNT)
