"""The screen's end of a line: an ssh process whose bridge carries any number of connections to a kernel."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from ..errors import AgentTopError, KernelUnreachable
from ..http.connection import Connection
from ..http.frames import LONGEST
from ..starting import START
from .address import Address
from .channels import BEAT, SILENCE, Channel, Kind, frame
from .checking import CheckedClient
from .dial import TAIL, Called, There, awake, end, ended, told


class Line:
    """Owns one called ssh process. ``hold`` is the task that keeps it; while that runs, it is open."""

    def __init__(self, address: Address, called: Called) -> None:
        self.address = address
        self._process = called.process
        self._frames = called.reader
        self._said = called.said
        self.there: There = called.there
        self._out: asyncio.WriteTransport | None = None
        self._channels: dict[int, Channel] = {}
        self._numbers = itertools.count(1)
        self._silent = 0
        self.heard_at = time.time()
        """When something came over it last (wall clock): until then what is known was true."""
        self._over = anyio.Event()
        self._dead = False
        self._fault: AgentTopError | None = None
        self._awake: asyncio.Future[bytes] | None = None

    @property
    def pid(self) -> int:
        """The ssh process."""
        return self._process.pid

    async def hold(self, up: Callable[[], None]) -> None:
        """Carry connections until the line is lost; ``up`` is called when it can.

        Raises:
            AgentTopError: How it was lost; always, unless cancelled.
        """
        loop = asyncio.get_running_loop()
        process: Any = self._process
        reading, _ = await loop.connect_read_pipe(lambda: _Pipe(self._arrived, self._end), process.stdout)
        errors, _ = await loop.connect_read_pipe(lambda: _Pipe(self._heard, lambda: None), process.stderr)
        out, _ = await loop.connect_write_pipe(lambda: _Pipe(lambda data: None, self._end), process.stdin)
        self._out = out
        try:
            up()
            await self._listen()
            if self._dead:
                raise KernelUnreachable(
                    f"the line to {self.address.label} is dead",
                    f"Nothing came over it for {SILENCE * BEAT:g} s",
                    "Its agents run on; it is called again",
                )
            if self._fault is not None:
                raise self._fault
            status = await self._status()
            raise ended(self.address, status, self._said)
        finally:
            self._out = None
            for transport in (reading, errors):
                transport.close()
            if not out.is_closing():
                out.abort()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(end, self._process)

    def hang_up(self, error: AgentTopError) -> None:
        """Tell everything that uses the line that it is gone, and why."""
        for channel in list(self._channels.values()):
            channel.lost(error)
        if self._awake is not None and not self._awake.done():
            self._awake.set_exception(error)

    def open(self) -> Connection:
        """A connection to the kernel.

        Raises:
            KernelUnreachable: The line is not open.
        """
        if self._out is None:
            raise KernelUnreachable(f"the line to {self.address.label} is not open")
        number = next(self._numbers)
        channel = self._channels[number] = Channel(number, self._send, self._left)
        self._send(Kind.OPEN, number)
        connection = Connection(longest=LONGEST)
        channel.serve(connection)
        return connection

    async def wake(self) -> There:
        """See that a kernel runs at the other end; only one caller at a time.

        Raises:
            AgentTopError: It cannot start, or the line is lost.
        """
        self._awake = asyncio.get_running_loop().create_future()
        self._send(Kind.WAKE)
        with anyio.move_on_after(START + 5):
            awake(self.address, await self._awake)
            return self.there
        raise KernelUnreachable(f"{self.address.label} does not say whether its kernel runs")

    # --- inside

    async def _listen(self) -> None:
        """Beat, and return when the line is over or silent."""
        while not self._over.is_set():
            self._send(Kind.BEAT)
            with anyio.move_on_after(BEAT):
                await self._over.wait()
                return
            self._silent += 1
            if self._silent > SILENCE:
                self._dead = True
                return

    async def _status(self) -> int:
        """ssh's exit status; one that closed its output and stays gets a moment, then an end."""
        try:
            return await anyio.to_thread.run_sync(lambda: self._process.wait(2))
        except subprocess.TimeoutExpired:
            return 255

    def _send(self, kind: Kind, number: int = 0, payload: bytes = b"") -> None:
        if self._out is not None and not self._out.is_closing():
            self._out.write(frame(kind, number, payload))

    def _left(self, number: int) -> None:
        self._channels.pop(number, None)

    def _end(self) -> None:
        self._over.set()

    def _heard(self, data: bytes) -> None:
        self._said = (self._said + data)[-TAIL:]

    def _arrived(self, data: bytes) -> None:
        self._silent = 0
        self.heard_at = time.time()
        if self._over.is_set():
            return  # what comes after something senseless is no better
        try:
            for kind, number, payload in self._frames.feed(data):
                self._take(kind, number, payload)
        except KernelUnreachable as error:
            self._fault = error
            self._over.set()

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        channel = self._channels.get(number)
        if kind == Kind.AWAKE:
            if self._awake is not None and not self._awake.done():
                self._awake.set_result(payload)
        elif channel is None:
            return  # a beat, or of a channel this side has shut
        elif kind == Kind.DATA:
            channel.arrived(payload)
        elif kind == Kind.SHUT:
            channel.lost(told(self.address, payload) if payload else None)


class LineClient(CheckedClient):
    """A ``CheckedClient`` whose connections go through a line."""

    def __init__(self, line: Line) -> None:
        super().__init__(Path(line.there.state) / "kernel.sock", line.address)
        self._line = line

    async def _open(self) -> Connection:
        return self._line.open()


class _Pipe(asyncio.Protocol):
    """One of ssh's pipes."""

    def __init__(self, data: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._data = data
        self._end = end

    def data_received(self, data: bytes) -> None:
        """Bytes."""
        self._data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._end()
