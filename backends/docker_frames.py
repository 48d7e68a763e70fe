"""dockerd's log stream, entry by entry, and the point up to which it was taken.

Every entry comes as one frame (8 bytes: stream, three zeros, length big-endian) whose data is a
timestamp of fixed width, a blank, and the bytes the program wrote (Docker Engine API,
"ContainerAttach", stream format; ``timestamps=1``).
"""

from __future__ import annotations

import calendar
import struct
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

Stream = Literal["out", "err"]
STREAMS: tuple[Stream, Stream] = ("out", "err")

_HEADER = struct.Struct(">BxxxL")
_NAMES: dict[int, Stream] = {1: "out", 2: "err"}


class Entry(NamedTuple):
    """One piece of output as dockerd kept it. ``stamp`` sorts as text: UTC, nine decimals."""

    stream: Stream
    stamp: str
    data: bytes


class Taken(NamedTuple):
    """How far one stream was taken: the last stamp, how many entries carried it, and the bytes so far."""

    stamp: str = ""
    entries: int = 0
    offset: int = 0

    def plus(self, entry: Entry) -> Taken:
        """After one more entry."""
        count = self.entries + 1 if entry.stamp == self.stamp else 1
        return Taken(entry.stamp, count, self.offset + len(entry.data))


class Frames:
    """Cuts a byte stream into entries; feed it pieces of any size."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> Iterator[Entry]:
        """The entries that are complete now."""
        rest = self._rest
        rest += piece
        start = 0
        while len(rest) - start >= _HEADER.size:
            kind, length = _HEADER.unpack_from(rest, start)
            end = start + _HEADER.size + length
            if len(rest) < end:
                break
            frame = bytes(rest[start + _HEADER.size : end])
            start = end
            stamp, _, data = frame.partition(b" ")
            if stream := _NAMES.get(kind):
                yield Entry(stream, stamp.decode("ascii", "replace"), data)
        del rest[:start]


class Resume:
    """Drops from a log that is read again what had been taken before.

    Each stream has its own point, because entries of the two may lie out of order by a hair.
    """

    def __init__(self, taken: dict[Stream, Taken]) -> None:
        self._taken = dict(taken)
        self._seen = dict.fromkeys(taken, 0)

    @property
    def since(self) -> str:
        """What to ask dockerd for: seconds and nanoseconds, inclusive; ``0`` is everything."""
        stamps = [point.stamp for point in self._taken.values()]
        return unix_time(min(stamps)) if all(stamps) else "0"

    def is_new(self, entry: Entry) -> bool:
        """Whether this entry was not taken before."""
        point = self._taken[entry.stream]
        if entry.stamp == point.stamp:
            self._seen[entry.stream] += 1
            return self._seen[entry.stream] > point.entries
        return entry.stamp > point.stamp


def unix_time(stamp: str) -> str:
    """``2026-11-21T02:45:40.219796215Z`` → ``1795229140.219796215``."""
    seconds, _, rest = stamp.partition(".")
    return f"{calendar.timegm(time.strptime(seconds, '%Y-%m-%dT%H:%M:%S'))}.{rest.rstrip('Z') or '0'}"
