"""Handlers of the verbs by which agents and people use the bus: send, ask, take, acknowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..api import bus as api
from ..bus.errors import BadMessage, Deadlock, MailboxFull, NoReply
from ..bus.message import seq_of
from ..errors import Forbidden
from . import letters
from .caller import Caller
from .mail_boxes import BoxCalls
from .mail_trace import TraceCalls
from .table import Syscalls

if TYPE_CHECKING:
    from ..kernel import Kernel
    from ..mail.mailroom import Mailroom

#: Patterns one mailbox may subscribe to.
PATTERNS = 1_000


class MailCalls:
    """What a caller does with messages; a person acts as ``@NAME``."""

    def __init__(self, mailroom: Mailroom) -> None:
        self._room = mailroom
        self._bus = mailroom.bus
        self._boxes = mailroom.mailboxes
        self._directory = mailroom.directory

    def add_to(self, table: Syscalls) -> None:
        """Put the handlers into the table."""
        table.add(api.SEND, self.send)
        table.add(api.ASK, self.ask)
        table.add(api.REPLY, self.reply)
        table.add(api.PUBLISH, self.publish)
        table.add(api.INBOX, self.inbox)
        table.add(api.ACK, self.ack)
        table.add(api.SUBSCRIBE, self.subscribe)

    async def receiver(self, caller: Caller, address: str) -> str:
        """The open mailbox that is written to; as ``Mailboxes.find``, but ``BadMessage`` for one's own."""
        to = await self._boxes.find(address)
        if to == caller.mailbox:
            raise BadMessage(
                f"{address[:80]} is who sends it",
                "Mail to oneself would only come back",
                "Keep notes for yourself in memory",
            )
        return to

    async def send(self, caller: Caller, request: api.SendRequest) -> api.SentInfo:
        """Durable on return.

        Raises:
            NoSuchAgent, AmbiguousAgent, NoSuchMailbox: Who that is cannot be told, or it reads no more.
            BadMessage, Forbidden, TooFast, TooManyHops, MailboxFull, BusUnavailable: as ``Bus.post``.
        """
        draft = letters.draft(request)
        if request.to == "*":
            return await self._send_all(caller, None, request)
        to = await self.receiver(caller, request.to)
        try:
            posted = self._bus.post(caller.mailbox, to, draft)
        except MailboxFull:
            if request.wait <= 0:
                raise
            return api.SentInfo(
                id=await self._bus.send(caller.mailbox, to, draft, patience=request.wait), to=to
            )
        await posted.batch
        return api.SentInfo(id=f"m{posted.seq}", to=to, again=posted.again)

    async def publish(self, caller: Caller, request: api.PublishRequest) -> api.SentInfo:
        """Durable on return, in the mailboxes of all subscribers of now."""
        return await self._send_all(caller, request.topic, request)

    async def _send_all(self, caller: Caller, topic: str | None, request: api.DraftRequest) -> api.SentInfo:
        draft = letters.draft(request)
        spared: frozenset[str] = frozenset()
        if topic is None:
            spared = (
                self._room.rules.spared(caller.mailbox, draft.type, self._bus.pipeline.books.names)
                | self._boxes.ended()
            )
        posted, count, full = self._bus.post_all(caller.mailbox, topic, draft, spared)
        await posted.batch
        return api.SentInfo(id=f"m{posted.seq}", receivers=count, full=full, again=posted.again)

    async def ask(self, caller: Caller, request: api.AskRequest) -> api.MessageInfo:
        """The reply, acknowledged; leaving before it comes ends the request.

        Raises:
            NoReply: There was none in time. Deadlock: everybody would have waited for somebody else.
        """
        draft = letters.draft(request)
        await self._boxes.own(caller.mailbox)
        to = await self.receiver(caller, request.to)
        try:
            found = await self._bus.ask(caller.mailbox, to, draft, request.timeout)
        except NoReply as error:
            what = error.what.replace(to, self._directory.name(to), 1)
            why = error.why
            if isinstance(error, Deadlock):
                why = self._room.deadlocks.said(caller.mailbox) or why
            raise type(error)(what, why, error.hint) from error
        return letters.info(found.message, self._directory, found.attempt)

    async def reply(self, caller: Caller, request: api.ReplyRequest) -> api.SentInfo:
        """Durable on return, the request acknowledged with it.

        Raises:
            Conflict: Nobody waits for it any more. Forbidden: somebody else was asked.
            OutOfOrder: Earlier mail of the same sender is not acknowledged.
        """
        mailbox = await self._boxes.own(caller.mailbox)
        seq = seq_of(request.request)
        asked = self._bus.pipeline.books.requests.get(seq)
        sent = await self._bus.reply(mailbox, seq, letters.draft(request))
        return api.SentInfo(id=sent, to=asked.asker if asked is not None else "", again=asked is None)

    async def inbox(self, caller: Caller, request: api.InboxRequest) -> list[api.MessageInfo]:
        """What waits, once what was taken before is acknowledged.

        Raises:
            OutOfOrder: See ``ack``. NoSuchMailbox: it was closed.
        """
        mailbox = await self._boxes.own(caller.mailbox)
        if request.ack:
            await self._bus.mail.ack(mailbox, [seq_of(one) for one in request.ack])
        found = await self._bus.mail.take(
            mailbox, request.limit, run=request.run, wait=request.wait, visible_after=request.visible
        )
        return [letters.info(one.message, self._directory, one.attempt) for one in found]

    async def ack(self, caller: Caller, request: api.AckRequest) -> api.AckInfo:
        """Durable on return.

        Raises:
            OutOfOrder: An earlier one of the same sender and priority is not acknowledged.
        """
        mailbox = await self._boxes.own(caller.mailbox)
        return api.AckInfo(acked=await self._bus.mail.ack(mailbox, [seq_of(one) for one in request.ids]))

    async def subscribe(self, caller: Caller, request: api.SubscribeRequest) -> list[str]:
        """What is subscribed to now.

        Raises:
            Forbidden: An agent meant another one. BadMessage: it is no pattern, or one too many.
        """
        mailbox = await self._boxes.own(caller.mailbox)
        if request.agent:
            mailbox = await self._boxes.find(request.agent)
            if caller.agent is not None and mailbox != caller.mailbox:
                raise Forbidden(
                    "an agent subscribes for itself only", f"{request.agent[:80]} is somebody else"
                )
        topics = self._bus.pipeline.books.topics
        number = self._bus.pipeline.books.names[mailbox].number
        if request.end:
            await self._bus.unsubscribe(mailbox, request.pattern)
        else:
            patterns = topics.patterns(number)
            if len(patterns) >= PATTERNS and request.pattern not in patterns:
                raise BadMessage(
                    f"{self._directory.name(mailbox)} subscribes to {len(patterns)} patterns",
                    "It may have no more",
                    "End one, or use a wildcard",
                )
            await self._bus.subscribe(mailbox, request.pattern)
        return self._bus.pipeline.books.topics.patterns(number)


def add(table: Syscalls, kernel: Kernel) -> None:
    """Put this room's handlers into the table."""
    MailCalls(kernel.mailroom).add_to(table)
    BoxCalls(kernel.mailroom).add_to(table)
    TraceCalls(kernel.mailroom).add_to(table)
