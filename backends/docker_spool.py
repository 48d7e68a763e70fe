"""A container's output, copied from dockerd's log into the run's folder as it appears.

The copy is what makes offsets mean the same as with other backends, and what outlives the container.
Beside the files lies the point up to which they were filled. After a crash the files are cut back to
that point and dockerd's log is read on from there: nothing is lost and nothing comes twice. dockerd
keeps as much log as the run may keep output, so only a kernel that was away for longer than that
misses the oldest part.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread

from agenttop.core.errors import BackendUnavailable

from .docker_engine import Engine, EngineRefused
from .docker_frames import STREAMS, Entry, Frames, Resume, Stream, Taken

log = logging.getLogger(__name__)

POINT = "spool.json"

#: The point is written at most this often; a crash repeats at most this much reading, never output.
_POINT_SECONDS = 0.25
_BACKOFF = (0.1, 5.0)


class Spool:
    """Copies one container's log. ``follow`` has one owner at a time; ``done`` is set at its end."""

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
        self._lock = anyio.Lock()

    async def follow(self) -> None:
        """Copy until the container has ended and everything was copied, through dockerd's absences."""
        pause, longest = _BACKOFF
        async with self._lock:
            while not self.done.is_set():
                try:
                    if await self._running():
                        await self._copy(follow=True)
                        pause = _BACKOFF[0]
                    else:
                        await self._copy(follow=False)  # what a follower misses in a container's last moment
                        self.end()
                        return
                except (BackendUnavailable, EngineRefused, OSError) as error:
                    if isinstance(error, EngineRefused) and error.answer == 404:
                        self.end()  # removed by somebody else: there is nothing more to copy
                        return
                    if not isinstance(error, BackendUnavailable):  # a full disk, a broken log
                        log.warning("output of container %s: %s", self.container[:12], error)
                    await anyio.sleep(pause)
                    pause = min(longest, pause * 2)

    async def drain(self) -> None:
        """Copy what there is now, once; used where nobody follows.

        Raises:
            BackendUnavailable: dockerd is away.
        """
        async with self._lock:
            if not self.done.is_set():
                await self._copy(follow=False)

    def end(self) -> None:
        """There is nothing more to copy."""
        self.done.set()
        self._tell()

    def _tell(self) -> None:
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    async def _copy(self, *, follow: bool) -> None:
        files = await anyio.to_thread.run_sync(_Files, self._folder)
        resume = Resume(files.taken)
        try:
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
                        await anyio.to_thread.run_sync(files.append, fresh)
                        self._tell()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(files.close)


class _Files:
    """The two output files, open for append, and their point. Blocking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.taken = _read_point(folder)
        self._descriptors: dict[Stream, int] = {}
        for stream in STREAMS:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptors[stream] = os.open(folder / stream, flags, 0o600)
        if any(os.fstat(fd).st_size < self.taken[stream].offset for stream, fd in self._descriptors.items()):
            # Only a power cut leaves files shorter than their point: copy all dockerd has, anew.
            self.taken = dict.fromkeys(STREAMS, Taken())
        for stream, descriptor in self._descriptors.items():
            os.ftruncate(descriptor, self.taken[stream].offset)
        self._written = self.taken.copy()
        self._point_at = 0.0

    def append(self, entries: list[Entry]) -> None:
        """Write entries; the point follows when it is due."""
        for stream in STREAMS:
            data = b"".join(entry.data for entry in entries if entry.stream == stream)
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptors[stream], view) :]
        for entry in entries:
            self.taken[entry.stream] = self.taken[entry.stream].plus(entry)
        if time.monotonic() - self._point_at >= _POINT_SECONDS:
            self._write_point()

    def close(self) -> None:
        """Write the point and close."""
        try:
            for descriptor in self._descriptors.values():
                os.fdatasync(descriptor)
            self._write_point()
        finally:
            for descriptor in self._descriptors.values():
                os.close(descriptor)

    def _write_point(self) -> None:
        if self.taken == self._written:
            return
        temporary = self._folder / (POINT + ".new")
        temporary.write_text(json.dumps(self.taken), encoding="ascii")
        temporary.rename(self._folder / POINT)
        self._written = self.taken.copy()
        self._point_at = time.monotonic()


def _read_point(folder: Path) -> dict[Stream, Taken]:
    try:
        stored = json.loads((folder / POINT).read_text(encoding="ascii"))
        return {stream: Taken(*stored[stream]) for stream in STREAMS}
    except FileNotFoundError:
        return dict.fromkeys(STREAMS, Taken())
    except (ValueError, KeyError, TypeError):  # cut by a power failure: start anew
        return dict.fromkeys(STREAMS, Taken())
