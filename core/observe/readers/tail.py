"""Following one transcript: every call from its beginning, the state from its last lines."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any

import orjson

from .. import regular
from ..contract import Oddities
from ..index.formats import LineReader, Placed
from ..index.lines import PIECE, Lines
from ..index.scan import HEAD
from .tally import Sums, Tally

#: So much of a transcript's end is parsed line by line for the state when it is first read.
RECENT = 512 << 10
_PIECE = 64 << 10


class TranscriptTail:
    """Reads an append-only transcript from its last offset, and begins anew when it was cut or replaced.

    Args:
        reader: Makes what reads its calls.
        line: Takes each recent line, parsed; raises ValueError, TypeError, KeyError or AttributeError
            for one that is not what it should be.
        reset: Forget what earlier lines said: the file began anew.
        parse: Makes an object of a line; raises ValueError.
    """

    def __init__(
        self,
        reader: Callable[[], LineReader],
        path: str,
        line: Callable[[dict[str, Any]], None],
        reset: Callable[[], None],
        parse: Callable[[memoryview], Any] = orjson.loads,
    ) -> None:
        self._parser = parse
        self._reader, self._line, self._reset = reader, line, reset
        self.path = path
        self.oddities = Oddities()
        self._seen = (0, 0, 0)  # inode, size, modification time
        self._head = (0, 0)
        self._offset = 0
        self.calls = self._made()

    def refresh(self) -> bool:
        """Read what is new; whether anything was. A file that is not there says nothing, and is no error."""
        try:
            status = os.stat(self.path)
            now = (status.st_ino, status.st_size, status.st_mtime_ns)
            if now == self._seen:
                return False
            with regular.opened(self.path) as descriptor:
                return self._opened(descriptor, status, now)
        except FileNotFoundError:
            return False
        except OSError as error:
            self.oddities.problems[self.path] = error.strerror or str(error)
            return False

    def _opened(self, descriptor: int, status: os.stat_result, now: tuple[int, int, int]) -> bool:
        if self._offset and not self._same(descriptor, status):
            self._begin()
        before = self._offset
        self._read(descriptor, status.st_size - RECENT if not before else 0)
        self._seen = now
        self.oddities.problems.pop(self.path, None)
        return self._offset != before

    def sums(self) -> Sums:
        """Tokens of all calls."""
        return self._tally.sums(self.calls.models)

    def _made(self) -> LineReader:
        reader, self._tally = self._reader(), Tally()
        reader.calls = self._tally.calls
        if isinstance(reader, Placed):
            reader.begin(self.path)
        return reader

    def _begin(self) -> None:
        self._offset = 0
        self.calls = self._made()
        self._reset()

    def _same(self, descriptor: int, status: os.stat_result) -> bool:
        inode, _, _ = self._seen
        size, digest = self._head
        return (
            status.st_ino == inode
            and status.st_size >= self._offset
            and zlib.crc32(os.pread(descriptor, size, 0)) == digest
        )

    def _read(self, descriptor: int, recent: int) -> None:
        # The first time it may be all of a long conversation, afterwards it is a line or two.
        lines = Lines(descriptor, self._offset, piece=_PIECE if self._offset else PIECE)
        for buffer, end in lines.pieces():
            self.calls.feed(buffer, end)
            if lines.offset + end > recent:
                self._lines(buffer, end, max(0, recent - lines.offset))
        self._offset = lines.offset
        size = min(HEAD, self._offset)
        self._head = size, zlib.crc32(os.pread(descriptor, size, 0))
        self.oddities.long += lines.long

    def _lines(self, buffer: bytearray, end: int, begin: int) -> None:
        if begin:  # into the middle of a line: go on to its end
            begin = buffer.find(b"\n", begin, end) + 1 or end
        with memoryview(buffer) as view:
            while begin < end:
                stop = buffer.find(b"\n", begin, end)
                if stop > begin:
                    self._parse(view[begin:stop])
                begin = stop + 1

    def _parse(self, line: memoryview) -> None:
        try:
            data = self._parser(line)
            if not isinstance(data, dict):
                raise TypeError("not an object")
            self._line(data)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
            self.oddities.unreadable += 1
        finally:
            line.release()
