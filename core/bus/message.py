"""A message: what is sent, what is stored of it, and the bounds of both.

Trace ids are those of W3C Trace Context (https://www.w3.org/TR/trace-context/#traceparent-header):
``00-<32 hex trace id>-<16 hex span id>-<2 hex flags>``. A message is a span of its own in the trace
of what caused it.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import orjson

from .errors import BadMessage

#: Lowest and highest priority; a mailbox gives higher ones first.
LOWEST, NORMAL, HIGHEST = 0, 4, 9

#: How a message was addressed.
DIRECT, TOPIC, BROADCAST = "direct", "topic", "broadcast"

#: What ``Permit`` is told of a direct message that answers a request.
REPLY = "reply"

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_TRACE = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KEY = 128
_ONE = struct.Struct("<I")
#: Trace ids must differ, not be secret; the system's generator would cost a call to it each.
_bits = Random().getrandbits


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the bus. Sizes in bytes, times in seconds."""

    payload: int = 256 << 10
    depth: int = 1_000
    dead: int = 1_000
    hops: int = 32
    attempts: int = 5
    visible_after: float = 60.0
    #: Messages one sender may send in a second on average, and at once.
    rate: float = 2_000.0
    burst: int = 4_000
    #: Messages that wait for the disk before senders are refused.
    waiting: int = 50_000
    #: Payload bytes that wait for it, likewise.
    waiting_bytes: int = 64 << 20
    #: Seconds that an idempotency key is remembered, and how many at most.
    remembered: float = 86_400.0
    keys: int = 200_000
    #: Payload bytes of waiting mail kept in memory; others are read from the store when delivered.
    memory: int = 64 << 20


class Draft(NamedTuple):
    """A message as its sender gives it.

    Attributes:
        payload: JSON, as bytes.
        expires: Seconds from now after which it is no longer delivered.
        cause: The id of the message that made the sender send this one.
        key: Idempotency key: a second message of this sender with the same key is the first one again.
        trace: A ``traceparent``; without one, that of ``cause``, else a new trace.
    """

    payload: bytes
    type: str = "text"
    priority: int = NORMAL
    expires: float | None = None
    cause: str = ""
    key: str = ""
    trace: str = ""


class Message(NamedTuple):
    """An accepted message, as its row is stored. Times are wall clock seconds.

    ``boxes`` are the numbers of the mailboxes it goes to (``pack``); the payload is stored once.
    ``payload`` is None where it is in the store only.
    """

    seq: int
    at: float
    sender: str
    mode: str
    to: str
    type: str
    priority: int
    payload: bytes | None
    trace: str
    cause: int | None
    hops: int
    reply_to: int | None
    deadline: float | None
    expires: float | None
    key: str | None
    boxes: bytes

    @property
    def id(self) -> str:
        """How it is called outside: ``m`` and its number."""
        return f"m{self.seq}"


def seq_of(name: str) -> int:
    """The number in a message id.

    Raises:
        BadMessage: It is no message id.
    """
    if name[:1] != "m" or not (name[1:].isascii() and name[1:].isdigit()) or len(name) > 20:
        raise BadMessage(f"{name[:40]!r} is no message id", "Ids look like m123", "Take it from inbox")
    return int(name[1:])


def pack(numbers: list[int]) -> bytes:
    """Mailbox numbers as they are stored."""
    if len(numbers) == 1:  # almost always, and half the cost
        return _ONE.pack(numbers[0])
    return struct.pack(f"<{len(numbers)}I", *numbers)


def unpack(boxes: bytes) -> tuple[int, ...]:
    """The mailbox numbers of ``pack``."""
    if len(boxes) == 4:
        return _ONE.unpack(boxes)
    return struct.unpack(f"<{len(boxes) >> 2}I", boxes)


def check(draft: Draft, limits: Limits) -> None:
    """Hold a draft against the bounds.

    Raises:
        BadMessage: With the bound, and what was given.
    """
    payload, type_, priority, expires, _, key, _ = draft
    size = len(payload)
    if size <= limits.payload and type_ == "text" and priority == NORMAL and expires is None and not key:
        return  # almost always
    if size > limits.payload:
        raise BadMessage(
            f"the payload has {size} bytes",
            f"A message may have {limits.payload}",
            "Send less, or write it to a file and send the path",
        )
    if draft.type != "text" and _TYPE.fullmatch(draft.type) is None:
        raise BadMessage(f"{draft.type[:80]!r} is no message type", "Letters, digits, _ . -, 64 at most")
    if not LOWEST <= draft.priority <= HIGHEST:
        raise BadMessage(f"priority {draft.priority} is out of bounds", f"It is {LOWEST} to {HIGHEST}")
    if len(draft.key) > _KEY:
        raise BadMessage(f"the idempotency key has {len(draft.key)} characters", f"It may have {_KEY}")
    if draft.key and not draft.key.isprintable():
        raise BadMessage("the idempotency key is not printable", "It would have to be shown")
    if draft.expires is not None and not 0 < draft.expires < 1e9:
        raise BadMessage(f"it would expire in {draft.expires} s", "That must be a positive time")


def decoded(payload: bytes) -> Any:
    """The payload's value.

    Raises:
        BadMessage: It is not JSON.
    """
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise BadMessage("the payload is not JSON", str(error), "Send one JSON value in UTF-8") from error


def trace_prefix() -> str:
    """What all new traces of one opening of the store begin with: the other half is the message's number."""
    return f"00-{_bits(64) | 1:016x}"


def first_trace(prefix: str, seq: int) -> str:
    """The ``traceparent`` of message ``seq``, whose trace it begins. A third of the cost of random ids."""
    number = f"{seq:016x}"
    return f"{prefix}{number}-{number}-01"


def next_trace(given: str) -> str:
    """A ``traceparent`` for a new message: a span in the trace of ``given``, or in a new one.

    Raises:
        BadMessage: ``given`` is no traceparent.
    """
    if not given:
        # The lowest bit makes it valid: ids of zeros only are forbidden.
        bits = _bits(192) | 1 << 64 | 1
        return f"00-{bits >> 64:032x}-{bits & 0xFFFFFFFFFFFFFFFF:016x}-01"
    match = _TRACE.fullmatch(given) if len(given) <= 512 else None
    bad = match is None or match[1] == "ff" or (match[1] == "00" and match[5])
    if match is None or bad or not int(match[2], 16) or not int(match[3], 16):
        raise BadMessage(
            f"{given[:80]!r} is no traceparent", "W3C Trace Context: 00-<32 hex>-<16 hex>-<2 hex>"
        )
    return f"00-{match[2]}-{_bits(64) | 1:016x}-{match[4]}"
