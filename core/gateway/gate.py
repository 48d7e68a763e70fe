"""Holds by people: an agent's, and the kill switch over all. A closed gate lets no call go on."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from ..agents.agent import Agent
from ..journal import events as ev
from ..journal.books import Books
from .desk import Refused
from .holding import Holding

HALTED = "halted"
"""What a row says of a call that the kill switch keeps."""


class Gate:
    """Keeps calls while their agent is held or the fleet is halted."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.excused: Callable[[Agent], bool] = lambda _: False
        """Agents that make calls without a run: the kernel's own."""
        self._changed = anyio.Event()
        books.on_post(self._posted)
        books.on_refold(self.wake)

    def agent(self, agent_id: str) -> Agent:
        """The agent, while it lives.

        Raises:
            Refused: It has ended.
        """
        record = self._books.pending.agents.get(agent_id)
        if record is None or not (record.live or self.excused(record)):
            raise Refused("ended", "this agent has ended")
        return record

    def closed(self, agent: Agent) -> bool:
        """Whether its calls are kept now."""
        return agent.hold is not None or self._books.pending.halted

    async def wait(self, agent_id: str, holding: Holding) -> None:
        """Return when the gate is open; says that the call is kept, not that it goes on.

        Raises:
            Refused: The agent ended meanwhile.
        """
        while self.closed(self.agent(agent_id)):
            holding.because(None, HALTED if self._books.pending.halted else "")
            await self._changed.wait()

    async def changed(self) -> None:
        """Return after the next resume, unhalt, end of a run, or ``wake``."""
        await self._changed.wait()

    def wake(self) -> None:
        """Something that calls wait for may have come."""
        self._changed.set()
        self._changed = anyio.Event()

    def _posted(self, event: ev.Event) -> None:
        match event:
            case ev.AgentResumed() | ev.FleetUnhalted() | ev.RunExited() | ev.AgentRemoved():
                self.wake()
