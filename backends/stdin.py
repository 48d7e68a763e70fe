"""The standard input of runs: FIFOs whose write ends the kernel and the holder keep."""

from __future__ import annotations

import contextlib
import errno
import os

import anyio

from agenttop.core.backend import Doors
from agenttop.core.errors import BackendError

from .runs import STDIN, Run


class Inputs:
    """Write ends by marker. A FIFO that is gone from a run's folder has been closed for good."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._open: dict[str, int] = {}
        self._locks: dict[str, anyio.Lock] = {}

    async def make(self, marker: str, folder: str) -> int:
        """Make the FIFO, keep its write end; returns a read end for the caller to close after the spawn."""
        path = f"{folder}/{STDIN}"
        os.mkfifo(path, 0o600)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._open[marker] = writer
            await self._doors.keep(_key(marker), writer)
        except BaseException:
            os.close(reader)
            raise
        return reader

    async def write(self, run: Run, data: bytes) -> None:
        """Write all of ``data``, waiting for room; writers of one run take turns.

        Raises:
            BackendError: There is no stdin, or it was closed by either side.
        """
        async with self._locks.setdefault(run.marker, anyio.Lock()):
            writer = self._writer(run)
            view = memoryview(data)
            while view:
                try:
                    view = view[os.write(writer, view) :]
                except BlockingIOError:
                    await anyio.wait_writable(writer)
                except BrokenPipeError as error:
                    raise BackendError(
                        f"cannot write to {run.marker}", "The program reads no more"
                    ) from error

    def _writer(self, run: Run) -> int:
        if run.marker in self._open:
            return self._open[run.marker]
        try:
            writer = os.open(run.folder / STDIN, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BackendError(
                f"cannot write to {run.marker}",
                "Its stdin is closed, or was never asked for",
                "Start it with stdin = true",
            ) from None
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            raise BackendError(f"cannot write to {run.marker}", "The program reads no more") from error
        self._open[run.marker] = writer
        return writer

    async def close(self, run: Run) -> None:
        """Close for good: the program sees the end of its input, and nothing opens it again."""
        async with self._locks.setdefault(run.marker, anyio.Lock()):
            self._writer(run)
            await self.drop(run.marker, str(run.folder))

    async def drop(self, marker: str, folder: str) -> None:
        """Let go of a run's input; harmless if it has none."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/{STDIN}")
        self.release(marker)
        await self._doors.drop(_key(marker))

    def release(self, marker: str) -> None:
        """Close our end and leave the holder's open."""
        self._locks.pop(marker, None)
        if (writer := self._open.pop(marker, None)) is not None:
            os.close(writer)

    def release_all(self) -> None:
        """The kernel leaves: programs must not see an end of their input."""
        for marker in list(self._open):
            self.release(marker)


def _key(marker: str) -> str:
    return f"stdin:{marker}"
