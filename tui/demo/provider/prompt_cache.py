"""Prompt caching as Anthropic documents it: prefixes up to a ``cache_control`` mark are kept.

The prompt is a list of blocks in the order tools, system, messages. A mark on a block caches everything
up to and including it; a later request reads the longest cached prefix, writes from there to its
last mark, and pays what follows as fresh input. A prefix below ``MINIMUM`` tokens is not cached.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal, NamedTuple

from .truth import Usage

MINIMUM = 1_024
_KEPT = 65_536
Lasting = Literal["5m", "1h"]
_SECONDS: dict[Lasting, float] = {"5m": 300.0, "1h": 3600.0}


class Block(NamedTuple):
    """One piece of a prompt: its bytes, its tokens, and the mark on it."""

    content: bytes
    tokens: int
    mark: Lasting | None = None


class PromptCache:
    """What the provider keeps, by model and prefix; times are monotonic seconds."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def charge(self, model: str, blocks: Sequence[Block], now: float) -> Usage:
        """The input buckets of a request; what it writes is there for the next one."""
        prefixes = _prefixes(model, blocks)
        marks = [n for n, block in enumerate(blocks) if block.mark and prefixes[n].tokens >= MINIMUM]
        if not marks:
            return Usage(input=prefixes[-1].tokens if prefixes else 0)
        read = 0
        for n in range(marks[-1], -1, -1):
            if self._until.get(prefixes[n].digest, 0.0) > now:
                read = prefixes[n].tokens
                break
        written: dict[Lasting, int] = {"5m": 0, "1h": 0}
        start = read
        for n in marks:
            lasting = blocks[n].mark
            assert lasting is not None
            written[lasting] += max(0, prefixes[n].tokens - start)
            start = max(start, prefixes[n].tokens)
            self._keep(prefixes[n].digest, now + _SECONDS[lasting])
        return Usage(
            input=prefixes[-1].tokens - prefixes[marks[-1]].tokens,
            cache_read=read,
            cache_write_5m=written["5m"],
            cache_write_1h=written["1h"],
        )

    def _keep(self, digest: bytes, until: float) -> None:
        self._until[digest] = max(until, self._until.get(digest, 0.0))
        self._until.move_to_end(digest)
        while len(self._until) > _KEPT:
            self._until.popitem(last=False)


class _Prefix(NamedTuple):
    digest: bytes
    tokens: int


def _prefixes(model: str, blocks: Sequence[Block]) -> list[_Prefix]:
    running = blake2b(model.encode(), digest_size=16)
    tokens = 0
    prefixes = []
    for block in blocks:
        running.update(b"%d:" % len(block.content))
        running.update(block.content)
        tokens += block.tokens
        prefixes.append(_Prefix(running.digest(), tokens))
    return prefixes
