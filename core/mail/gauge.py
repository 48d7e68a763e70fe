"""What the fleet table shows of an agent's mail, and the wait for a reply that lies over its state."""

from __future__ import annotations

from typing import NamedTuple

from ..agents.agent import Agent
from ..agents.states import State


class ReplyWait(NamedTuple):
    """An agent waits for replies."""

    text: str
    """From whom; the ring, if it is a deadlock."""
    since: float
    deadlock: bool


class MailGauge(NamedTuple):
    """An agent's mailbox, and what it waits for."""

    unread: int | None = None
    """``None``: it has no mailbox."""
    oldest: float | None = None
    """When the oldest unacknowledged one was accepted."""
    dead: int = 0
    waits: ReplyWait | None = None


NO_MAIL = MailGauge()

#: In these an agent can do nothing but wait, if it waits for a reply: no call runs, no person is asked.
_UNDER = frozenset({State.INITIALIZING, State.IDLE, State.EXECUTING})


def reply_wait(agent: Agent, mail: MailGauge) -> ReplyWait | None:
    """The wait for a reply that an agent is shown in, if it is."""
    if mail.waits is None or not agent.live or agent.pause is not None or agent.calls:
        return None
    return mail.waits if agent.state in _UNDER else None
