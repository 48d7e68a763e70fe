"""The gate: a container's program does not begin before its door to the gateway is open.

dockerd makes a container's network namespace and starts its program in one step, so a listener can
only be opened inside when the program may already be calling. The gate closes that window without
help from the image: the container's first program is a private copy of docker-init (tini, static),
and the kernel holds a *write lease* on that file (fcntl(2), F_SETLEASE). The execve of a leased file
waits inside the system until the lease is given back, by which time the door is open. A kernel that
dies gives the lease back by dying, and the adopting one opens the door.

Where a lease cannot be had (another file system owner, NFS) or docker-init is not found, there is no
gate: the door then opens some milliseconds after the program began, and a client that does not try
again may find its first call refused. The system breaks a lease by itself after
/proc/sys/fs/lease-break-time (45 s).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import time
from pathlib import Path
from types import TracebackType

#: Where the copy is seen inside the container.
INSIDE = "/.agenttop/init"
#: The copy's name in the run's folder; it is removed as soon as the program began.
NAME = "init"

_FOLDERS = (
    "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/libexec/docker", "/usr/local/libexec/docker",
    "/usr/lib/docker", "/usr/local/lib/docker",
)  # fmt: skip
_PATIENCE = 1.0


def find_init(name: str = "docker-init") -> Path | None:
    """dockerd's init program on this machine (dockerd looks in the same places)."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_FOLDERS))
    found = shutil.which(name, path=path)
    return Path(found) if found else None


class Gate:
    """A closed gate in the folder of a run; open it with ``open``. Also a context manager that does."""

    def __init__(self, folder: Path, init: Path) -> None:
        self.file = folder / NAME
        self._descriptor = -1
        self._close(init)

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()

    @property
    def shut(self) -> bool:
        """Whether the lease is held."""
        return self._descriptor >= 0

    def open(self) -> None:
        """Let the program begin. Doing it twice is harmless."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        finally:
            os.close(descriptor)

    def _close(self, init: Path) -> None:
        """Copy, then lease.

        Raises:
            OSError: The file system gives no leases, or the copy cannot be written.
        """
        self.file.unlink(missing_ok=True)
        shutil.copyfile(init, self.file)
        self.file.chmod(0o755)
        descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # A broken lease is told by a signal, SIGIO by default, which would end this process. SIGURG
            # is ignored by default, and with no owner not even that is sent.
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            _lease(descriptor)
            fcntl.fcntl(descriptor, fcntl.F_SETOWN, 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor


def _lease(descriptor: int) -> None:
    # A child forked by another thread may hold the copy's write end until it execs; it is gone in a moment.
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            if error.errno != errno.EAGAIN or time.monotonic() > deadline:
                raise
            time.sleep(0.002)
        else:
            return
