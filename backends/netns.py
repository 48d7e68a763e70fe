"""Listening sockets inside another process's network namespace.

A socket belongs to the namespace of the thread that made it, for good. So a thread of its own enters
the namespace, opens the socket and dies; it never goes back to a pool, where later work would find
itself in a stranger's network (setns(2); os.setns is Python 3.12).
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading

CLONE_NEWNET = 0x40000000
_CAP_SYS_ADMIN = 21


def may_enter() -> bool:
    """Whether this process has the capability (CAP_SYS_ADMIN) that entering needs."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            effective = next((line.split()[1] for line in status if line.startswith("CapEff:")), "0")
    except OSError:
        return False
    return bool(int(effective, 16) >> _CAP_SYS_ADMIN & 1)


def open_namespace(pid: int) -> int:
    """A descriptor of ``pid``'s network namespace; the caller proves whose ``pid`` it was and closes it.

    Raises:
        OSError: No such process, or no permission.
    """
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def listen_in(namespace: int, port: int, *, backlog: int = 512) -> socket.socket:
    """A TCP listener on 127.0.0.1:``port`` inside ``namespace``. Blocks briefly: call it in a worker.

    Raises:
        OSError: No permission to enter, or the port is taken there.
    """
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def enter() -> None:
        try:
            _setns(namespace)
            made.append(_listener(port, backlog))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter, name="netns", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _setns(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _listener(port: int, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
