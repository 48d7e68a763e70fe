"""What happens on the bus, as far as the journal tells of it: seals, dead letters, deadlocks, progress.

Messages themselves are in the mail store, where they can be deleted. The journal has one seal over all of
a second: an event for each message would cost the journal what the messages cost, and could not be
forgotten with them.
"""

from __future__ import annotations

from .event import AgentEvent, Event


class MailSealed(Event):
    """So many messages were accepted: numbers ``first`` to ``last``, with a keyed digest over them.

    The digest anchors what was said in the chain without saying it: see ``core/mail/seals.py``.
    """

    first: int
    last: int
    count: int
    digest: str


class MailDied(Event):
    """Messages in one mailbox became dead letters for one reason; ``agent`` is whose it is.

    ``count`` of them within a second; ``message`` and ``sender`` are the first one's.
    """

    mailbox: str
    name: str
    message: int
    sender: str
    reason: str
    count: int = 1


class DeadlockFound(Event):
    """Agents wait for each other's replies, each for the next and the last for the first."""

    agents: list[str]
    names: list[str]
    broken: bool = False
    """The youngest request was ended for it."""


class ProgressReported(AgentEvent):
    """How far an agent says it is, of its present run; hostile."""

    text: str = ""
    percent: float | None = None
