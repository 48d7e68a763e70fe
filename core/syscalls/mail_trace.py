"""Handlers of the verbs by which people follow messages: one, its conversation, topics, the live picture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ..api import bus as api
from ..bus.errors import NoSuchMessage
from ..bus.message import Message, seq_of
from ..mail import live, trace
from . import letters
from .caller import Caller
from .table import Syscalls

if TYPE_CHECKING:
    from ..mail.mailroom import Mailroom


class TraceCalls:
    """What was said of late. Payloads of finished messages are known as far as the trace keeps them."""

    def __init__(self, mailroom: Mailroom) -> None:
        self._room = mailroom
        self._bus = mailroom.bus

    def add_to(self, table: Syscalls) -> None:
        """Put the handlers into the table."""
        table.add(api.TOPICS, self.topics)
        table.add(api.MESSAGE, self.message)
        table.add(api.CONVERSATION, self.conversation)
        table.add_stream(api.WATCH, self.watch)

    async def topics(self, caller: Caller, request: api.NoRequest) -> list[api.TopicInfo]:
        """Topics published to of late and patterns subscribed to, by name."""
        name = self._room.directory.name
        return [
            api.TopicInfo(topic=topic, subscribers=[name(one) for one in subscribers], per_minute=rate)
            for topic, subscribers, rate in self._room.topics()
        ]

    def _found(self, request: api.MessageRequest) -> Message:
        self._room.trace.digest()
        seq = seq_of(request.id)
        message = self._bus.pipeline.books.messages.get(seq) or self._room.trace.messages.get(seq)
        if message is None:
            raise NoSuchMessage(
                f"{request.id} is not known any more", "It was read, and others came since", "Search recall"
            )
        return message

    async def message(self, caller: Caller, request: api.MessageRequest) -> api.MessageInfo:
        """One message.

        Raises:
            NoSuchMessage: It never was, or is finished and older than what the trace keeps.
        """
        (found,) = await self._told([self._found(request)])
        return found

    async def conversation(self, caller: Caller, request: api.MessageRequest) -> list[api.MessageInfo]:
        """The messages of its trace, as far as they are known; raises as ``message``."""
        known = self._found(request).trace[3:35]
        every = {**self._room.trace.messages, **self._bus.pipeline.books.messages}
        return await self._told([every[seq] for seq in sorted(every) if every[seq].trace[3:35] == known])

    async def _told(self, messages: list[Message]) -> list[api.MessageInfo]:
        books, seen = self._bus.pipeline.books, self._room.trace
        whole = await self._bus.mail.whole([books.messages.get(one.seq, one) for one in messages])
        found = []
        for message in whole:
            size = seen.size(message)
            if message.payload is not None and size == len(message.payload):
                found.append(letters.info(message, self._room.directory))
                continue
            # Cut, or deleted since: what is known of it, as a text.
            kept = seen.messages.get(message.seq, message)
            told = letters.info(
                message._replace(payload=None),
                self._room.directory,
                payload=trace.beginning(kept.payload, size),
            )
            found.append(told.model_copy(update={"size": size}))
        return found

    def watch(self, caller: Caller, request: api.BusWatchRequest) -> AsyncIterator[api.BusChange]:
        """The live picture."""
        return live.watch(self._room, request)
