"""The objects of a JSON array, cut out of a byte stream at any borders as each is complete."""

from __future__ import annotations

import re

_OUTSIDE = re.compile(rb'["{}]')
_INSIDE = re.compile(rb'["\\]')


class ObjectSplitter:
    """Gives the outermost objects of a stream: those of one array, or one object alone.

    Only quotes and braces are looked at; whether an object is valid shows when it is parsed.

    Args:
        limit: Bytes of one object that are kept; a longer one is skipped and ``skipped`` counts it.
    """

    __slots__ = ("_depth", "_escaped", "_limit", "_parts", "_quoted", "_size", "skipped")

    def __init__(self, limit: int = 8 << 20) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._quoted = False
        self._escaped = False
        self.skipped = 0

    @property
    def empty(self) -> bool:
        """Whether nothing of an unfinished object lies here."""
        return not self._depth

    def feed(self, data: bytes) -> list[bytes]:
        """The objects that ``data`` completes."""
        found: list[bytes] = []
        start = 0 if self._depth else -1
        at = 0
        if self._escaped and data:
            self._escaped, at = False, 1
        while True:
            match = (_INSIDE if self._quoted else _OUTSIDE).search(data, at)
            if match is None:
                break
            at = match.end()
            sign = data[at - 1]
            if sign == 92:
                if at == len(data):
                    self._escaped = True
                    break
                at += 1
            elif sign == 34:
                # A quote outside of every object is noise between them.
                self._quoted = not self._quoted and self._depth > 0
            elif sign == 123:
                if self._depth == 0:
                    start = at - 1
                self._depth += 1
            elif self._depth:
                self._depth -= 1
                if self._depth == 0:
                    self._keep(data[start:at])
                    found += self._take()
                    start = -1
        if start >= 0:
            self._keep(data[start:])
        return found

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            self._parts.clear()
        else:
            self._parts.append(data)

    def _take(self) -> list[bytes]:
        whole = self._size <= self._limit
        found = [b"".join(self._parts)] if whole else []
        self.skipped += not whole
        self._parts, self._size = [], 0
        return found
