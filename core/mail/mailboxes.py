"""Mailboxes follow agents: open while an agent runs or can run again, closed when it ended for good.

An agent's mailbox is opened when it is made, at the latest when it or somebody else first needs it. It is
closed a moment after its end, so that a restart finds it as it was.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import anyio
import anyio.to_thread

from ..agents.agent import Agent
from ..bus.bus import Bus
from ..bus.errors import NoSuchMailbox
from ..clock import Clock
from ..errors import AgentTopError
from ..journal import events as ev
from ..journal.books import Books
from ..journal.events import Event, Record
from .directory import Directory

log = logging.getLogger(__name__)

#: Seconds between the end of an agent and of its mailbox: a restart ends a run before it begins the next.
CLOSING = 2.0

#: Seconds until what the mail store did not take is tried again.
AGAIN = 1.0

#: People who may have mailboxes.
PEOPLE = 100

#: What can make an agent able or unable to read mail.
_TURNS = frozenset(
    (
        ev.AgentCreated,
        ev.AgentChanged,
        ev.AgentRemoved,
        ev.RunStarting,
        ev.RunExited,
        ev.RestartScheduled,
        ev.RestartGivenUp,
        ev.StopRequested,
    )
)


class Mailboxes:
    """Opens and closes. ``run`` is one task of the kernel.

    Args:
        resumable: Whether an ended agent's next run could go on with its conversation; may read a file.
    """

    def __init__(
        self, books: Books, bus: Bus, directory: Directory, clock: Clock, resumable: Callable[[Agent], bool]
    ) -> None:
        self._books = books
        self._bus = bus
        self._directory = directory
        self._clock = clock
        self._resumable = resumable
        self._may_return: dict[str, bool] = {}
        """Of agents that have ended: whether they can go on."""
        self._look: dict[str, None] = {}
        self._closing: dict[str, float] = {}
        self._news = anyio.Event()
        directory.people = self._is_person
        books.listen(self._committed)
        books.on_refold(self.compare)

    def _is_person(self, mailbox: str) -> bool:
        return mailbox == self._directory.owner or mailbox in self._bus.pipeline.books.names

    # --- asked -----------------------------------------------------------------------------------

    async def own(self, mailbox: str) -> str:
        """The caller's mailbox, open.

        Raises:
            NoSuchMailbox: Its agent has ended for good. BusUnavailable: it cannot be opened now.
        """
        await self._ensure(mailbox)
        return mailbox

    async def find(self, address: str) -> str:
        """The open mailbox of whoever is called so.

        Raises:
            NoSuchMailbox: That agent has ended for good. Others as ``Directory.mailbox``.
        """
        mailbox = self._directory.mailbox(address)
        await self._ensure(mailbox)
        return mailbox

    def ready(self, mailbox: str) -> bool:
        """Whether ``own`` and ``find`` would return at once: it is open, and whoever reads it is there."""
        if mailbox not in self._bus.pipeline.books.names:
            return False
        if mailbox.startswith("@"):
            return True
        agent = self._books.pending.agents.get(mailbox)
        return agent is not None and not agent.over

    async def _ensure(self, mailbox: str) -> None:
        is_open = mailbox in self._bus.pipeline.books.names
        if mailbox.startswith("@"):
            if not is_open:
                await self._open_person(mailbox)
            return
        agent = self._books.pending.agents.get(mailbox)
        if agent is None:
            raise NoSuchMailbox(
                f"{self._directory.name(mailbox)} is gone", "It was removed", "List who is there with agents"
            )
        if agent.over and not await self._returns(agent):
            raise NoSuchMailbox(
                f"{agent.name} has ended, and nobody reads its mail",
                f"It is {agent.state}" + (f": {agent.detail}" if agent.detail else ""),
                "List who is there with agents, or have it restarted",
            )
        if not is_open:
            await self._bus.open_mailbox(mailbox)

    async def _open_person(self, mailbox: str) -> None:
        people = sum(name.startswith("@") for name in self._bus.pipeline.books.names)
        if people >= PEOPLE:
            raise NoSuchMailbox(f"{mailbox} gets no mailbox", f"{PEOPLE} people have one")
        await self._bus.open_mailbox(mailbox)

    async def _returns(self, agent: Agent) -> bool:
        if agent.id not in self._may_return:
            await self._decide([agent])
        return self._may_return.get(agent.id, False)

    async def _decide(self, ended: Sequence[Agent]) -> None:
        """Find out who of these can go on: at once, since after a start they are many."""
        if not ended:
            return
        found = await anyio.to_thread.run_sync(lambda: [self._resumable(agent) for agent in ended])
        self._may_return.update(zip((agent.id for agent in ended), found, strict=True))

    def reads(self, agent: Agent) -> bool:
        """Whether mail can be sent to an agent now, as far as is known without looking it up."""
        return not agent.over or self._may_return.get(agent.id, False)

    def ended(self) -> frozenset[str]:
        """Open mailboxes whose agents will not read them any more."""
        agents = self._books.pending.agents
        return frozenset(
            name
            for name in self._bus.pipeline.books.names
            if not name.startswith("@") and ((agent := agents.get(name)) is None or not self.reads(agent))
        )

    # --- following -------------------------------------------------------------------------------

    def _committed(self, batch: Sequence[tuple[Record, Event]]) -> None:
        for _, event in batch:
            if type(event) in _TURNS and event.agent is not None:
                self._may_return.pop(event.agent, None)
                self._look[event.agent] = None
                self._news.set()

    def compare(self) -> None:
        """Look at everybody, and at every mailbox."""
        self._may_return.clear()
        self._look.update(dict.fromkeys(self._books.pending.agents))
        self._look.update(dict.fromkeys(self._bus.pipeline.books.names))
        self._news.set()

    async def run(self) -> None:
        """Open and close as agents come and go, for as long as the kernel lives."""
        self.compare()
        while True:
            self._news = anyio.Event()
            again = math.inf
            try:
                await self._settle()
            except AgentTopError as error:
                log.warning("mailboxes are not as they should be: %s", error)
                again = self._clock.monotonic() + AGAIN
            due = min([again, *self._closing.values()])
            wait = None if due == math.inf else max(0.0, due - self._clock.monotonic())
            with anyio.move_on_after(wait):
                await self._news.wait()
            if again != math.inf:
                await anyio.sleep(max(0.0, again - self._clock.monotonic()))

    async def _settle(self) -> None:
        look, self._look = self._look, {}
        try:
            await self._turn(look)
        except BaseException:
            self._look = {**look, **self._look}
            raise
        now = self._clock.monotonic()
        for mailbox in [one for one, due in self._closing.items() if due <= now]:
            agent = self._books.pending.agents.get(mailbox)
            if mailbox in self._bus.pipeline.books.names and not (agent and await self._wanted(agent)):
                await self._bus.close_mailbox(mailbox)
            del self._closing[mailbox]

    async def _turn(self, look: dict[str, None]) -> None:
        opened = [self._directory.owner]
        names = self._bus.pipeline.books.names
        agents = [agent for one in look if (agent := self._books.pending.agents.get(one)) is not None]
        await self._decide([one for one in agents if one.over and one.id not in self._may_return])
        for mailbox in look:
            agent = self._books.pending.agents.get(mailbox)
            if agent is not None and await self._wanted(agent):
                self._closing.pop(mailbox, None)
                opened.append(mailbox)
            elif mailbox in names and not mailbox.startswith("@"):
                self._closing.setdefault(mailbox, self._clock.monotonic() + CLOSING)
        await self._bus.open_mailboxes(opened)

    async def _wanted(self, agent: Agent) -> bool:
        return not agent.over or await self._returns(agent)
