"""A call that is kept: why, for the journal and the agent's row."""

from __future__ import annotations

import logging

from ..agents.states import Waiting
from ..errors import JournalUnavailable
from ..journal.books import Books
from ..journal.events import CallHeld, CallReleased, Event

log = logging.getLogger(__name__)


class Holding:
    """What was said of one call's waiting. The same reason is said once.

    A wait is a fact about the present: where the journal takes nothing, the call waits all the same.
    """

    __slots__ = ("_agent", "_books", "_call", "_said")

    def __init__(self, books: Books, agent: str, call: str) -> None:
        self._books = books
        self._agent = agent
        self._call = call
        self._said: tuple[Waiting | None, str] | None = None

    @property
    def detail(self) -> str:
        """What was said last."""
        return self._said[1] if self._said is not None else ""

    def because(self, reason: Waiting | None, detail: str) -> None:
        """The call waits, for this reason; ``None`` is a hold by a person."""
        if self._said == (reason, detail):
            return
        self._said = (reason, detail)
        self._post(CallHeld(agent=self._agent, call=self._call, reason=reason, detail=detail))

    def ending(self) -> list[Event]:
        """What belongs into the journal when it goes on."""
        if self._said is None:
            return []
        self._said = None
        return [CallReleased(agent=self._agent, call=self._call)]

    def over(self) -> None:
        """It goes on."""
        if released := self.ending():
            self._post(*released)

    def _post(self, *events: Event) -> None:
        try:
            self._books.post(*events)
        except JournalUnavailable as error:
            log.debug("a wait of %s was not noted: %s", self._call, error)
