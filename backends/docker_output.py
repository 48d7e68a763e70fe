"""The copied output of a run: read from an offset, followed, and held to its size.

A file's offsets are the stream's offsets for good: trimming punches a hole into the front of the file
(fallocate(2)), which frees the disk and moves nothing. The oldest byte kept is where the hole ends
(lseek(2), SEEK_DATA).
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import anyio
import anyio.to_thread

from agenttop.core.agents.spec import OutputLimits
from agenttop.core.backend import Chunk

from .docker_frames import STREAMS, Stream
from .docker_spool import Spool

_PIECE = 1 << 16
_BLOCK = 4096
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


async def read(folder: Path, offsets: Mapping[str, int] | None, spool: Spool | None) -> AsyncIterator[Chunk]:
    """Both streams from the given offsets (default: the oldest kept).

    Args:
        spool: The copy to follow until it is done; ``None`` ends at what there is.
    """
    at: dict[Stream, int] = {stream: (offsets or {}).get(stream, 0) for stream in STREAMS}
    while True:
        ended = spool is None or spool.done.is_set()
        changed = spool.changed if spool is not None else None
        for stream in STREAMS:
            while chunk := await anyio.to_thread.run_sync(_piece, folder, stream, at[stream]):
                at[stream] = chunk.offset + len(chunk.data)
                yield chunk
        if ended or changed is None:
            return
        await changed.wait()


def trim(folder: Path, limits: OutputLimits, now: float) -> None:
    """Drop the oldest output beyond ``limits``; both streams together are held to its bytes. Blocking."""
    sizes = {stream: _size(folder / stream) for stream in STREAMS}
    total = sum(end - first for first, end, _ in sizes.values())
    for stream, (first, end, changed) in sizes.items():
        kept = end - first
        if kept and now - changed > limits.age:
            _punch(folder / stream, end)
        elif total > limits.bytes and kept:
            share = limits.bytes * kept // total
            _punch(folder / stream, end - share)


def _piece(folder: Path, stream: Stream, offset: int) -> Chunk | None:
    try:
        descriptor = os.open(folder / stream, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        first = _first(descriptor, offset)
        data = os.pread(descriptor, _PIECE, first)
        return Chunk(stream, first, data) if data else None
    finally:
        os.close(descriptor)


def _first(descriptor: int, offset: int) -> int:
    """The first byte kept at or after ``offset``."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing from there on
            return max(offset, os.fstat(descriptor).st_size)
        raise


def _size(path: Path) -> tuple[int, int, float]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0, 0, time.time()
    try:
        stat = os.fstat(descriptor)
        return _first(descriptor, 0), stat.st_size, stat.st_mtime
    finally:
        os.close(descriptor)


def _punch(path: Path, until: int) -> None:
    length = until // _BLOCK * _BLOCK  # a part of a block would be zeroed and not freed
    if length <= 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        done = libc.fallocate(
            descriptor, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_longlong(0), ctypes.c_longlong(length)
        )
        number = ctypes.get_errno()
        if done != 0 and number != errno.EOPNOTSUPP:
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
