"""Unix sockets of our own: private from the first moment, replaced without a gap, of any path length.

``sun_path`` ends at 107 bytes (unix(7)). A longer path is reached through a descriptor of its folder,
``/proc/self/fd/N/name``, which always fits.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .errors import Forbidden, KernelUnreachable

LIMIT = 107
"""Longest path, in bytes, that fits into a socket address."""


class Peer(NamedTuple):
    """Who connected, as the system saw it when they did (``SO_PEERCRED``)."""

    pid: int
    uid: int
    gid: int


@contextmanager
def address(path: Path) -> Iterator[str]:
    """What to give to ``bind`` or ``connect`` to reach ``path``; good inside the ``with`` only."""
    if len(os.fsencode(path)) <= LIMIT:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def bind(path: Path, kind: int = socket.SOCK_STREAM, backlog: int = 1024) -> socket.socket:
    """A listening socket at ``path``, mode 0600, in place of whatever socket was left there.

    It listens under a name of its own first and is then renamed, so that nobody ever finds a socket
    that refuses. Only the holder of the kernel lock may call this.

    Raises:
        OSError: The folder cannot be written.
    """
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    fresh = path.with_name(f".{path.name[:20]}.{os.getpid()}")
    try:
        # On Linux the mode of the socket's inode is what bind gives the file, less the umask; so no
        # other thread's umask has to be changed.
        os.fchmod(listener.fileno(), 0o600)
        fresh.unlink(missing_ok=True)
        with address(fresh) as name:
            listener.bind(name)
        listener.listen(backlog)
        fresh.rename(path)
    except BaseException:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise
    listener.setblocking(False)
    return listener


def connect(path: Path, kind: int = socket.SOCK_STREAM, timeout: float = 5.0) -> socket.socket:
    """A blocking connected socket.

    Raises:
        FileNotFoundError: Nothing is there.
        ConnectionRefusedError: A socket file without a listener: left by a dead process.
        TimeoutError: The listener's backlog stayed full for ``timeout`` seconds.
        OSError: Anything else, such as no permission.
    """
    link = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    # A full backlog is EAGAIN on a Unix socket, with nothing to wait for; and a non-blocking connect
    # that polls for it would report success without being connected. SO_SNDTIMEO bounds a plain one.
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout), 0))
    try:
        with address(path) as name:
            link.connect(name)
    except BlockingIOError as error:
        link.close()
        raise TimeoutError(f"{path} did not accept for {timeout:g} s") from error
    except BaseException:
        link.close()
        raise
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 0))
    return link


def answers(path: Path) -> bool:
    """Whether somebody listens at ``path``; connects and hangs up."""
    try:
        connect(path, timeout=1.0).close()
    except OSError:
        return False
    return True


def peer(link: socket.socket) -> Peer:
    """The process at the other end when it connected."""
    size = struct.calcsize("3i")
    return Peer(*struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)))


def wait_gone(path: Path, seconds: float) -> bool:
    """Wait until nobody listens at ``path`` any more; ``False`` when ``seconds`` passed first."""
    deadline = time.monotonic() + seconds
    while answers(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def unreachable(path: Path, error: OSError) -> KernelUnreachable | Forbidden:
    """Why nobody answers at ``path``, in words."""
    hint = "Start one with `agenttop`"
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return KernelUnreachable("no kernel runs here", f"{path} is not there", hint)
        case ConnectionRefusedError():
            return KernelUnreachable("no kernel runs here", f"{path} was left by a kernel that died", hint)
        case PermissionError():
            return Forbidden(
                "this kernel is somebody else's", f"{path} may not be opened", "Become that user"
            )
        case TimeoutError():
            return KernelUnreachable(
                "the kernel does not answer", str(error), "Look into `agenttop kernel log`"
            )
    return KernelUnreachable("the kernel cannot be reached", f"{path}: {error.strerror or error}")
