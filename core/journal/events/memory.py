"""What happened to agents' memory: that and how much, never what it said or was called."""

from __future__ import annotations

from .event import Event


class MemoryMoved(Event):
    """Something of ``agent`` went from one tier to another, in so many moves of these numbers."""

    source: str
    target: str
    first: int
    last: int
    count: int
    tokens: int


class MemoryForgotten(Event):
    """Somebody had something forgotten for good; ``agent`` is whose, where it was one agent's."""

    by: str
    """An agent's id, or ``@`` and a person's name."""
    run: int | None = None
    """The agent's."""
    blocks: int = 0
    entries: int = 0
    notes: int = 0


class MemoryExpired(Event):
    """Retention forgot so many entries of recall."""

    entries: int
