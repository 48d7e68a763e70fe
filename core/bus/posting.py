"""Deciding whether a message is accepted, and what its row is. Decisions are made on pending state:
what is accepted and not durable yet counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from ..clock import Clock
from .books import Books
from .errors import BusUnavailable, MailboxFull, NoSuchMailbox, TooFast, TooManyHops
from .mailbox import Mailbox
from .message import Draft, Limits, Message, check, first_trace, next_trace, pack, seq_of, trace_prefix
from .rates import Rates
from .schemas import Schemas

#: Asked before a message is accepted, with sender, mode, address and type; raises ``Forbidden``.
Permit = Callable[[str, str, str, str], None]


def anyone(sender: str, mode: str, to: str, type_: str) -> None:
    """Everybody may write to everybody: the policy where none is configured."""


class Desk:
    """The checks every message passes, cheapest first."""

    def __init__(self, limits: Limits, clock: Clock, schemas: Schemas, permit: Permit) -> None:
        self.limits = limits
        self._clock = clock
        self._schemas = schemas
        self._permit = permit
        self.rates = Rates(limits.rate, limits.burst)
        self.called: Callable[[str], str] = str
        """What a mailbox's owner is called in errors."""
        self._prefix = trace_prefix()
        #: The last message handed out to each mailbox: what its agent sends next is caused by it.
        self.reading: dict[str, tuple[int, int, str]] = {}
        #: What each agent's run or turn was begun by: what it sends in that is caused by it, read or not.
        self._begun: dict[str, tuple[int, int, str]] = {}
        self.person: Callable[[str], bool] = lambda mailbox: mailbox.startswith("@")
        """Whether whoever has this mailbox is a person: what a person says is always a beginning."""

    def began(self, name: str, cause: Message) -> None:
        """This message is what ``name`` works on from now on, acknowledged or not, until it is ``over``."""
        self._begun[name] = (cause.seq, cause.hops, cause.trace)

    def answered(self, name: str, reply: Message) -> None:
        """``name`` has the reply it waited for: what it says next goes on with that trace.

        It is no further from the first message: who asks ten things in a row is one agent at work, not
        two that answer each other.
        """
        if name not in self.reading and name not in self._begun:
            self.reading[name] = (reply.seq, -1, reply.trace)

    def over(self, name: str) -> None:
        """What it does from now on was begun by nobody's message."""
        self._begun.pop(name, None)

    def admit(self, sender: str, mode: str, to: str, draft: Draft) -> None:
        """May this be sent?

        Raises:
            BadMessage: Out of bounds, not JSON, or not what its type asks for.
            Forbidden: The policy says no.
            TooFast: The sender is over its rate.
        """
        check(draft, self.limits)
        wait = self.rates.take(sender, self._clock.monotonic())
        if wait:
            raise TooFast(
                f"{self.called(sender)} sends more than {self.limits.rate:g} messages a second",
                f"The next one may be sent in {wait:.3f} s",
                "Wait, or put more into one message",
            )
        self._permit(sender, mode, to, draft.type)
        self._schemas.check(draft.type, draft.payload)

    def room(self, box: Mailbox) -> None:
        """Raises ``MailboxFull`` where one message more is one too many."""
        if box.depth >= self.limits.depth:
            raise MailboxFull(
                f"the mailbox of {self.called(box.name)} is full",
                f"{box.depth} messages wait in it",
                "Wait until it has read some",
            )

    def message(
        self,
        books: Books,
        seq: int,
        sender: str,
        mode: str,
        to: str,
        draft: Draft,
        boxes: Sequence[Mailbox],
        reply_to: int | None = None,
        deadline: float | None = None,
    ) -> Message:
        """The row of an admitted message.

        Raises:
            BadMessage: Its cause or trace is malformed.
            TooManyHops: The chain of causes is too long.
        """
        now = self._clock.time()
        payload, type_, priority, expires, cause_id, key, given = draft
        if (
            not cause_id
            and not given
            and reply_to is None
            and sender not in self.reading
            and sender not in self._begun
        ):
            cause, hops, trace = None, 0, first_trace(self._prefix, seq)
        else:
            cause, hops, trace = self._origin(books, sender, draft, reply_to)
            if self.person(sender):
                hops = 0
            # Who was asked may always answer: there are no more replies than questions.
            if hops > self.limits.hops and reply_to is None:
                raise TooManyHops(
                    f"this message is {hops} hops from the first one",
                    f"{self.limits.hops} are allowed, so that agents do not answer each other for ever",
                    "Stop here, or ask a person",
                )
            trace = next_trace(given or trace)
        row = (
            seq, now, sender, mode, to, type_, priority, payload, trace, cause, hops, reply_to, deadline,
            None if expires is None else now + expires, key or None,
            boxes[0].address if len(boxes) == 1 else pack([box.number for box in boxes]),
        )  # fmt: skip
        # A NamedTuple's own constructor takes twice as long, and this is paid for every message.
        return tuple.__new__(Message, row)

    def _origin(
        self, books: Books, sender: str, draft: Draft, reply_to: int | None
    ) -> tuple[int | None, int, str]:
        """What caused it, how many hops from the first message it is, and the trace it belongs to.

        Without a cause it is what the sender was handed last, if it still has that: who wants a storm
        does not say so.
        """
        cause = reply_to if reply_to is not None else seq_of(draft.cause) if draft.cause else None
        if cause is None:
            reading = self.reading.get(sender) or self._begun.get(sender)
            if reading is None:
                return None, 0, ""
            cause, hops, trace = reading
            return cause, hops + 1, trace
        known = books.messages.get(cause)
        if known is not None:
            return cause, known.hops + 1, known.trace
        hops, trace = books.past.get(cause, (-1, ""))
        return cause, hops + 1, trace


def known(books: Books, name: str) -> Mailbox:
    """The open mailbox of an agent.

    Raises:
        NoSuchMailbox: There is none.
    """
    box = books.names.get(name)
    if box is None:
        raise NoSuchMailbox(
            f"nobody called {name[:64]!r} has a mailbox",
            "It never had one, or has ended",
            "List who is there with agents",
        )
    return box


def refuse(problem: BusUnavailable | None, waiting: int) -> NoReturn:
    """Raises ``BusUnavailable``: the store takes nothing, or too much waits for the disk."""
    if problem is not None:
        raise BusUnavailable(problem.what, problem.why, problem.hint)
    raise BusUnavailable(
        "the bus is behind", f"{waiting} messages wait for the disk", "Send it again in a moment"
    )
