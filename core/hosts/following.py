"""Output that is followed through losses of the line: it goes on at the very byte where it was."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar, cast

from ..errors import KernelUnreachable
from .host import Host

if TYPE_CHECKING:
    from ..backend import Chunk
    from ..remote import SocketClient

T = TypeVar("T")

OVERLAP = 1 << 20
"""Bytes asked for from the end when output goes on; eight times more where that leaves a gap."""
MOST = 1 << 30
"""More is asked for as all of it."""


def closing(stream: AsyncIterator[T]) -> aclosing[AsyncGenerator[T, None]]:
    """``stream``, closed when it is left."""
    return aclosing(cast("AsyncGenerator[T, None]", stream))


async def output(host: Host, ref: str, run: int | None, tail: int | None) -> AsyncIterator[Chunk]:
    """An agent's output as it comes, into its next runs unless ``run`` is given."""
    client, life = host.client, host.life
    place = _Place(begins=0 if tail is None else None)
    number = run or (await client.inspect(ref)).info.run or 0
    lost = resumed = False
    while True:
        if lost:
            client, life = await host.up(after=life)
        try:
            if lost:
                tail, resumed = OVERLAP, True
                now = run or (await client.inspect(ref)).info.run or 0
                if not number:
                    number, tail = now, None  # it had no run yet
                while number < now:  # runs that ended meanwhile
                    async for left in _rest(client, ref, number, place):
                        yield left
                    place, number, tail = _Place(begins=0), number + 1, None
                lost = False
            place.rewind()
            async with closing(client.output(ref, follow=True, run=run, tail=tail)) as chunks:
                async for chunk in chunks:
                    if place.restarts(chunk):
                        number = run or (await client.inspect(ref)).info.run or 0
                        place = _Place(begins=0)
                    if piece := place.fresh(chunk, whole=resumed and tail is not None):
                        yield piece
            return
        except _Gap:
            tail = tail * 8 if tail is not None and tail < MOST else None
        except KernelUnreachable as error:
            host.doubt(life, error)
            lost = True


async def _rest(client: SocketClient, ref: str, run: int, place: _Place) -> AsyncIterator[Chunk]:
    """What a run that has ended printed after ``place``."""
    place.rewind()
    async with closing(client.output(ref, run=run)) as chunks:
        async for chunk in chunks:
            if piece := place.fresh(chunk):
                yield piece


class _Gap(Exception):
    """Less was asked for than is missing."""


class _Place:
    """Which bytes of a run were passed on already."""

    def __init__(self, begins: int | None) -> None:
        self._begins = begins
        """Where a stream begins of which nothing was seen; ``None``: wherever it happens to."""
        self._ends: dict[str, int] = {}
        self._here: dict[str, int] = {}
        """Ends of what the present answer has told."""

    def rewind(self) -> None:
        """Another answer comes, about the same run."""
        self._here.clear()

    def restarts(self, chunk: Chunk) -> bool:
        """Whether ``chunk`` is the first of another run: one answer never goes back within a run."""
        return chunk.offset < self._here.get(chunk.stream, 0)

    def fresh(self, chunk: Chunk, *, whole: bool = False) -> Chunk | None:
        """What of ``chunk`` was not passed on yet.

        Raises:
            _Gap: Where nothing may be missing before it (``whole``), something is. Without, what is
                missing is kept no longer.
        """
        end = chunk.offset + len(chunk.data)
        seen = self._ends.get(chunk.stream, self._begins)
        if whole and seen is not None and chunk.offset > seen and chunk.stream not in self._here:
            raise _Gap
        self._here[chunk.stream] = end
        if seen is not None and seen > chunk.offset:
            if end <= seen:
                return None
            chunk = chunk._replace(offset=seen, data=chunk.data[seen - chunk.offset :])
        self._ends[chunk.stream] = end
        return chunk
