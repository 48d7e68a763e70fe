"""``Keeper``: the memory's tasks in the kernel. Nothing here is on the path of a write."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Sequence

import anyio

from ...clock import Clock
from ...errors import AgentTopError, JournalUnavailable
from ...journal import events as ev
from ...journal.books import Books
from ..facts import Fact
from ..memory import Memory
from ..model import MemoryUnavailable
from ..working import Written
from .settings import RetentionTable

log = logging.getLogger(__name__)

SETTLED = 2.0
"""Seconds after the kernel's start before the file is opened for its own sake."""
DAY = 86_400.0
_LOOK = 3_600.0
"""Seconds between two looks at whether a day has passed."""
_GROUP = 500
"""Facts the journal hears at once."""
_SUMMARIES = 64
"""Of writes that wait for theirs; what is beyond keeps none, and is in recall as everything is."""


class Keeper:
    """``run`` is a task of the kernel's."""

    def __init__(
        self,
        memory: Memory,
        books: Books,
        clock: Clock,
        retention: RetentionTable,
        *,
        settled: float = SETTLED,
    ) -> None:
        self._memory = memory
        self._books = books
        self._clock = clock
        self._retention = retention
        self._settled = settled
        self._changed = anyio.Event()
        self._noted = anyio.Event()
        self._overflows: deque[Written] = deque()
        self._overflow = anyio.Event()
        self._left: set[str] | None = None
        self._removed: set[str] = set()
        memory.on_change.append(self._has_changed)
        memory.on_overflow.append(self._overflowed)
        books.listen(self._committed)

    def _committed(self, batch: Sequence[tuple[ev.Record, ev.Event]]) -> None:
        self._removed |= {e.agent for _, e in batch if isinstance(e, ev.AgentRemoved)}

    async def remembered(self) -> Collection[str]:
        """Ids of agents that are gone and may have memory left."""
        if self._left is None:
            try:
                self._left = set(await self._memory.agents()) if self._memory.begun else set()
            except MemoryUnavailable as error:
                log.warning("%s", error)
                return self._removed
        self._left |= self._removed
        return self._left

    def _has_changed(self) -> None:
        self._changed.set()
        self._noted.set()

    def _overflowed(self, written: Written) -> None:
        if len(self._overflows) == _SUMMARIES:
            log.info("no summary for block %s: too many wait", written.block.name)
            return
        self._overflows.append(written)
        self._overflow.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._tell, name="memory facts")
            tasks.start_soon(self._embed, name="embed")
            tasks.start_soon(self._summarise, name="summaries")
            if self._retention.age is not None or self._retention.entries is not None:
                tasks.start_soon(self._retain, name="retain")

    # --- the journal

    async def _tell(self) -> None:
        """Tell the journal what moved and that something was forgotten; at the start, what a crash left."""
        with anyio.move_on_after(self._settled):
            await self._changed.wait()
        try:
            await self._memory.settle()
        except MemoryUnavailable as error:
            log.warning("%s", error)
        while True:
            self._changed = anyio.Event()
            try:
                await self.tell()
            except MemoryUnavailable as error:
                log.warning("%s", error)
            except JournalUnavailable:
                await self._books.healthy()
                continue
            await self._changed.wait()

    async def tell(self) -> None:
        """Tell all that is there to tell."""
        while facts := await self._memory.facts(_GROUP):
            if said := events_of(facts):
                await self._books.commit(*said)
            await self._memory.told(facts[-1].id)

    # --- models

    async def _embed(self) -> None:
        """Make vectors of what was written; after a failure later, and again later after the next."""
        with anyio.move_on_after(self._settled):
            await self._noted.wait()
        while self._memory.embeds:
            self._noted = anyio.Event()
            try:
                while await self._memory.embed():
                    pass
            except AgentTopError as error:
                delay = self._memory.embeds_again_in
                log.warning("no embeddings for %.0f s: %s", delay, error)
                await anyio.sleep(delay)
            else:
                await self._noted.wait()

    async def _summarise(self) -> None:
        while True:
            while self._overflows:
                written = self._overflows.popleft()
                try:
                    await self._memory.summarise(written)
                except AgentTopError as error:  # the text is in recall all the same
                    log.warning("no summary for block %s: %s", written.block.name, error)
            self._overflow = anyio.Event()
            await self._overflow.wait()

    # --- retention

    async def _retain(self) -> None:
        await anyio.sleep(self._settled)
        while True:
            try:
                if await self._memory.retained() + DAY <= self._clock.time():
                    await self._memory.retain(self._retention.age, self._retention.entries)
            except MemoryUnavailable as error:
                log.warning("%s", error)
            await anyio.sleep(_LOOK)


def events_of(facts: list[Fact]) -> list[ev.Event]:
    """What the journal hears of these: moves of one agent between two tiers as one."""
    moves: dict[tuple[str, str, str], list[Fact]] = {}
    found: list[ev.Event] = []
    for fact in facts:
        fields = fact.fields
        match fact.kind:
            case "moved":
                moves.setdefault((fields["agent"], fields["source"], fields["target"]), []).append(fact)
            case "forgotten":
                found.append(ev.MemoryForgotten.model_validate(fields))
            case "expired":
                found.append(ev.MemoryExpired.model_validate(fields))
    for (agent, source, target), group in moves.items():
        found.append(
            ev.MemoryMoved(
                agent=agent or None,
                source=source,
                target=target,
                first=group[0].fields["move"],
                last=group[-1].fields["move"],
                count=len(group),
                tokens=sum(one.fields["tokens"] for one in group),
            )
        )
    return found
