"""A model call as it went by, for whoever remembers what agents and models say to each other.

Nothing is read on the way: what was asked is there as it came, and of the answer its decoded pieces up to a
bound. Whoever is told reads them later, off the way of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .http1 import Header

REPLY_BYTES = 2 << 20
"""So much of an answer is kept, framing included; what comes after that is not."""

REQUEST_BYTES = 8 << 20
"""A longer request is not kept at all: half of it cannot be read."""


class Heard(NamedTuple):
    """A settled call. Both sides are hostile."""

    agent: str
    run: int
    call: str
    operation: str
    """By which the dialect is known: no two share the name of one."""
    client: Mapping[str, str]
    """What the request's headers say of its conversation: ``session``, ``subagent``."""
    headers: Sequence[Header]
    body: bytes
    """Empty where it was too long to be kept."""
    size: int
    """Bytes of the whole request, as it came."""
    reply: Sequence[bytes]
    """Decoded."""
    cut: bool
    """The answer was longer than what is kept of it, or its sender cut it."""
    streamed: bool
    """The answer is a stream of events."""
    status: int

    @property
    def held(self) -> int:
        """Bytes that are kept of it."""
        return len(self.body) + sum(map(len, self.reply))


Hears = Callable[[Heard], None]
"""Told of each call once it is settled. Must not block and not raise."""


class Kept:
    """The beginning of an answer, piece by piece.

    Args:
        limit: Bytes.
    """

    __slots__ = ("_left", "pieces")

    def __init__(self, limit: int = REPLY_BYTES) -> None:
        self._left = limit
        self.pieces: list[bytes] = []

    @property
    def cut(self) -> bool:
        """Whether more came than is kept."""
        return self._left < 0

    def add(self, data: bytes) -> None:
        """Keep a piece while there is room; after the first that does not fit, nothing more."""
        left = self._left - len(data) if self._left >= 0 else -1
        self._left = left
        if left >= 0:
            self.pieces.append(data)

    def before(self, read: Callable[[bytes], int | None]) -> Callable[[bytes], int | None]:
        """``read``, with every piece kept first. Called for every piece of a stream: kept small."""
        left, keep = self._left, self.pieces.append

        def both(data: bytes) -> int | None:
            nonlocal left
            if left >= 0:
                self._left = left = left - len(data)
                if left >= 0:
                    keep(data)
            return read(data)

        return both
