"""A container's output, copied into the run's folder as it appears.

Two sources give the same bytes. dockerd's *log* is durable and carries timestamps, but holds a line
back until its end. The *live* connection, attached before the program begins, holds nothing back, but
is lost with the kernel. While it lasts, it writes the files and the log, which lags behind, only moves the
point; when it is gone the log writes. So a prompt is seen at once, and after a crash the files are cut
back to the point the log had reached and the log is read on from there: nothing is lost and nothing
comes twice. (An adopted run has the log alone: from then on a line shows when it ends, or every 16 kB.)

dockerd keeps as much log as the run may keep output, so a kernel that was away for longer than that
misses the oldest part; so may one that follows the log of an adopted run which writes faster than it
is read, because dockerd rotates a log under its readers.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from agenttop.core.errors import BackendUnavailable

from .docker_engine import Engine, EngineRefused
from .docker_files import Files
from .docker_frames import Entry, Frames, Resume, Stream

if TYPE_CHECKING:
    from aiodocker.stream import Stream as Connection

log = logging.getLogger(__name__)

_BACKOFF = (0.1, 5.0)
_NAMES: dict[int, Stream] = {1: "out", 2: "err"}


class Spool:
    """Copies one container's output. ``follow`` has one owner at a time; ``done`` is set at its end."""

    def __init__(
        self, engine: Engine, container: str, folder: Path, running: Callable[[], Awaitable[bool]]
    ) -> None:
        self.container = container
        self.done = anyio.Event()
        #: Set, and replaced by a new one, whenever there is more to read or the end was reached.
        self.changed = anyio.Event()
        self._engine = engine
        self._folder = folder
        self._running = running
        self._live: Connection | None = None
        self._live_writes = False
        self._lock = anyio.Lock()
        #: Held by whoever changes the files.
        self.writing = anyio.Lock()

    def watch(self, live: Connection) -> None:
        """Use this connection, attached before the program began; it is closed with the spool."""
        self._live = live

    async def follow(self) -> None:
        """Copy until the container has ended and everything was copied, through dockerd's absences."""
        async with self._lock:
            if self.done.is_set():
                return
            files = await anyio.to_thread.run_sync(Files, self._folder)
            try:
                async with anyio.create_task_group() as group:
                    if self._live is not None:
                        self._live_writes = True
                        group.start_soon(self._copy_live, files, self._live)
                    await self._copy_log(files)
                    group.cancel_scope.cancel()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(files.close)
                await self.close()
            self.end()

    async def drain(self) -> None:
        """Copy what the log has now, once; used where nobody follows.

        Raises:
            BackendUnavailable: dockerd is away.
        """
        async with self._lock:
            if self.done.is_set():
                return
            files = await anyio.to_thread.run_sync(Files, self._folder)
            try:
                await self._read_log(files, follow=False)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(files.close)

    def end(self) -> None:
        """There is nothing more to copy."""
        self.done.set()
        self._tell()

    async def close(self) -> None:
        """Give the live connection up."""
        live, self._live = self._live, None
        if live is not None:
            await live.close()

    async def _copy_log(self, files: Files) -> None:
        pause, longest = _BACKOFF
        while True:
            try:
                running = await self._running()
                # Once it has ended the log is read once more, for what a follower misses in the last moment.
                await self._read_log(files, follow=running)
                if not running:
                    return
                pause = _BACKOFF[0]
            except (BackendUnavailable, EngineRefused, OSError) as error:
                if isinstance(error, EngineRefused) and error.answer == 404:
                    return  # removed by somebody else: there is nothing more to copy
                if not isinstance(error, BackendUnavailable):  # a full disk, a broken log
                    log.warning("output of container %s: %s", self.container[:12], error)
                await anyio.sleep(pause)
                pause = min(longest, pause * 2)

    async def _read_log(self, files: Files, *, follow: bool) -> None:
        resume = Resume(files.taken)
        params = {
            "stdout": "1", "stderr": "1", "timestamps": "1",
            "follow": "1" if follow else "0", "since": resume.since,
        }  # fmt: skip
        frames = Frames()
        path = f"containers/{self.container}/logs"
        async with self._engine.stream(path, "cannot read a container's output", params) as content:
            while piece := await content.readany():
                fresh = [entry for entry in frames.feed(piece) if resume.is_new(entry)]
                if fresh:
                    await self._live_has(files, fresh)
                    async with self.writing:
                        await anyio.to_thread.run_sync(_take, files, fresh)
                    self._tell()

    async def _live_has(self, files: Files, entries: list[Entry]) -> None:
        """Wait until the live source wrote these entries, or is gone and they are the log's to write."""
        after = dict(files.taken)
        for entry in entries:
            after[entry.stream] = after[entry.stream].plus(entry)
        while self._live_writes and any(files.end(name) < point.offset for name, point in after.items()):
            await self.changed.wait()

    async def _copy_live(self, files: Files, live: Connection) -> None:
        from aiohttp import ClientError

        at: dict[Stream, int] = {"out": 0, "err": 0}
        try:
            while (message := await live.read_out()) is not None:
                if stream := _NAMES.get(message.stream):
                    async with self.writing:
                        await anyio.to_thread.run_sync(files.put, stream, at[stream], message.data)
                    at[stream] += len(message.data)
                    self._tell()
        except (OSError, ClientError) as error:  # dockerd went, or the disk is full; the log has it all
            log.info("live output of container %s ended: %s", self.container[:12], error)
        finally:
            self._live_writes = False
            self._tell()

    def _tell(self) -> None:
        changed, self.changed = self.changed, anyio.Event()
        changed.set()


def _take(files: Files, entries: list[Entry]) -> None:
    for entry in entries:
        before = files.taken[entry.stream]
        files.put(entry.stream, before.offset, before.bytes_of(entry))
        files.taken[entry.stream] = before.plus(entry)
    files.note()
