"""The kernel's side of the holder, the process that keeps listening sockets while the kernel is away.

``core/holder_process.py`` has the other side and the protocol. The kernel starts the holder, outside
its own session and cgroups; it survives ``kill -9`` of the kernel, and the next kernel finds it at
``state/holder.sock``. If the holder itself is killed, the kernel starts another and hands it
duplicates of everything again.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import anyio.to_thread

from . import detach, uds
from .errors import AgentTopError, Conflict

PROCESS = Path(__file__).with_name("holder_process.py")
ANSWER = 5.0
"""Seconds the holder may take to answer; it never waits for anything itself."""
FAILURES = 5
"""Deaths within a minute after which no other holder is started."""
KEY = 1024
"""Longest key in bytes."""

log = logging.getLogger(__name__)


class HolderError(AgentTopError):
    """The holder refused or could not be started."""

    code = "holder"


class _Link:
    """One connection to a holder process: blocking, one question at a time."""

    def __init__(self, link: socket.socket) -> None:
        link.settimeout(ANSWER)
        self.socket = link
        self.pid = 0
        """The holder process, as it says itself: the socket's credentials are those of who made it listen."""

    @classmethod
    def open(cls, path: Path) -> _Link | None:
        """Connect and introduce this process; ``None`` when no holder listens.

        Raises:
            Conflict: Another live kernel is connected to it.
        """
        try:
            link = cls(uds.connect(path, socket.SOCK_SEQPACKET))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            pid = os.getpid()
            words, _ = link.ask("hello", str(pid), str(detach.start_time(pid)))
        except OSError:
            link.close()
            return None  # it ended between connect and hello
        if words[0] == "busy":
            link.close()
            raise Conflict("the holder serves another kernel", f"Process {words[1]} is connected to it")
        link.pid = int(words[1])
        return link

    def ask(self, *words: str, fd: int | None = None) -> tuple[list[str], int | None]:
        """Send one message, give the answer's words and the descriptor that came with it.

        Raises:
            OSError: The holder is gone or does not answer.
            HolderError: It refused.
        """
        packet = "\0".join(words).encode("utf-8", "surrogateescape")
        if fd is None:
            self.socket.send(packet)
        else:
            socket.send_fds(self.socket, [packet], [fd])
        return self.read()

    def read(self) -> tuple[list[str], int | None]:
        """Take one packet; see ``ask``."""
        data, fds, _, _ = socket.recv_fds(self.socket, 4096, 1, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise ConnectionResetError("the holder hung up")
        answer = data.decode("utf-8", "surrogateescape").split("\0")
        if answer[0] == "refused":
            raise HolderError("the holder refused", ": ".join(answer[1:]))
        return answer, fds[0] if fds else None

    def close(self) -> None:
        self.socket.close()


def start(path: Path) -> None:
    """Start a holder that listens at ``path``, in its own session; the kernel lock must be held.

    Its socket listens before the process does anything, so the next ``connect`` succeeds.

    Raises:
        OSError: The socket cannot be bound or Python not started.
    """
    listener = uds.bind(path, socket.SOCK_SEQPACKET, backlog=16)
    try:
        # A shell in between, so that it is nobody's child and leaves no zombie when it ends.
        fd = listener.fileno()
        python = [sys.executable, "-I", "-S", str(PROCESS), str(fd), str(path)]
        subprocess.run(
            ["/bin/sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh", *python],
            env={"PATH": os.environ.get("PATH", os.defpath)},
            stdin=subprocess.DEVNULL,
            pass_fds=(fd,),
            start_new_session=True,
            check=True,
        )
    finally:
        listener.close()


class Holder:
    """What is kept, by key, here and in the holder process.

    Thread-safe; the verbs are coroutines that run the exchange in a thread, because a stopped holder
    must not stop the event loop.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._link: _Link | None = None
        self.problem = ""
        self._mine: dict[str, int] = {}
        self._turn = threading.Lock()
        self._closed = False

    async def open(self) -> list[str]:
        """Find the holder or start one. Gives the keys it kept from the kernel before.

        Raises:
            HolderError: It cannot be started.
            Conflict: It serves another live kernel.
        """
        return await anyio.to_thread.run_sync(self._open)

    async def put(self, key: str, fd: int) -> None:
        """Keep a duplicate of ``fd`` under ``key``, in place of what was there."""
        await anyio.to_thread.run_sync(self._put, key, fd)

    async def get(self, key: str) -> int | None:
        """A new descriptor of what is kept under ``key``; the caller closes it."""
        return await anyio.to_thread.run_sync(self._get, key)

    async def drop(self, key: str) -> None:
        """Close what is kept under ``key``; unknown keys are ignored."""
        await anyio.to_thread.run_sync(self._drop, key)

    async def dismiss(self) -> None:
        """Close everything and let the holder end."""
        await anyio.to_thread.run_sync(self._dismiss)

    async def close(self) -> None:
        """The kernel leaves, the holder stays."""
        await anyio.to_thread.run_sync(self._close)

    @property
    def keys(self) -> frozenset[str]:
        """What is kept."""
        return frozenset(self._mine)

    @property
    def pid(self) -> int | None:
        """The holder process."""
        return self._link.pid if self._link else None

    async def watch(self) -> None:
        """When the holder process is killed, start another and hand everything over again.

        Runs until cancelled, or until holders die faster than they can be replaced: then ``problem``
        says so. The kernel's own descriptors still serve; only its next restart would find them gone.
        """
        failures: list[float] = []
        while True:
            await self._ended()
            if self._closed:
                return
            failures = [t for t in failures if t > time.monotonic() - 60.0]
            failures.append(time.monotonic())
            if len(failures) > FAILURES:
                self.problem = f"the holder of the gateway's sockets ended {FAILURES} times within a minute"
                log.error("%s; no other is started", self.problem)
                return
            log.warning("the holder ended; starting another with %d descriptors", len(self._mine))
            try:
                await anyio.to_thread.run_sync(self._replace)
            except (HolderError, OSError) as error:
                log.warning("no other holder yet: %s", error)
                await anyio.sleep(0.2 * len(failures))

    async def _ended(self) -> None:
        """Wait on a connection of its own, which is only ever readable when the holder ends."""
        try:
            link = await anyio.to_thread.run_sync(uds.connect, self.path, socket.SOCK_SEQPACKET)
        except OSError:
            return
        with link:
            await anyio.wait_readable(link)

    # --- in a thread ---------------------------------------------------------------------------

    def _open(self) -> list[str]:
        with self._turn:
            keys = self._list(self._connect())
            for key in keys:
                fd = self._exchange("get", key)[1]
                if fd is not None:
                    self._mine[key] = fd
            return keys

    def _connect(self) -> _Link:
        """A link to the holder, which is started if need be."""
        self._link = None
        link = _Link.open(self.path)
        if link is None:
            try:
                start(self.path)
            except (OSError, subprocess.SubprocessError) as error:
                raise HolderError(
                    "the holder of the gateway's sockets cannot be started", str(error)
                ) from error
            link = _Link.open(self.path)
            if link is None:
                raise HolderError("the holder of the gateway's sockets does not start", "It ended at once")
            detach.leave_cgroups(link.pid)
        self._link = link
        return link

    def _list(self, link: _Link) -> list[str]:
        keys: list[str] = []
        words, _ = link.ask("list")
        while words[0] != "end":
            keys.append(words[1])
            words, _ = link.read()
        return keys

    def _replace(self) -> None:
        with self._turn:
            self._renew()

    def _renew(self) -> _Link:
        """Drop a dead link; find or start a holder; hand over what it does not have yet."""
        if self._link is not None:
            self._link.close()
        link = self._connect()
        has = set(self._list(link))
        for key, fd in self._mine.items():
            if key not in has:
                link.ask("put", key, fd=fd)
        return link

    def _exchange(self, *words: str, fd: int | None = None) -> tuple[list[str], int | None]:
        """One question; a holder that died meanwhile is replaced once."""
        if self._closed:
            raise HolderError("the holder is not connected", "The kernel is leaving")
        try:
            if self._link is None:
                raise ConnectionResetError
            return self._link.ask(*words, fd=fd)
        except TimeoutError as error:
            raise HolderError("the holder does not answer", f"Nothing for {ANSWER:g} s") from error
        except OSError:
            return self._renew().ask(*words, fd=fd)

    def _put(self, key: str, fd: int) -> None:
        if not 0 < len(os.fsencode(key)) <= KEY or "\0" in key:
            raise ValueError(f"not a key: {key!r}")
        with self._turn:
            # Ours first: if the holder dies in between, the next one gets it from here.
            old = self._mine.get(key)
            self._mine[key] = os.dup(fd)
            if old is not None:
                os.close(old)
            self._exchange("put", key, fd=self._mine[key])

    def _get(self, key: str) -> int | None:
        with self._turn:
            fd = self._mine.get(key)
            return None if fd is None else os.dup(fd)

    def _drop(self, key: str) -> None:
        with self._turn:
            fd = self._mine.pop(key, None)
            if fd is not None:
                os.close(fd)
                self._exchange("drop", key)

    def _dismiss(self) -> None:
        with self._turn:
            self._closed = True
            if self._link is not None:
                try:
                    self._link.ask("bye")
                except OSError as error:
                    log.warning("the holder was gone before it was dismissed: %s", error)
            self._release()

    def _close(self) -> None:
        with self._turn:
            self._closed = True
            self._release()

    def _release(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        for fd in self._mine.values():
            os.close(fd)
        self._mine.clear()
