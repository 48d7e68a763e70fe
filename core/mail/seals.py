"""Seals: what was said on the bus, anchored in the journal's chain without being in it.

Mail can be deleted, the journal cannot, so no text and no digest of a single text may be in there. Once a
second a digest over all messages of that second is: keyed with a secret of the state directory, so that
nobody can find out from the journal alone what a short message said. Whoever has the messages (the mail
store, recall memory) and the key can prove that these, and no others, were sent. One event for each
message would cost as much as the messages, and a forgotten one would stay in the chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ..bus.message import Message
from ..journal import events as ev

_PERSON = b"agenttop mail"


def digest(key: bytes, messages: Sequence[Message]) -> str:
    """The digest over these messages, whole and in the order of their numbers."""
    total = _hash(key)
    total.update(_written(messages))
    found: str = total.hexdigest()
    return found


class Sealer:
    """Gathers a seal. ``key``: the state key; ``after``: the last number that is sealed."""

    def __init__(self, key: bytes, after: int) -> None:
        self._key = key
        self._after = after
        self._begin()

    def _begin(self) -> None:
        self._hash = _hash(self._key)
        self._first = self._last = self.count = 0

    def add(self, messages: Sequence[Message]) -> None:
        """Messages that are durable, in their order; those that are sealed already are left out."""
        if messages[0].seq <= self._after:
            messages = [message for message in messages if message.seq > self._after]
            if not messages:
                return
        self._first = self._first or messages[0].seq
        self._last = messages[-1].seq
        self.count += len(messages)
        self._hash.update(_written(messages))

    def take(self) -> ev.MailSealed | None:
        """The seal over what came since the last one, if anything did."""
        if not self.count:
            return None
        seal = ev.MailSealed(
            first=self._first, last=self._last, count=self.count, digest=self._hash.hexdigest()
        )
        self._after = self._last
        self._begin()
        return seal


def _hash(key: bytes) -> Any:
    return hashlib.blake2b(digest_size=32, key=key, person=_PERSON)


def _written(messages: Sequence[Message]) -> bytes:
    # Fields that name things have no spaces and no line breaks, and a length stands before what is free text.
    # When it was is said by the event's own time; unpacked, because this is paid for every message.
    lines: list[bytes] = []
    for seq, _, sender, mode, to, type_, _, payload, trace, _, _, _, _, _, _, _ in messages:
        text = payload or b""
        lines.append(f"{seq} {sender} {mode} {to} {type_} {trace} {len(text)}\n".encode())
        lines.append(text)
    return b"".join(lines)
