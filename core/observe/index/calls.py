"""One model call as a transcript tells of it, and its form in the scan index.

A call is told of several times: one line per content block, copies in resumed and forked sessions,
replays in subagents' files. ``message`` and ``request`` are what tells copies of one call from two
calls; which copy counts is decided by ``counted``.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

#: ``request`` of a copy whose line has no request id: it belongs to any other copy of its message.
NO_REQUEST = -1
#: ``request`` of a copy in a sidechain: replays there get new request ids, so the message decides.
SIDECHAIN = -2

#: The largest count that is believed; anything above is a damaged line.
LARGEST = 1 << 32

_hash = hashlib.blake2b
_first = struct.Struct("<Q").unpack
_PACKED = struct.Struct("<qqqqIIIIII")
SIZE = _PACKED.size
pack = _PACKED.pack
unpack_all = _PACKED.iter_unpack


def messages(packed: bytes) -> list[int]:
    """The ``message`` of each of many packed calls, at a tenth of the cost of unpacking them."""
    return memoryview(packed).cast("q")[:: SIZE // 8].tolist()


class Call(NamedTuple):
    """One copy of one call; tokens in disjoint buckets. All fields are integers, so that it packs."""

    message: int
    """64-bit digest of what names the call: the message id, or Codex's response id."""
    request: int
    """32-bit digest of the request id, or ``NO_REQUEST``, or ``SIDECHAIN``."""
    time: int
    """Milliseconds since the epoch."""
    model: int
    """64-bit digest of the model's name."""
    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    """Reasoning included."""
    reasoning: int

    @property
    def total(self) -> int:
        """All tokens."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h + self.output


#: Input sizes, in tokens, above which some price list takes another price for the whole call (genai-prices).
BANDS = (32_000, 100_000, 128_000, 200_000, 256_000, 272_000, 512_000)


def band(size: int) -> int:
    """Between which of ``BANDS`` a call's whole input lies; the calls of one band have one price a token."""
    return bisect_left(BANDS, size)


#: A call in the order of ``Call``, and the number of the file that tells of it.
Copy = tuple[tuple[int, ...], int]


def better(new: Sequence[int], old: Sequence[int]) -> bool:
    """Whether a copy replaces another of the same key: the highest output, then the most tokens.

    Early lines of older Claude Code versions hold a placeholder for the output (ccusage#888, #901).
    Takes whatever has the fields of ``Call`` in their order.
    """
    return new[8] > old[8] or (new[8] == old[8] and sum(new[4:8]) > sum(old[4:8]))


def counted(copies: Iterable[Copy]) -> list[Copy]:
    """The copies that count, of all that are known of one message; the others are told of twice.

    One for each request id, the best; a copy without a request id, or in a sidechain, only where there
    is none of a better kind (ccusage#985, and its rule for sidechains). Of equal copies the first.
    """
    best: dict[int, Copy] = {}
    for copy in copies:
        request = copy[0][1]
        if (old := best.get(request)) is None or better(copy[0], old[0]):
            best[request] = copy
    whole = [copy for request, copy in best.items() if request >= 0]
    return whole or [best[max(best)]]


def digest(text: str) -> int:
    """A name as 64 bits that are the same in every process and on every machine (never negative)."""
    return hashed(text.encode("utf-8", "surrogatepass"))


def hashed(name: bytes) -> int:
    """The same of a name in UTF-8."""
    (number,) = _first(_hash(name, digest_size=8).digest())
    return int(number) >> 1


def short(text: str) -> int:
    """32 bits, enough to tell the requests of one message apart."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def count(value: object) -> int:
    """A token count out of a transcript; absent is 0.

    Raises:
        ValueError: It is not a count.
    """
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value < LARGEST:
        raise ValueError("not a token count")
    return value


def milliseconds(text: str) -> int:
    """An ISO 8601 time as milliseconds since the epoch.

    Raises:
        ValueError: It is not a time.
    """
    return round(datetime.fromisoformat(text).timestamp() * 1000)
