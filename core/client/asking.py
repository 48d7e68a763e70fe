"""The requests that ``Agent`` and ``AsyncAgent`` make of their arguments: written once for both."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict, TypeVar

from pydantic import ValidationError

from ..api import bus, memory, selves
from ..api.bus import MessageInfo
from ..api.verbs import Request
from ..errors import UsageError

R = TypeVar("R", bound=Request)

LISTEN = 60.0
"""Seconds that one look into the mailbox waits, at most."""


class DraftOptions(TypedDict, total=False):
    """What every message can have; see ``api.bus.DraftRequest``."""

    type: str
    """What the payload is; ``text``, if nothing is said."""
    priority: int
    """0 to 9; a mailbox gives higher ones first. 4, if nothing is said."""
    expires: float
    """Seconds after which it is not delivered any more."""
    cause: str
    """Id of the message that made this one be sent; else what was handed out last."""
    key: str
    """Idempotency key, for a program that may be restarted in between; else one is made for each call."""
    trace: str
    """A W3C ``traceparent`` to go on with."""


def checked(model: type[R], **fields: Any) -> R:
    """A request.

    Raises:
        UsageError: A value that cannot be, with the field and the rule.
    """
    try:
        return model(**fields)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or model.__name__}: {e['msg']}" for e in error.errors()]
        raise UsageError("this cannot be asked", "; ".join(faults)) from error


def new_key() -> str:
    """An idempotency key that nobody else has: what makes a repeated call harmless."""
    return os.urandom(12).hex()


def message_id(message: MessageInfo | str) -> str:
    """Its id."""
    return message if isinstance(message, str) else message.id


def send(to: str, payload: Any, wait: float, draft: DraftOptions) -> bus.SendRequest:
    """A message."""
    return checked(bus.SendRequest, to=to, payload=payload, wait=wait, **_keyed(draft))


def ask(to: str, payload: Any, timeout: float, draft: DraftOptions) -> bus.AskRequest:
    """A request."""
    return checked(bus.AskRequest, to=to, payload=payload, timeout=timeout, **_keyed(draft))


def reply(to: MessageInfo | str, payload: Any, draft: DraftOptions) -> bus.ReplyRequest:
    """A reply."""
    return checked(bus.ReplyRequest, request=message_id(to), payload=payload, **_keyed(draft))


def publish(topic: str, payload: Any, draft: DraftOptions) -> bus.PublishRequest:
    """A message to a topic."""
    return checked(bus.PublishRequest, topic=topic, payload=payload, **_keyed(draft))


def _keyed(draft: DraftOptions) -> dict[str, Any]:
    return {**draft, "key": draft.get("key") or new_key()}


def take(
    limit: int, wait: float, ack: Iterable[MessageInfo | str], visible: float | None
) -> bus.InboxRequest:
    """A look into the mailbox that takes."""
    fields: dict[str, Any] = {"limit": limit, "wait": wait, "ack": [message_id(one) for one in ack]}
    if visible is not None:
        fields["visible"] = visible
    return checked(bus.InboxRequest, run=limit, **fields)


def ack(messages: Iterable[MessageInfo | str]) -> bus.AckRequest:
    """An acknowledgement."""
    return checked(bus.AckRequest, ids=[message_id(one) for one in messages])


def subscribe(pattern: str, *, end: bool = False) -> bus.SubscribeRequest:
    """A subscription, or its end."""
    return checked(bus.SubscribeRequest, pattern=pattern, end=end)


def write(
    name: str, text: str, append: bool, expected: int | None, limit: int | None, pinned: bool | None
) -> memory.WriteBlockRequest:
    """A write to a block."""
    said = {"expected": expected, "limit": limit, "pinned": pinned}
    return checked(
        memory.WriteBlockRequest, name=name, text=text, append=append,
        **{field: value for field, value in said.items() if value is not None},
    )  # fmt: skip


def search(
    query: str, tiers: Sequence[memory.Tier] | None, mode: memory.Mode, limit: int
) -> memory.SearchRequest:
    """A search."""
    fields = {} if tiers is None else {"tiers": list(tiers)}
    return checked(memory.SearchRequest, query=query, mode=mode, limit=limit, **fields)


def archive(key: str, text: str, namespace: str, expected: int | None) -> memory.WriteNoteRequest:
    """A note."""
    fields = {} if expected is None else {"expected": expected}
    return checked(memory.WriteNoteRequest, key=key, text=text, namespace=namespace, **fields)


def note(key: str, namespace: str) -> memory.NoteRequest:
    """Which note."""
    return checked(memory.NoteRequest, key=key, namespace=namespace)


def recall(query: str, limit: int) -> memory.RecallRequest:
    """A look back."""
    return checked(memory.RecallRequest, query=query, limit=limit)


def progress(text: str, percent: float | None) -> selves.ProgressRequest:
    """How far one is."""
    return checked(selves.ProgressRequest, text=text, percent=percent)


def named(blocks: Iterable[memory.BlockInfo], name: str) -> memory.BlockInfo | None:
    """The block of this name."""
    return next((block for block in blocks if block.name == name), None)
