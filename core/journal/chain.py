"""The hash chain: every row's hash covers its stored bytes and the hash of the row before."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import NamedTuple

from .events import Record

#: What the first event is chained to.
GENESIS = hashlib.sha256(b"agenttop journal 1").digest()

_PREFIX = struct.Struct(">QdHH")
_NO_AGENT = 0xFFFF


def link(previous: bytes, seq: int, ts: float, kind: str, agent: str | None, body: bytes) -> bytes:
    """SHA-256 of ``previous``, a prefix and the body.

    The prefix is ``seq`` (unsigned 64 bit), ``ts`` (IEEE 754 double), the lengths in bytes of
    ``kind`` and ``agent`` (unsigned 16 bit, 0xFFFF for no agent), all big-endian, then ``kind`` and
    ``agent`` in UTF-8. Lengths first, so that no two rows have the same bytes.
    """
    name = kind.encode()
    if agent is None:
        prefix = _PREFIX.pack(seq, ts, len(name), _NO_AGENT)
        return hashlib.sha256(previous + prefix + name + body).digest()
    who = agent.encode()
    prefix = _PREFIX.pack(seq, ts, len(name), len(who))
    return hashlib.sha256(previous + prefix + name + who + body).digest()


class Head(NamedTuple):
    """The end of the chain: the last row's place, time and hash."""

    seq: int = 0
    ts: float = 0.0
    hash: bytes = GENESIS


class VerifyResult(NamedTuple):
    """What a walk along the chain found. ``first_bad`` is the first seq that does not fit."""

    events: int
    head: Head
    first_bad: int | None = None
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether every row fits."""
        return self.first_bad is None


def walk(result: VerifyResult, records: Iterable[Record]) -> VerifyResult:
    """Continue a walk with the next rows; it stops at the first that does not fit."""
    events, head = result.events, result.head
    for record in records:
        why = _misfit(head, record)
        if why:
            return VerifyResult(events, head, record.seq, why)
        head = Head(record.seq, record.ts, record.hash)
        events += 1
    return VerifyResult(events, head)


def _misfit(head: Head, record: Record) -> str:
    if record.seq != head.seq + 1:
        return f"event {head.seq + 1} is missing"
    try:
        expected = link(head.hash, *record[:5])
        early = record.ts < head.ts
    except (TypeError, AttributeError, UnicodeEncodeError, struct.error):
        # SQLite keeps any type in any column, and who tampers need not keep to ours.
        return "its fields are not of the kinds that were written"
    if record.hash != expected:
        return "its hash does not fit its content and the event before it"
    return "its time is before that of the event before it" if early else ""
