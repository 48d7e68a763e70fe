"""From what people and agents call somebody to a mailbox, and back."""

from __future__ import annotations

from collections.abc import Callable

from ..agents import registry
from ..agents.agent import Agent
from ..bus.errors import NoSuchMailbox
from ..errors import NoSuchAgent
from ..journal.books import Books

#: Names that are remembered of agents which are gone.
_REMEMBERED = 20_000


class Directory:
    """Names of mailboxes: an agent's id, or ``@`` and a person's name."""

    def __init__(self, books: Books, owner: str) -> None:
        self._books = books
        self._names = {agent.id: agent.name for agent in books.pending.agents.values()}
        self.owner = f"@{owner}"
        self.people: Callable[[str], bool] = lambda mailbox: mailbox == self.owner
        """Whether a person with this mailbox was ever here."""
        self.observed: Callable[[str], None] = lambda ref: None
        """Raises where an address is that of an agent somebody else started."""

    def agent(self, mailbox: str) -> Agent | None:
        """The agent with this mailbox, as it is decided by now."""
        return self._books.pending.agents.get(mailbox)

    def name(self, mailbox: str) -> str:
        """What a mailbox's owner is called: an agent's name, also for a while after its removal."""
        agent = self._books.pending.agents.get(mailbox)
        if agent is None:
            return self._names.get(mailbox, mailbox)
        return agent.spec.name

    def run(self, mailbox: str, at: float) -> int | None:
        """Which run of an agent it was that spoke at this moment, as far as the books know."""
        agent = self._books.pending.agents.get(mailbox)
        if agent is None or agent.run is None:
            return None
        for run in (agent.run, *reversed(agent.past)):
            if run.starting <= at:
                return run.number if run.ended is None or at <= run.ended else None
        return None

    def remember(self, mailbox: str, name: str) -> None:
        """What somebody is called; for when they are gone."""
        if self._names.get(mailbox) != name:
            if len(self._names) >= _REMEMBERED:
                del self._names[next(iter(self._names))]
            self._names[mailbox] = name

    def mailbox(self, address: str) -> str:
        """The mailbox that is meant, whether or not it is open.

        Raises:
            NoSuchAgent: Nobody is called so. AmbiguousAgent: several ids begin so.
            NoSuchMailbox: No such person is here. Conflict: somebody else started that agent.
        """
        if address.startswith("@"):
            mailbox = self.owner if address == "@me" else address
            if not self.people(mailbox):
                raise NoSuchMailbox(
                    f"there is no person {address[:80]}", f"{self.owner} is here", "Write to @me"
                )
            return mailbox
        try:
            return registry.resolve(self._books.pending, address).id
        except NoSuchAgent:
            self.observed(address)
            raise NoSuchAgent(
                f"there is no agent {address[:80] if address.isprintable() else repr(address)[:80]}",
                "Nobody has this name, id or beginning of an id",
                "List who is there with agents",
            ) from None
