"""What is waiting to be remembered: a bounded queue, written in batches about once a second.

Whoever listens hands in what it heard, without waiting and without reading it. Reading happens in a worker
thread, writing in the memory's own. What does not fit is dropped and counted; where the memory takes
nothing, it is tried again for ever, in growing steps, and everybody else goes on.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import anyio
import anyio.to_thread

from ...clock import Clock
from ...errors import AgentTopError
from ..model import MemoryUnavailable, Said

log = logging.getLogger(__name__)

MOST_BYTES = 32 << 20
MOST_ITEMS = 20_000
"""What waits at most. An item is a call, a message of one receiver, or a piece of output."""

BATCH = 2_000
"""Items that are read and written together."""

PAUSE = 1.0
"""Seconds between two writes, at least."""

_SHARE = 4.0
"""And at least so many times as long as the last one took: remembering takes a fifth of a processor."""

RETRY = (1.0, 2.0, 5.0, 10.0, 30.0)
_ENDING = 3.0
_SHOWN = 60.0
"""Seconds for which it is shown that something was dropped."""

Redact = Callable[[str], str]


class Item(NamedTuple):
    """Something that was heard and is not read yet."""

    source: str
    size: int
    """Bytes that it keeps in memory."""
    read: Callable[[Redact], Iterable[Said]]
    """What is to be remembered of it; runs in a worker thread."""


class Intake:
    """``offer`` from anywhere on the loop; ``run`` is one task of the kernel.

    Args:
        remember: Makes a batch durable (``Memory.remember``).
        redaction: Gives what takes secrets out of texts, as they are now.

    Attributes:
        dropped: How many items of each source were not remembered since the start.
        problem: Why nothing can be remembered now; empty if all is well.
        written: Called after each write with the agents that have something new.
        lost: Called with the agents whose batch was given up.
    """

    def __init__(
        self,
        remember: Callable[[Sequence[Said]], Awaitable[object]],
        clock: Clock,
        redaction: Callable[[], Redact],
    ) -> None:
        self._remember = remember
        self._clock = clock
        self._redaction = redaction
        self._waiting: deque[Item] = deque()
        self._size = 0
        self._news = anyio.Event()
        self._writing = anyio.Lock()
        self._unwritten: list[Said] = []
        self._dropped_at = float("-inf")
        self.dropped: Counter[str] = Counter()
        self.problem = ""
        self.written: list[Callable[[set[str]], None]] = []
        self.lost: list[Callable[[set[str]], None]] = []

    def offer(self, item: Item) -> bool:
        """Take an item; false, and counted, where there is no room for it."""
        if len(self._waiting) >= MOST_ITEMS or self._size + item.size > MOST_BYTES:
            self.drop(item.source)
            return False
        if not self._waiting:
            self._news.set()
        self._waiting.append(item)
        self._size += item.size
        return True

    def drop(self, source: str, count: int = 1) -> None:
        """Count something that will not be remembered."""
        self.dropped[source] += count
        self._dropped_at = self._clock.monotonic()

    @property
    def room(self) -> bool:
        """Whether more is welcome from a source that can wait."""
        return len(self._waiting) < MOST_ITEMS // 2 and self._size < MOST_BYTES // 2 and not self.problem

    @property
    def behind(self) -> str:
        """What was dropped, as long as that is news; empty otherwise."""
        if self._clock.monotonic() - self._dropped_at > _SHOWN:
            return ""
        return ", ".join(f"{count} {source}" for source, count in sorted(self.dropped.items()))

    async def run(self) -> None:
        """Write what comes, for as long as the kernel lives."""
        failures = 0
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            while self._waiting or self._unwritten:
                began = self._clock.monotonic()
                if await self.write():
                    failures = 0
                    await anyio.sleep(max(PAUSE, _SHARE * (self._clock.monotonic() - began)))
                else:
                    await anyio.sleep(RETRY[min(failures, len(RETRY) - 1)])
                    failures += 1

    async def finish(self) -> None:
        """Write what waits, within a few seconds: the kernel ends."""
        with anyio.move_on_after(_ENDING):
            while (self._waiting or self._unwritten) and await self.write():
                pass

    async def catch_up(self) -> None:
        """Return when what was offered until now is written, or the memory takes nothing now."""
        for _ in range(len(self._waiting) // BATCH + 2):  # one batch may be half written
            if not (self._waiting or self._unwritten or self._writing.locked()) or not await self.write():
                return

    async def write(self) -> bool:
        """Read and write one batch; false where the memory takes nothing now."""
        async with self._writing:
            if not self._unwritten and self._waiting:
                with anyio.CancelScope(shield=True):  # what was taken is not lost by whoever goes away
                    await self._take()
            if not self._unwritten:
                return True
            try:
                await self._remember(self._unwritten)
            except MemoryUnavailable as error:
                if not self.problem:
                    log.warning("nothing can be remembered now: %s", error)
                self.problem = str(error)
                return False
            except AgentTopError as error:
                log.warning("something could not be remembered: %s", error)
                await self._one_by_one()
            agents = {one.agent for one in self._unwritten}
            self._unwritten = []
            if self.problem:
                log.warning("what is said is remembered again")
                self.problem = ""
            for written in self.written:
                written(agents)
            return True

    async def _take(self) -> None:
        items = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        self._size -= sum(item.size for item in items)
        read = partial(self._read, items, self._redaction())
        self._unwritten = await anyio.to_thread.run_sync(read)

    async def _one_by_one(self) -> None:
        """One of them breaks a rule: the others are remembered."""
        for one in self._unwritten:
            try:
                await self._remember([one])
            except AgentTopError as error:
                log.info("not remembered: %s", error)
                self.drop(one.role)
                for lost in self.lost:
                    lost({one.agent})

    def _read(self, items: Sequence[Item], redact: Redact) -> list[Said]:
        found: list[Said] = []
        for item in items:
            try:
                found += item.read(redact)
            except Exception:
                # Whatever is in a hostile body: the others are remembered.
                log.exception("something of %s could not be read", item.source)
                self.drop(item.source)
        return found
