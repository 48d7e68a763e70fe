"""Reading an append-only file of lines from where the last reading ended, a piece at a time.

The buffer is small enough to stay in the processor's cache and grows only for a line that does not
fit; a line that is longer than ``LONGEST`` is passed over and counted. A line without its end is
left for the next time: its writer may be in the middle of it. Not so one that is too long already: what
there is of it is passed over, or it would be read again each time, and its rest is a line of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

PIECE = 1 << 20
LONGEST = 64 << 20


class Lines:
    """Pieces of whole lines out of one open file.

    Attributes:
        offset: Where the first byte lies that was not handed out: begin there next time.
        long: Lines passed over because they were too long.
    """

    def __init__(self, descriptor: int, offset: int, longest: int = LONGEST, piece: int = PIECE) -> None:
        self._descriptor = descriptor
        self._longest = longest
        self._buffer = bytearray(piece)
        self._skipping = False
        self.offset = offset
        self.long = 0

    def pieces(self) -> Iterator[tuple[bytearray, int]]:
        """The buffer and how much of it is whole lines; both change with the next step."""
        buffer, kept, position = self._buffer, 0, self.offset
        while True:
            with memoryview(buffer) as view:
                got = os.preadv(self._descriptor, [view[kept:]], position)
            if not got:
                if self._skipping:
                    self.long += 1
                    self.offset = position
                return
            position += got
            end = kept + got
            if self._skipping:
                newline = buffer.find(b"\n", 0, end)
                if newline < 0:
                    kept = 0
                    continue
                self._skipping = False
                self.long += 1
                whole_from = newline + 1
                self.offset = position - end + whole_from
                buffer[: end - whole_from] = buffer[whole_from:end]
                end -= whole_from
            whole = buffer.rfind(b"\n", 0, end) + 1
            if whole:
                yield buffer, whole
                self.offset = position - end + whole
                kept = end - whole
                buffer[:kept] = buffer[whole:end]
            else:
                kept = end
                if kept == len(buffer):
                    if kept >= self._longest:
                        self._skipping, kept = True, 0
                    else:
                        buffer.extend(bytes(len(buffer)))
