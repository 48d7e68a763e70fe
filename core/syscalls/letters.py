"""Messages on their way through the door: drafts from requests, and what is shown of a message."""

from __future__ import annotations

from typing import Any

import orjson

from ..api.bus import DraftRequest, Kind, MessageInfo
from ..bus.errors import BadMessage
from ..bus.message import DIRECT, Draft, Message
from ..mail.directory import Directory


def draft(request: DraftRequest) -> Draft:
    """The bus's draft of what was asked.

    Raises:
        BadMessage: The payload cannot be written as JSON.
    """
    try:
        payload = orjson.dumps(request.payload)
    except TypeError as error:  # numbers beyond 64 bits, nested too deep, half a surrogate pair
        raise BadMessage("the payload cannot be written as JSON", str(error), "Send it as a text") from error
    return Draft(
        payload,
        request.type,
        request.priority,
        request.expires,
        request.cause or "",
        request.key,
        request.trace,
    )


def kind(message: Message) -> Kind:
    """How it was addressed, and whether it asks or answers."""
    if message.mode != DIRECT:
        return "topic" if message.mode == "topic" else "broadcast"
    if message.deadline is not None:
        return "request"
    return "direct" if message.reply_to is None else "reply"


def info(message: Message, directory: Directory, attempt: int = 0, payload: Any = None) -> MessageInfo:
    """A message as it is read; ``payload`` is what is shown where the message has none any more."""
    data = message.payload
    kind_ = kind(message)
    to = message.to
    return MessageInfo(
        id=message.id,
        at=message.at,
        sender=message.sender,
        sender_name=directory.name(message.sender),
        from_person=message.sender.startswith("@"),
        run=directory.run(message.sender, message.at),
        kind=kind_,
        to=to,
        to_name=to if kind_ in ("topic", "broadcast") else directory.name(to),
        type=message.type,
        priority=message.priority,
        payload=payload if data is None else orjson.loads(data),
        size=0 if data is None else len(data),
        trace=message.trace,
        cause=None if message.cause is None else f"m{message.cause}",
        hops=message.hops,
        reply_to=None if message.reply_to is None else f"m{message.reply_to}",
        deadline=message.deadline,
        expires=message.expires,
        attempt=attempt,
    )
