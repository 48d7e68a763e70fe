"""Who folds which event: a table that each module of the fold fills for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .events import Event

if TYPE_CHECKING:
    from ..agents.agent import Fleet

E = TypeVar("E", bound=Event)


class Handlers:
    """One function per kind of event; kinds without one change nothing."""

    def __init__(self) -> None:
        self._by_kind: dict[type[Event], Callable[[Fleet, Any, float], None]] = {}

    def on(
        self, kind: type[E]
    ) -> Callable[[Callable[[Fleet, E, float], None]], Callable[[Fleet, E, float], None]]:
        """Have the decorated function fold events of this kind."""

        def register(handler: Callable[[Fleet, E, float], None]) -> Callable[[Fleet, E, float], None]:
            self._by_kind[kind] = handler
            return handler

        return register

    def handle(self, fleet: Fleet, event: Event, ts: float) -> None:
        """Fold one event in."""
        if (handler := self._by_kind.get(type(event))) is not None:
            handler(fleet, event, ts)
