"""Requests that a connection made before, letter by letter: those are not parsed a second time.

Agents that make calls by the thousand send the same head each time, except for the length of the body. When a
system call's head was parsed once, and its agent was identified and vouched for, another request on the
*same connection* with the same bytes means the same. Only what arrives whole and alone is recognised.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from .http1 import Request

MOST_HEADS = 16
"""Of one connection."""
LONGEST = 2_048
"""Bytes of a head."""

_MARK, _WHERE = b"/sys/", slice(40, 45)
"""Where a system call's path has it: behind ``POST /a/<32 hex digits>``."""
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?([1-9]\d{0,6})\r\n")

Tell = Callable[[int, bytes], None]
"""Takes the answer: status and JSON."""


class Begun(Protocol):
    """A call under way, as ``server.Handler``; ``done`` when it is answered already."""

    @property
    def done(self) -> bool:
        """Whether nothing is owed any more."""
        ...

    def client_gone(self) -> None:
        """See ``Handler``."""
        ...

    def client_room(self, room: bool) -> None:
        """See ``Handler``."""
        ...


Shortcut = Callable[[str, bytes, Tell], Begun | None]
"""Begins a call: agent, body, what takes the answer. ``None``: it needs a task, and nothing was done."""


class Shortcuts:
    """What is known of one connection."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[str, Shortcut]] = {}

    def find(self, head: bytes) -> tuple[str, Shortcut] | None:
        """The agent and the call of a head (see ``alone``) that was sent before."""
        return self._known.get(head)

    def learn(self, request: Request, agent: str, shortcut: Shortcut) -> None:
        """From now on requests with the head of this one are begun like that; it was a valid one."""
        plain = request.keep_alive and not request.expects_continue and not request.chunked
        if request.head and request.length and plain and len(self._known) < MOST_HEADS:
            self._known[request.head] = (agent, shortcut)


def alone(data: bytes) -> tuple[bytes, int] | None:
    """The head of what looks like one whole system call, without the digits of its length, and where its
    body begins; ``None`` for everything else."""
    if data[_WHERE] != _MARK:
        return None
    end = data.find(b"\r\n\r\n", 0, LONGEST)
    if end < 0:
        return None
    found = _LENGTH.search(data, 0, end + 2)
    if found is None or len(data) != end + 4 + int(found[1]):
        return None
    start, stop = found.span(1)
    return data[:start] + data[stop:end], end + 4
