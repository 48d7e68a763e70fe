"""What can be wrong with a message, said so that an agent can act on it."""

from __future__ import annotations

from typing import ClassVar

from ..errors import AgentTopError, Conflict, JournalUnavailable, UsageError


class BusUnavailable(JournalUnavailable):
    """The mail store cannot be written; no message is accepted until it can."""

    code: ClassVar[str] = "bus_unavailable"


class MailDamaged(BusUnavailable):
    """What is in the mail store is not what was written there."""

    code: ClassVar[str] = "mail_damaged"


class BadMessage(UsageError):
    """A message out of bounds: its address, type, payload, trace or times."""

    code: ClassVar[str] = "bad_message"


class NoSuchMailbox(AgentTopError):
    """Nobody has this mailbox, or its agent has ended for good."""

    exit_code: ClassVar[int] = 3
    status: ClassVar[int] = 404
    code: ClassVar[str] = "no_such_mailbox"


class NoSuchMessage(AgentTopError):
    """No such message is waiting, asked or dead here."""

    exit_code: ClassVar[int] = 3
    status: ClassVar[int] = 404
    code: ClassVar[str] = "no_such_message"


class MailboxFull(AgentTopError):
    """The receiver has as much unread mail as it may have: wait, or send less."""

    status: ClassVar[int] = 429
    code: ClassVar[str] = "mailbox_full"


class TooFast(AgentTopError):
    """The sender sends faster than it may."""

    status: ClassVar[int] = 429
    code: ClassVar[str] = "too_fast"


class TooManyHops(AgentTopError):
    """This message has as many causes before it as it may: agents answer each other's answers."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "too_many_hops"


class OutOfOrder(Conflict):
    """An earlier message of the same sender and priority must be acknowledged first."""

    code: ClassVar[str] = "out_of_order"


class NoReply(AgentTopError):
    """A request ended without a reply: its deadline passed, it was cancelled, or it is a dead letter."""

    status: ClassVar[int] = 504
    code: ClassVar[str] = "no_reply"


class Deadlock(NoReply):
    """A request was cancelled because agents wait for each other in a ring."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "deadlock"
