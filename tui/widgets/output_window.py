"""The piece of an agent's output that is in memory: always contiguous, always bounded.

The kernel keeps the whole output; the window holds some thousand lines of it and knows the offset
of its first and last byte in each stream, so that more can be read at either end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from .output_lines import Line, LineDecoder, Stream, mark

if TYPE_CHECKING:
    from agenttop.core.backend import Chunk

STREAMS: tuple[Stream, Stream] = ("out", "err")


class Change(NamedTuple):
    """What an operation did to ``OutputWindow.lines``."""

    added: int = 0
    """Lines put at the end (or the beginning, for ``prepend``)."""
    dropped: int = 0
    """Lines taken from the other end to stay within bounds."""
    cleared: bool = False
    """Everything that was there before is gone."""


def _from_line(chunk: Chunk) -> tuple[int, bytes]:
    """A chunk from its first whole line on: what is before belongs to the block before.

    At the beginning of the output, and where no line ends in the chunk, that is all of it.
    """
    cut = chunk.data.find(b"\n") + 1
    if chunk.offset == 0 or cut in (0, len(chunk.data)):
        return chunk.offset, chunk.data
    return chunk.offset + cut, chunk.data[cut:]


class OutputWindow:
    """Lines of both streams, in the order in which they were delivered."""

    def __init__(self, *, max_lines: int = 10_000, max_chars: int = 4_000_000) -> None:
        self.max_lines = max_lines
        self.max_chars = max_chars
        self.lines: list[Line] = []
        self.run: int | None = None
        self.skipped = 0
        self._chars = 0
        self._low: dict[Stream, int] = {}
        self._decoders: dict[Stream, LineDecoder] = {}

    def clear(self) -> None:
        """Forget everything but the run."""
        self.lines, self._chars = [], 0
        self._low, self._decoders = {}, {}

    @property
    def high(self) -> dict[Stream, int]:
        """Per stream the offset after the last byte seen."""
        return {stream: decoder.offset for stream, decoder in self._decoders.items()}

    @property
    def low(self) -> dict[Stream, int]:
        """Per stream the offset of the oldest byte that is shown."""
        return dict(self._low)

    @property
    def more_above(self) -> bool:
        """Whether the kernel may have older output than this."""
        return any(self._low.values())

    def partial(self) -> list[Line]:
        """The lines that have begun but not ended."""
        rests = (decoder.rest() for decoder in self._decoders.values())
        return [line for line in rests if line is not None]

    def full(self) -> bool:
        """Whether more lines would push others out."""
        return len(self.lines) >= self.max_lines or self._chars >= self.max_chars

    def append(self, chunks: Iterable[Chunk]) -> Change:
        """Add what was printed next. What is known already is left out; a gap clears the window.

        A chunk that begins at 0 after later ones is the next run of the same agent.
        """
        added, cleared = 0, False
        for chunk in chunks:
            decoder = self._decoders.get(chunk.stream)
            data = chunk.data
            if decoder is not None and chunk.offset != decoder.offset:
                if chunk.offset == 0 and decoder.offset > 0:
                    added += self._next_run()
                    decoder = None
                elif chunk.offset < decoder.offset:
                    data = data[decoder.offset - chunk.offset :]
                else:
                    self.skipped += chunk.offset - decoder.offset
                    self.clear()
                    added, cleared, decoder = 0, True, None
            if decoder is None:
                start, data = _from_line(chunk)
                decoder = self._decoders[chunk.stream] = LineDecoder(chunk.stream, start)
                self._low.setdefault(chunk.stream, start)
            lines = decoder.feed(data)
            self.lines += lines
            self._chars += sum(len(line.text) for line in lines)
            added += len(lines)
        return Change(added, self._drop_oldest(), cleared)

    def prepend(self, chunks: Iterable[Chunk]) -> Change:
        """Put older output (that ends where this begins) before the rest; drops at the end."""
        decoders: dict[Stream, LineDecoder] = {}
        older: list[Line] = []
        for chunk in chunks:
            limit = self._low.get(chunk.stream, 0)
            part = chunk._replace(data=chunk.data[: max(0, limit - chunk.offset)])
            if not part.data:
                continue
            decoder = decoders.get(chunk.stream)
            if decoder is None:
                start, data = _from_line(part)
                decoder = decoders[chunk.stream] = LineDecoder(chunk.stream, start)
                older += decoder.feed(data)
            else:
                older += decoder.feed(part.data)
        for decoder in decoders.values():
            rest = decoder.rest()
            if rest is not None:
                older.append(rest)
        # What one reads now stays: at most half of the window is replaced at once.
        older = older[-max(1, self.max_lines // 2) :]
        for stream in decoders:
            first = next((line.start for line in older if line.stream == stream), None)
            if first is not None:
                self._low[stream] = first
        self.lines = older + self.lines
        self._chars += sum(len(line.text) for line in older)
        return Change(len(older), self._drop_newest())

    def at_start(self, stream: Stream, offset: int) -> None:
        """Older output than ``offset`` is not kept: do not ask again."""
        if self._low.get(stream, 0) <= offset:
            self._low[stream] = 0

    def _next_run(self) -> int:
        self.lines += self.partial()
        self._decoders = {}
        if self.run is not None:
            self.run += 1
        self.lines.append(mark("next run" if self.run is None else f"run {self.run}"))
        # What is above belongs to a run that has ended; reading back stops at its first line here.
        self._low = dict.fromkeys(self._low, 0)
        return 1

    def _drop_oldest(self) -> int:
        count = self._excess(reverse=False)
        if not count:
            return 0
        gone, self.lines = self.lines[:count], self.lines[count:]
        self._chars -= sum(len(line.text) for line in gone)
        for stream in {line.stream for line in gone if not line.mark}:
            first = next((line.start for line in self.lines if line.stream == stream and not line.mark), None)
            self._low[stream] = first if first is not None else self._decoders[stream].offset
        return count

    def _drop_newest(self) -> int:
        count = self._excess(reverse=True)
        if not count:
            return 0
        gone, self.lines = self.lines[-count:], self.lines[:-count]
        self._chars -= sum(len(line.text) for line in gone)
        for stream in STREAMS:
            first = next((line.start for line in gone if line.stream == stream and not line.mark), None)
            if first is not None:
                self._decoders[stream] = LineDecoder(stream, first)
        return count

    def _excess(self, *, reverse: bool) -> int:
        if len(self.lines) <= self.max_lines and self._chars <= self.max_chars:
            return 0
        # An eighth more than needed, so that a busy stream does not move the list for every line.
        lines, chars, count = len(self.lines), self._chars, 0
        goal_lines, goal_chars = self.max_lines * 7 // 8, self.max_chars * 7 // 8
        for line in reversed(self.lines) if reverse else self.lines:
            if lines <= goal_lines and chars <= goal_chars:
                break
            lines, chars, count = lines - 1, chars - len(line.text), count + 1
        return count
