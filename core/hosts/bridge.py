"""``agenttop kernel bridge``: the end of a line that runs beside the kernel, inside an ssh session.

Standard input and output carry frames (``channels``). It is the user's own process on that machine: the
kernel checks it like any other client (``http/callers``: by its user, its ancestors up to sshd's and its
control group), and the user's environment there, not the screen's, starts a kernel that does not run. So
whoever ssh let in is the owner, and a bridge started inside an agent's tree has that agent's rights. It
ends with its input, or when the other end has been silent for long.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.abc
import orjson

from .. import __version__, uds
from ..connect import connect
from ..errors import AgentTopError, KernelUnreachable
from ..paths import Paths
from .channels import BEAT, FrameReader, Kind, Relay, frame, greeting

PATIENCE = 30
"""Beats of silence after which the other end is given up: its machine sleeps, or the network is cut."""

MOST = 512
"""Channels at once."""

CONNECT = 5.0
"""Seconds a kernel may take to accept."""


class Bridge(asyncio.Protocol):
    """Reads frames from standard input and does what they say."""

    def __init__(self, paths: Paths, tasks: anyio.abc.TaskGroup) -> None:
        self._paths = paths
        self._tasks = tasks
        self._reader = FrameReader()
        self._relays: dict[int, Relay] = {}
        self._out: asyncio.WriteTransport | None = None
        self._silent: int | None = None
        """Beats since something came; ``None`` before the first: the other end may still be asking
        its user for another host's password."""
        self.over = anyio.Event()

    def begin(self, out: asyncio.WriteTransport) -> None:
        """Speak first."""
        self._out = out
        out.write(greeting())

    async def listen(self) -> None:
        """Return when nobody is at the other end any more."""
        while not self.over.is_set():
            with anyio.move_on_after(BEAT):
                await self.over.wait()
            if self._silent is not None:
                self._silent += 1
                if self._silent > PATIENCE:
                    return

    # --- asyncio.Protocol, for standard input

    def data_received(self, data: bytes) -> None:
        """Frames of the client's."""
        try:
            for kind, number, payload in self._reader.feed(data):
                self._take(kind, number, payload)
        except KernelUnreachable:
            self.over.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """ssh has ended."""
        self.over.set()

    # --- inside

    def _send(self, kind: Kind, number: int = 0, payload: bytes = b"") -> None:
        if self._out is not None and not self._out.is_closing():
            self._out.write(frame(kind, number, payload))

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        relay = self._relays.get(number)
        if kind == Kind.BEAT:
            self._silent = 0
            self._send(Kind.BEAT)
        elif kind == Kind.WAKE:
            self._tasks.start_soon(self._wake)
        elif kind == Kind.OPEN:
            self._open(number)
        elif relay is None:
            return  # it was shut from this side, and the client has not heard of it yet
        elif kind == Kind.DATA:
            relay.arrived(payload)
        elif kind == Kind.MORE:
            relay.more(payload)
        elif kind == Kind.SHUT:
            relay.shut()

    def _open(self, number: int) -> None:
        if len(self._relays) >= MOST or number in self._relays:
            self._refuse(number, KernelUnreachable("the line is full", f"It carries {MOST} connections"))
            return
        relay = self._relays[number] = Relay(number, self._send, self._left)
        self._tasks.start_soon(self._connect, relay, number)

    def _left(self, number: int) -> None:
        self._relays.pop(number, None)

    async def _connect(self, relay: Relay, number: int) -> None:
        path = self._paths.socket
        try:
            link = await anyio.to_thread.run_sync(lambda: uds.connect(path, timeout=CONNECT))
        except OSError as error:
            self._left(number)
            self._refuse(number, uds.unreachable(path, error))
            return
        link.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: relay, sock=link)

    def _refuse(self, number: int, error: AgentTopError) -> None:
        self._send(Kind.SHUT, number, orjson.dumps(error.to_dict()))

    async def _wake(self) -> None:
        """See that a kernel runs, and describe this place."""
        try:
            await (await connect(self._paths)).close()
            answer: dict[str, Any] = {"there": about(self._paths)}
        except AgentTopError as error:
            answer = {"error": error.to_dict()}
        except OSError as error:
            answer = {"error": AgentTopError("the kernel there cannot be reached", str(error)).to_dict()}
        self._send(Kind.AWAKE, 0, orjson.dumps(answer))


def about(paths: Paths) -> dict[str, Any]:
    """What a client has to know of this machine to start agents on it."""
    environ = {}
    for name, value in os.environ.items():
        try:
            (name + value).encode("utf-8")
        except UnicodeEncodeError:
            continue  # it could not travel to the kernel from a local command either
        environ[name] = value
    return {
        "version": __version__,
        "state": str(paths.state),
        "home": str(Path.home()),
        "hostname": os.uname().nodename,
        "environ": environ,
    }


def main() -> int:
    """Bridge standard input and output to this user's kernel until the other end leaves."""
    paths = Paths.from_environ()
    # Nothing but frames may reach the line; a stray print of anything goes to ssh's standard error.
    line = os.dup(1)
    os.dup2(2, 1)
    anyio.run(_run, paths, line)
    return 0


async def _run(paths: Paths, line: int) -> None:
    loop = asyncio.get_running_loop()
    async with anyio.create_task_group() as tasks:
        bridge = Bridge(paths, tasks)
        out, _ = await loop.connect_write_pipe(lambda: _Out(bridge), os.fdopen(line, "wb", buffering=0))
        bridge.begin(out)
        reading, _ = await loop.connect_read_pipe(lambda: bridge, cast("Any", sys.stdin.buffer))
        await bridge.listen()
        tasks.cancel_scope.cancel()
        reading.close()
        if not out.is_closing():
            out.abort()


class _Out(asyncio.BaseProtocol):
    """Standard output; when ssh does not read it any more, it is over."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody reads."""
        self._bridge.over.set()
