"""The holder of a kernel that a test killed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from agenttop.core import detach, uds


def dismiss(path: Path) -> bool:
    """Say goodbye to a holder that a killed kernel left; whether it took that, or there is none."""
    try:
        link = uds.connect(path, socket.SOCK_SEQPACKET)
    except OSError:
        return True
    with link:
        link.send(f"hello\0{os.getpid()}\0{detach.start_time(os.getpid())}".encode())
        if not link.recv(100).startswith(b"ok"):
            return False
        link.send(b"bye")
        return link.recv(100) == b"ok"
