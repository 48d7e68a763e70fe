"""What a terminal printed, less the string by which the wrapper says that this is all of it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from agenttop.core.backend import Chunk


def end_mark(mark: str) -> bytes:
    """What ``run.sh`` prints last: a privacy message (ECMA-48 8.3.94), which terminals leave out."""
    return b"\x1b^agenttop:" + os.fsencode(mark) + b"\x1b\\"


def complete(folder: Path, mark: str) -> bool:
    """Whether everything that was printed is in the file."""
    end = end_mark(mark)
    try:
        with (folder / "out").open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return os.pread(file.fileno(), len(end), max(0, size - len(end))) == end
    except FileNotFoundError:
        return False


def silent(folder: Path, seconds: float) -> bool:
    """Whether nothing came for so long."""
    try:
        return time.time() - (folder / "out").stat().st_mtime > seconds
    except FileNotFoundError:
        return True


async def unmarked(chunks: AsyncIterator[Chunk], mark: str) -> AsyncIterator[Chunk]:
    """The chunks without the end mark, wherever they were cut; offsets stay what they are."""
    end = end_mark(mark)
    held: Chunk | None = None
    async for chunk in chunks:
        if chunk.stream != "out":
            yield chunk
            continue
        if held is not None:
            if held.offset + len(held.data) == chunk.offset:
                chunk = Chunk("out", held.offset, held.data + chunk.data)
            else:
                yield held
            held = None
        for part in _around(chunk, end):
            kept = _beginning(part.data, end)
            if kept and part.offset + len(part.data) == chunk.offset + len(chunk.data):
                held = Chunk("out", part.offset + len(part.data) - kept, part.data[-kept:])
                part = Chunk("out", part.offset, part.data[:-kept])
            if part.data:
                yield part
    if held is not None:
        yield held


def _around(chunk: Chunk, end: bytes) -> list[Chunk]:
    parts = []
    place = 0
    for data in chunk.data.split(end):
        parts.append(Chunk("out", chunk.offset + place, data))
        place += len(data) + len(end)
    return parts


def _beginning(data: bytes, end: bytes) -> int:
    """How many of the last bytes may be the beginning of the mark."""
    for length in range(min(len(end) - 1, len(data)), 0, -1):
        if data.endswith(end[:length]):
            return length
    return 0
