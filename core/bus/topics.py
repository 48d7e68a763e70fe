"""Topics: names in levels (``build/api/failed``) and the patterns subscribers give.

``*`` stands for one level, ``**`` at the end for all that follow, none included. Patterns are kept in
a tree of levels, so that a match costs the levels of the topic, not the number of subscriptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Generic, TypeVar

from .errors import BadMessage

ANY, REST = "*", "**"
LEVELS, LENGTH = 16, 256
_LEVEL = re.compile(r"[A-Za-z0-9_.:@-]+")
_CACHE, _MEMBERS = 4_096, 200_000

S = TypeVar("S")


def levels(topic: str, *, pattern: bool = False) -> list[str]:
    """The levels of a topic, or of a pattern.

    Raises:
        BadMessage: Too long, too deep, an empty level, or a wildcard where none may be.
    """
    parts = topic.split("/")
    if len(topic) > LENGTH or len(parts) > LEVELS:
        raise BadMessage(
            f"the topic {topic[:60]!r} is too long", f"{LENGTH} characters, {LEVELS} levels at most"
        )
    for place, part in enumerate(parts):
        wild = pattern and (part == ANY or (part == REST and place == len(parts) - 1))
        if not wild and _LEVEL.fullmatch(part) is None:
            raise BadMessage(
                f"{part[:60]!r} is no level of a {'pattern' if pattern else 'topic'}",
                "Letters, digits and _ . : @ - in each; patterns may have * for one level, ** for the rest",
                "Write it like build/api/failed",
            )
    return parts


class _Node(Generic[S]):
    __slots__ = ("below", "here", "rest")

    def __init__(self) -> None:
        self.below: dict[str, _Node[S]] = {}
        self.here: set[S] = set()
        self.rest: set[S] = set()

    @property
    def empty(self) -> bool:
        return not (self.below or self.here or self.rest)


class Topics(Generic[S]):
    """Who subscribed to what."""

    def __init__(self) -> None:
        self._root: _Node[S] = _Node()
        self._patterns: dict[S, set[str]] = {}
        self._found: dict[str, frozenset[S]] = {}
        self._members = 0
        """Subscribers in all that was found and is remembered."""

    def add(self, pattern: str, subscriber: S) -> bool:
        """Subscribe; false if it was already.

        Raises:
            BadMessage: It is no pattern.
        """
        parts = levels(pattern, pattern=True)
        if pattern in self._patterns.get(subscriber, ()):
            return False
        self._patterns.setdefault(subscriber, set()).add(pattern)
        node = self._root
        for part in parts:
            if part == REST:
                node.rest.add(subscriber)
                break
            node = node.below.setdefault(part, _Node())
        else:
            node.here.add(subscriber)
        self._found.clear()
        return True

    def remove(self, pattern: str, subscriber: S) -> bool:
        """Unsubscribe; false if there was no such subscription."""
        patterns = self._patterns.get(subscriber, set())
        if pattern not in patterns:
            return False
        patterns.discard(pattern)
        if not patterns:
            del self._patterns[subscriber]
        self._prune(self._root, pattern.split("/"), subscriber)
        self._found.clear()
        return True

    def _prune(self, node: _Node[S], parts: list[str], subscriber: S) -> None:
        if not parts:
            node.here.discard(subscriber)
        elif parts[0] == REST:
            node.rest.discard(subscriber)
        else:
            below = node.below[parts[0]]
            self._prune(below, parts[1:], subscriber)
            if below.empty:
                del node.below[parts[0]]

    def drop(self, subscriber: S) -> None:
        """End all subscriptions of one."""
        for pattern in tuple(self._patterns.get(subscriber, ())):
            self.remove(pattern, subscriber)

    def patterns(self, subscriber: S) -> list[str]:
        """What one subscribed to, sorted."""
        return sorted(self._patterns.get(subscriber, ()))

    def every(self) -> dict[str, set[S]]:
        """All patterns, and who has each."""
        found: dict[str, set[S]] = {}
        for subscriber, patterns in self._patterns.items():
            for pattern in patterns:
                found.setdefault(pattern, set()).add(subscriber)
        return found

    def subscribers(self, topic: str) -> frozenset[S]:
        """Everybody with a pattern that fits, once each.

        Raises:
            BadMessage: It is no topic.
        """
        found = self._found.get(topic)
        if found is None:
            found = frozenset(self._match([self._root], levels(topic)))
            self._members += len(found)
            if len(self._found) >= _CACHE or self._members > _MEMBERS:
                self._found.clear()
                self._members = len(found)
            self._found[topic] = found
        return found

    @staticmethod
    def _match(nodes: list[_Node[S]], parts: list[str]) -> Iterator[S]:
        for part in parts:
            for node in nodes:
                yield from node.rest
            nodes = [node.below[way] for node in nodes for way in (part, ANY) if way in node.below]
        for node in nodes:
            yield from node.here
            yield from node.rest
