"""The bus as the kernel has it: opened with its limits and rules, and with all that follows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio

from ..agents.agent import Agent
from ..bus.bus import Bus
from ..clock import Clock
from ..journal import events as ev
from ..journal.books import Books
from .deadlocks import Deadlocks
from .directory import Directory
from .gauge import MailGauge, ReplyWait
from .mailboxes import Mailboxes
from .rules import Rules
from .settings import BusTable


class Mailroom:
    """One per kernel. ``open`` it, then ``run`` it as a task."""

    def __init__(self, books: Books, clock: Clock, settings: BusTable, owner: str) -> None:
        self._books = books
        self._clock = clock
        self.settings = settings
        self.directory = Directory(books, owner)
        self.rules = Rules(settings.rules, self.directory.agent, self.directory.name)
        self.resumable: Callable[[Agent], bool] = lambda agent: False
        """Whether an ended agent's next run could go on with its conversation."""
        self.deadlocks = Deadlocks(self.directory, breaks=settings.deadlock == "break")
        self.bus: Bus
        self.mailboxes: Mailboxes
        books.on_post(self._posted)

    async def open(self, path: Path) -> Bus:
        """Open the mail store.

        Raises:
            BusUnavailable: It cannot be opened. StoreTooNew: a newer version wrote it.
        """
        self.bus = await Bus.open(
            path, self._clock, self.settings.limits(), self.rules.permit, self.deadlocks.found
        )
        self.bus.desk.called = self.directory.name
        self.mailboxes = Mailboxes(
            self._books, self.bus, self.directory, self._clock, lambda agent: self.resumable(agent)
        )
        return self.bus

    async def run(self) -> None:
        """Keep mailboxes and agents together, for as long as the kernel lives."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.bus.run, name="bus")
            tasks.start_soon(self.mailboxes.run, name="mailboxes")

    def gauge(self, agent: Agent) -> MailGauge:
        """What is shown of an agent's mail."""
        books = self.bus.pipeline.books
        box = books.box_of(agent.id)
        if box is None:
            return MailGauge()
        oldest = books.messages.get(box.oldest) if box.oldest is not None else None
        return MailGauge(
            len(box.letters) if agent.id in books.names else None,
            oldest.at if oldest is not None else None,
            len(box.dead),
            self._reply_wait(agent.id) if agent.live else None,
        )

    def _reply_wait(self, mailbox: str) -> ReplyWait | None:
        books = self.bus.pipeline.books
        asked = books.waits.of(mailbox)
        if not asked:
            return None
        first = min(seq for requests in asked.values() for seq in requests)
        ring = next((ring for ring in self.deadlocks.standing(self.bus) if mailbox in ring), None)
        if ring is not None:
            place = ring.index(mailbox)
            turned = [self.directory.name(one) for one in (*ring[place:], *ring[:place])]
            text = "deadlock: " + " → ".join([*turned, turned[0]])
        else:
            text = "reply of " + ", ".join(sorted(self.directory.name(one) for one in asked))
        return ReplyWait(text, books.messages[first].at, ring is not None)

    def _posted(self, event: ev.Event) -> None:
        if isinstance(event, ev.AgentCreated | ev.AgentChanged | ev.AgentRemoved):
            self.rules.forget()
