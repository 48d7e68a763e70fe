"""The base of tails of CLIs that keep each subagent's transcript in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ..contract import Oddities
from .subagents import Subagents
from .tail import TranscriptTail


class Followed(Protocol):
    """What one transcript says: the main conversation's, or a subagent's."""

    tail: TranscriptTail


T = TypeVar("T", bound=Followed)


class ParentTail(Generic[T]):
    """Follows one conversation and its subagents.

    Args:
        main: The conversation.
        folder, prefix, make: Where its subagents' are; see ``Subagents``.
    """

    def __init__(self, main: T, folder: str, prefix: str, make: Callable[[str, str], T]) -> None:
        self._main = main
        self._children = Subagents(folder, prefix, make)

    @property
    def oddities(self) -> Oddities:
        """What was not understood, in subagents' transcripts too."""
        oddities = Oddities()
        for one in (self._main, *self._children.found.values()):
            oddities.add(one.tail.oddities)
        return oddities

    def refresh(self) -> bool:
        """Read what is new; whether anything was."""
        self._children.refresh()
        changed = [one.tail.refresh() for one in (self._main, *self._children.found.values())]
        return any(changed)
