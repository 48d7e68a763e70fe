"""What a managed agent's own transcript tells of its state, and no model call does: an open question.

A client that asks its person something, or for a permission, makes no call meanwhile. Where it has a
terminal and the gateway sees nothing of it, its transcript decides between ``executing`` and
``waiting: input``. Tokens are never taken from there: the gateway is the meter of record.
"""

from __future__ import annotations

import logging
from typing import Literal, cast

from ..agents.agent import Agent
from ..agents.states import State, Waiting
from ..errors import JournalUnavailable
from ..journal import events as ev
from ..journal.books import Books
from .contract import View
from .sightings import Sightings

log = logging.getLogger(__name__)

#: What a client may do once its question is answered.
_AFTER = frozenset({State.IDLE, State.PLANNING, State.EXECUTING})


class Asking:
    """Compares the transcripts of managed agents with their states after each look."""

    def __init__(self, books: Books, sightings: Sightings) -> None:
        self._books = books
        self._sightings = sightings

    async def told(self) -> None:
        """Write down which questions were opened and closed since the last look."""
        seen: set[str] = set()
        for observed in self._sightings.managed:
            # Of several of one agent the first is the one in its terminal, the others are its own agents.
            if observed.managed in seen or observed.view is None:
                continue
            seen.add(observed.managed)
            agent = self._books.pending.agents.get(observed.managed)
            event = _news(agent, observed.view) if agent is not None else None
            if event is not None:
                try:
                    await self._books.commit(event)
                except JournalUnavailable as error:
                    log.debug("a question was not written down, and will be: %s", error)
                    return


def _news(agent: Agent, view: View) -> ev.InputAwaited | ev.InputGiven | None:
    if agent.run is None or not agent.live or agent.calls or agent.freeze is not None:
        return None
    waits = agent.state is State.WAITING and agent.reason is Waiting.INPUT
    if view.state is State.WAITING and view.reason is Waiting.INPUT:
        if waits and agent.detail == view.detail:
            return None
        return ev.InputAwaited(agent=agent.id, run=agent.run.number, detail=view.detail)
    if waits and agent.detail and view.state in _AFTER:
        state = cast("Literal['idle', 'planning', 'executing']", view.state.value)
        tool = (view.tool or "") if view.state is State.EXECUTING else ""
        return ev.InputGiven(agent=agent.id, run=agent.run.number, state=state, detail=tool)
    return None
