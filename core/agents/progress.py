"""What agents say of how far they are: kept in the books, at most one event a second from each.

Telling is cheap and often: what is said in between is written when the second is over, and only the last.
"""

from __future__ import annotations

import logging

import anyio

from ..errors import JournalUnavailable
from ..journal import events as ev
from ..journal.books import Books

log = logging.getLogger(__name__)

#: Seconds between two events of one agent.
SPACING = 1.0

#: Characters that are kept.
LONGEST = 200


class Progress:
    """Takes what agents say. ``run`` is one task of the kernel."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._said: dict[str, tuple[str, float | None]] = {}
        self._news = anyio.Event()

    def report(self, agent: str, text: str, percent: float | None) -> None:
        """Keep it; it is in the journal within about a second."""
        self._said[agent] = (text[:LONGEST], percent)
        self._news.set()

    async def run(self) -> None:
        """Write down what was said, for as long as the kernel lives."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            said, self._said = self._said, {}
            agents = self._books.pending.agents
            events = [
                ev.ProgressReported(agent=agent, text=text, percent=percent)
                for agent, (text, percent) in said.items()
                if agent in agents
            ]
            try:
                await self._books.commit(*events)
            except JournalUnavailable as error:
                log.info("what agents said of their progress is not written down: %s", error)
            await anyio.sleep(SPACING)
