"""The output of a run: two append-only files that are cut at the head and never renumbered.

``out`` and ``err`` are written with O_APPEND by the run itself (or by whoever spools for it). An
offset counts from the first byte ever written. Trimming punches holes into the head of a file
(fallocate(2)), so that offsets stay what they are while the disk gets its blocks back. Where a file
system cannot do that, the newest part is copied to ``out.old`` and the file emptied; ``out.base``
then says where it continues. That way alone may lose what is written in the same instant.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread

from agenttop.core.backend import Chunk

Stream = Literal["out", "err"]
STREAMS: tuple[Stream, ...] = ("out", "err")

#: No chunk is longer.
CHUNK = 64 << 10
#: A follower that finds nothing looks again after so many seconds, doubling.
FIRST_PAUSE, LAST_PAUSE = 0.01, 0.25

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_BLOCK = 4096
_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate  # musl has 64 bits in the plain one


class StreamFile:
    """One stream's file in a run's folder. Blocking calls; small ones."""

    def __init__(self, folder: Path, stream: Stream) -> None:
        self.stream = stream
        self._path = folder / stream
        self._old = folder / f"{stream}.old"
        self._base = folder / f"{stream}.base"

    def base(self) -> int:
        """The offset of the file's first byte; not 0 only where holes cannot be punched."""
        try:
            return int(self._base.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def end(self) -> int:
        """The offset after the last byte written."""
        try:
            return self.base() + self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def start(self) -> int:
        """The offset of the oldest byte kept."""
        base = self.base()
        if base:
            try:
                return base - self._old.stat().st_size
            except FileNotFoundError:
                return base
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            return _first_data(descriptor)
        finally:
            os.close(descriptor)

    def read(self, offset: int, size: int = CHUNK) -> Chunk | None:
        """At most ``size`` bytes from ``offset``, or from the oldest kept if that is later."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            base = self.base()
            if offset < base:
                return self._read_old(offset, base, size)
            data = os.pread(descriptor, size, offset - base)
            if not data:
                return None
            first = base + _first_data(descriptor)  # after the read: a hole made meanwhile reads as zeros
            if first > offset:
                data, offset = data[first - offset :], first
                data = data or os.pread(descriptor, size, offset - base)
            return Chunk(self.stream, offset, data) if data else None
        finally:
            os.close(descriptor)

    def _read_old(self, offset: int, base: int, size: int) -> Chunk | None:
        try:
            with self._old.open("rb") as file:
                first = base - os.fstat(file.fileno()).st_size
                offset = max(offset, first)
                file.seek(offset - first)
                data = file.read(size)
        except FileNotFoundError:
            data = b""
        return Chunk(self.stream, offset, data) if data else self.read(base, size)

    def trim(self, keep: int) -> None:
        """Let go of all but the newest ``keep`` bytes, in steps of an eighth of that."""
        base, end = self.base(), self.end()
        begin = base or self.start()  # what was copied away counts no more: at most twice ``keep`` is kept
        if end - begin <= keep + max(keep // 8, _BLOCK):
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if base or not _punch(descriptor, (end - keep) // _BLOCK * _BLOCK):
                self._empty(descriptor, keep)
        finally:
            os.close(descriptor)

    def _empty(self, descriptor: int, keep: int) -> None:
        base, size = self.base(), os.fstat(descriptor).st_size
        kept = os.pread(descriptor, min(keep, size), max(0, size - keep))
        temporary = self._old.with_suffix(".new")
        temporary.write_bytes(kept)
        temporary.replace(self._old)
        size = os.fstat(descriptor).st_size
        temporary.write_text(str(base + size))
        os.ftruncate(descriptor, 0)
        temporary.replace(self._base)


def _first_data(descriptor: int) -> int:
    """Where the first block that is not a hole begins."""
    try:
        return os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole, or empty
            return os.fstat(descriptor).st_size
        if error.errno == errno.EINVAL:  # a file system without holes
            return 0
        raise


def _punch(descriptor: int, length: int) -> bool:
    """Give the first ``length`` bytes back; ``False`` where the file system cannot."""
    if length <= 0:
        return True
    if _fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(length)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code))


def trim(folder: Path, keep: int) -> None:
    """Hold both streams together to ``keep`` bytes; neither is starved by the other. Blocking."""
    files = [StreamFile(folder, stream) for stream in STREAMS]
    sizes = [file.end() - file.start() for file in files]
    if sum(sizes) <= keep:
        return
    for mine, other, file in zip(sizes, reversed(sizes), files, strict=True):
        if mine:
            file.trim(max(keep // 2, keep - other))


async def read(
    folder: Path,
    offsets: Mapping[str, int] | None = None,
    *,
    follow: bool = False,
    ended: Callable[[], bool] = lambda: True,
) -> AsyncIterator[Chunk]:
    """Chunks of both streams from the given offsets (default: the oldest kept).

    With ``follow`` it goes on until ``ended()`` is true and everything that was written before has
    been delivered. What was trimmed while nobody read it is left out; ``Chunk.offset`` shows the gap.
    """
    files = {stream: StreamFile(folder, stream) for stream in STREAMS}
    places = {stream: int((offsets or {}).get(stream, 0)) for stream in STREAMS}
    limits = {stream: (1 << 62) if follow else files[stream].end() for stream in STREAMS}
    over, pause = not follow, FIRST_PAUSE
    while True:
        over = over or await anyio.to_thread.run_sync(ended)
        found = False
        for stream in STREAMS:
            size = min(CHUNK, limits[stream] - places[stream])
            chunk = (
                await anyio.to_thread.run_sync(files[stream].read, places[stream], size) if size > 0 else None
            )
            if chunk is not None:
                found = True
                places[stream] = chunk.offset + len(chunk.data)
                yield chunk
        if over and not found:
            return
        pause = FIRST_PAUSE if found else min(pause * 2, LAST_PAUSE)
        if not found:
            await anyio.sleep(pause)
