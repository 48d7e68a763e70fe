"""The gateway's door inside a container: a listener on the container's own loopback.

A socket opened in the container's network namespace, which takes root and a local dockerd. For those
who are not root, ``docker_sidecar`` has a container open it.
"""

from __future__ import annotations

import os
import socket

from . import netns
from .docker_cgroup import Group


def key(marker: str) -> str:
    """The name of a run's door in ``Doors``, by the run's marker."""
    return f"docker:{marker}"


def listen(pid: int, container: str, port: int) -> socket.socket:
    """A listener inside the container whose first process is ``pid``. Blocking.

    Raises:
        ProcessLookupError: The container has ended, or is not on this machine.
        OSError: The namespace cannot be entered, or the port is taken there.
    """
    try:
        namespace = netns.open_namespace(pid)
    except FileNotFoundError as error:
        raise ProcessLookupError(error.errno, "the container's first process has gone") from error
    try:
        # Only now is it known whose namespace was opened: a number can be given to another process.
        group = Group.of(pid, container)
        if group is None:
            raise ProcessLookupError(0, "the container's first process is not on this machine")
        group.close()
        return netns.listen_in(namespace, port)
    finally:
        os.close(namespace)
