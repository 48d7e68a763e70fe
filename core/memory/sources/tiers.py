"""How much every agent has in each tier, for the fleet table: counted when something changed, and is seen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio

from ...clock import Clock
from ...errors import AgentTopError
from ..memory import Memory

log = logging.getLogger(__name__)

Counts = tuple[int, int, int]
"""Tokens of working memory, entries of recall, notes of the archive."""

PAUSE = 1.0
"""Seconds between two counts, at least; and ``_SHARE`` times as long as the last one took."""
_SHARE = 20.0

_SQL = (
    "SELECT agent, sum(tokens) FROM block GROUP BY agent",
    "SELECT agent, entries FROM tally",
    # As ``Memory.fill`` has it: what it wrote anywhere, and what others wrote for it alone.
    "SELECT by, count(*) FROM note GROUP BY by",
    "SELECT substr(namespace, 9), count(*) FROM note WHERE namespace >= 'private/' AND namespace < 'private0'"
    " AND by <> substr(namespace, 9) GROUP BY namespace",
)


class Tiers:
    """``run`` is one task of the kernel; ``of`` is what a row shows.

    Args:
        watched: Whether anybody looks at rows.
        touched: Told of each agent whose counts changed.
    """

    def __init__(
        self,
        memory: Memory,
        clock: Clock,
        watched: Callable[[], bool],
        touched: Callable[[str], None],
    ) -> None:
        self._memory = memory
        self._clock = clock
        self._watched = watched
        self._touched = touched
        self._counts: dict[str, Counts] = {}
        self._news = anyio.Event()
        memory.on_change.append(self.changed)

    def of(self, agent: str) -> Counts | None:
        """What an agent has; ``None`` where it has nothing, or that was not counted yet."""
        return self._counts.get(agent)

    def changed(self) -> None:
        """Something was written or forgotten."""
        self._news.set()

    async def run(self) -> None:
        """Count what changes, as long as somebody looks."""
        while True:
            if not self._watched():
                await anyio.sleep(PAUSE)
                continue
            self._news = anyio.Event()
            began = self._clock.monotonic()
            try:
                await self._count()
            except AgentTopError as error:
                log.info("the tiers are not counted: %s", error)
            await anyio.sleep(max(PAUSE, _SHARE * (self._clock.monotonic() - began)))
            await self._news.wait()

    async def _count(self) -> None:
        counts = await self._memory.look(_look)
        before, self._counts = self._counts, counts
        for agent in counts.keys() | before.keys():
            if counts.get(agent) != before.get(agent):
                self._touched(agent)


def _look(db: Any) -> dict[str, Counts]:
    found: dict[str, list[int]] = {}
    for place, sql in zip((0, 1, 2, 2), _SQL, strict=True):
        for agent, count in db.execute(sql):
            found.setdefault(agent, [0, 0, 0])[place] += count
    return {agent: (counts[0], counts[1], counts[2]) for agent, counts in found.items()}
