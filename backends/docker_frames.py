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

#: Stamps of each stream that are recognised when they come again.
_REMEMBERED = 65_536


class Entry(NamedTuple):
    """One piece of output as dockerd kept it. ``stamp`` sorts as text: UTC, nine decimals."""

    stream: Stream
    stamp: str
    data: bytes


class Taken(NamedTuple):
    """How far one stream was taken: the last stamp, how many entries carried it, and the bytes so far.

    ``open``: the last entry did not end its line.
    """

    stamp: str = ""
    entries: int = 0
    offset: int = 0
    open: bool = False

    def bytes_of(self, entry: Entry) -> bytes:
        """What the program wrote, as ``entry`` follows on what was taken.

        dockerd's "local" log (20.10) drops the end of a line it kept in parts of 16 kB. All parts of
        one line carry one stamp, so a stamp that changes after an open part tells that an end is missing.
        """
        return b"\n" + entry.data if self.open and entry.stamp != self.stamp else entry.data

    def plus(self, entry: Entry) -> Taken:
        """After one more entry."""
        count = self.entries + 1 if entry.stamp == self.stamp else 1
        end = self.offset + len(self.bytes_of(entry))
        return Taken(entry.stamp, count, end, not entry.data.endswith(b"\n"))


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
    """Drops from a log what was taken before.

    That is needed where a log is read again from a point, and within one reading too: a dockerd that
    rotates its log while somebody follows may tell entries twice. Stamps are in nanoseconds, so one
    that was seen is the same entry; entries that are parts of one long line share a stamp and are
    counted. Each stream is on its own, because the two may lie out of order by a hair. Stamps that go
    backwards because a clock was set back are new ones.
    """

    def __init__(self, taken: dict[Stream, Taken]) -> None:
        self._points = dict(taken)
        self._seen = {stream: {point.stamp: point.entries} for stream, point in taken.items()}
        self._last = dict.fromkeys(taken, ("", 0))
        self._passed = {stream: not point.stamp for stream, point in taken.items()}

    @property
    def since(self) -> str:
        """What to ask dockerd for: seconds and nanoseconds, inclusive; ``0`` is everything."""
        stamps = [point.stamp for point in self._points.values()]
        return unix_time(min(stamps)) if all(stamps) else "0"

    def is_new(self, entry: Entry) -> bool:
        """Whether this entry was not taken before; asked once for each entry, in order."""
        stamp, ordinal = self._last[entry.stream]
        ordinal = ordinal + 1 if stamp == entry.stamp else 1
        self._last[entry.stream] = (entry.stamp, ordinal)
        if not self._passed[entry.stream]:
            if entry.stamp < self._points[entry.stream].stamp:
                return False
            self._passed[entry.stream] = True
        seen = self._seen[entry.stream]
        if ordinal <= seen.get(entry.stamp, 0):
            return False
        seen[entry.stamp] = ordinal
        if len(seen) > _REMEMBERED:
            del seen[next(iter(seen))]
        return True


def unix_time(stamp: str) -> str:
    """``2026-11-21T02:45:40.219796215Z`` → ``1795229140.219796215``."""
    seconds, _, rest = stamp.partition(".")
    return f"{calendar.timegm(time.strptime(seconds, '%Y-%m-%dT%H:%M:%S'))}.{rest.rstrip('Z') or '0'}"
