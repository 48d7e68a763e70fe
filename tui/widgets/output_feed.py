"""Where a log view gets its output from: one stream that follows, and blocks read on demand.

A follower that cannot keep up does not queue: past ``FLOOD`` unread bytes it drops the stream and
starts again at the tail. So the cost on screen is bounded, whatever an agent prints, and the kernel
keeps what was skipped.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio

from agenttop.core.errors import AgentTopError

from .output_lines import Stream

if TYPE_CHECKING:
    from agenttop.core.backend import Chunk
    from agenttop.core.client import KernelClient

#: Bytes read from the end of each stream when a log is opened, and again after a flood.
TAIL = 96 << 10
#: Bytes that may wait to be shown before the follower skips to the tail.
FLOOD = 384 << 10
#: Bytes read at once when somebody scrolls beyond what is in memory.
BLOCK = 256 << 10
#: Seconds between two deliveries: a screen, not a pipe.
PACE = 0.1


class OutputFeed:
    """The output of one agent, as ``KernelClient.output`` gives it."""

    more = False
    """What is older is found by its offset."""

    def __init__(self, client: KernelClient, ref: str) -> None:
        self.client = client
        self.ref = ref
        self._waiting: list[Chunk] = []
        self._size = 0
        self._some = anyio.Event()
        self._taken = anyio.Event()
        self._room = anyio.Event()
        self.may_skip = True
        """Whether a flood is skipped (somebody follows) or held back (somebody reads)."""

    async def follow(self, deliver: Callable[[list[Chunk]], bool]) -> None:
        """Call ``deliver`` with what was printed, at most ten times a second, until the agent has ended.

        ``deliver`` returns false when it has no room: reading stops until ``go_on`` is called.

        Raises:
            AgentTopError: The kernel or the agent is not there.
        """
        self._waiting, self._size = [], 0
        self._room = anyio.Event()
        self._room.set()
        failure: AgentTopError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._deliver, deliver)
            try:
                while await self._read():
                    # Flooded: what is left is shown, then it begins again at the tail.
                    await self._shown()
                await self._shown()
            except AgentTopError as error:
                failure = error
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def go_on(self) -> None:
        """There is room again."""
        self._room.set()

    async def _read(self) -> bool:
        """Read until the output ends (false) or too much of it waits (true)."""
        async with aclosing(_closable(self.client.output(self.ref, follow=True, tail=TAIL))) as stream:
            async for chunk in stream:
                if self._size > FLOOD:
                    if self.may_skip:
                        self._keep_tail()
                        return True
                    await self._shown()
                self._waiting.append(chunk)
                self._size += len(chunk.data)
                self._some.set()
        return False

    def _keep_tail(self) -> None:
        while self._waiting and self._size - len(self._waiting[0].data) >= TAIL:
            self._size -= len(self._waiting.pop(0).data)

    async def _shown(self) -> None:
        """Wait until nothing is waiting to be shown."""
        while self._waiting:
            self._taken = anyio.Event()
            self._some.set()
            await self._taken.wait()

    async def _deliver(self, deliver: Callable[[list[Chunk]], bool]) -> None:
        while True:
            await self._some.wait()
            self._some = anyio.Event()
            chunks, self._waiting, self._size = self._waiting, [], 0
            if chunks and not deliver(chunks):
                self._room = anyio.Event()
                await self._room.wait()
            self._taken.set()
            await anyio.sleep(PACE)

    async def block(
        self, start: Mapping[Stream, int], *, run: int | None = None, size: int = BLOCK
    ) -> list[Chunk]:
        """Up to ``size`` bytes of each stream from the offsets ``start`` on (or the oldest kept).

        The contract reads from the end, so the distance to the end is found by asking: a few times
        at most, and fewer when nothing is printed meanwhile.
        """
        tail, before = size, None
        while True:
            chunks = await self._tail(tail, start, run, size)
            first: dict[Stream, int] = {}
            for chunk in chunks:
                first.setdefault(chunk.stream, chunk.offset)
            missing = max((first.get(stream, 0) - offset for stream, offset in start.items()), default=0)
            if missing <= 0:
                return chunks
            if first == before:
                # A longer tail begins at the same place: that is the oldest output kept.
                return await self._tail(tail, {**start, **first}, run, size)
            tail, before = tail + max(missing, tail), first

    async def _tail(self, tail: int, start: Mapping[Stream, int], run: int | None, size: int) -> list[Chunk]:
        chunks: list[Chunk] = []
        seen: set[Stream] = set()
        done: set[Stream] = set()
        async with aclosing(_closable(self.client.output(self.ref, run=run, tail=tail))) as stream:
            async for chunk in stream:
                begin = start.get(chunk.stream)
                if begin is None:
                    continue
                if chunk.stream not in seen and chunk.offset > begin:
                    # Not far enough back: this chunk only tells how much is missing.
                    return [chunk]
                seen.add(chunk.stream)
                data = chunk.data[max(0, begin - chunk.offset) : max(0, begin + size - chunk.offset)]
                if data:
                    chunks.append(chunk._replace(offset=max(chunk.offset, begin), data=data))
                if chunk.offset + len(chunk.data) >= begin + size:
                    done.add(chunk.stream)
                if len(done) == len(start):
                    break
        return chunks


def _closable(stream: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
    """``stream`` with an ``aclose``, as every client's generators have."""
    if isinstance(stream, AsyncGenerator):
        return stream

    async def wrapped() -> AsyncGenerator[Chunk, None]:
        async for chunk in stream:
            yield chunk

    return wrapped()
