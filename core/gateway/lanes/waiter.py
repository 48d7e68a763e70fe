"""A call that asks for its turn, as the lanes see it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, NamedTuple

from ...agents.spec import Queue
from ...agents.states import Waiting

Verdict = Literal["pass", "again"]
"""What becomes of an answer: the client gets it, or it is dropped and the call asks for another turn."""

Waits = Callable[[Waiting, str], None]
"""Told why a call waits, for a row and a person: the reason and, in a few words, on what."""


class Waiter(NamedTuple):
    """One call. ``tokens`` is an estimate of its input and output together.

    ``may_use`` are the providers its agent may use, fallbacks among them; ``None`` is all. ``account`` tells
    the client's own credentials from others', where it brings them.
    """

    call: str
    agent: str
    provider: str
    model: str | None
    nice: int
    queue: Queue
    tokens: int
    may_use: Collection[str] | None = None
    account: str = ""
