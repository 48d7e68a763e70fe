"""What an aider chat says: whether it answers or waits for the next message, model, prompt.

aider writes no tool calls, and its questions only when they were answered: between a message and the tokens
of its answer it is planning, else idle.
"""

from __future__ import annotations

import os
from typing import Any

from ..contract import Activity, Oddities, Session, View
from .aider_calls import MODEL, STARTED, TOKENS, AiderCalls, AiderLog, tokens
from .conversation import Conversation
from .tail import TranscriptTail

_PROMPT = "#### "
_INTERRUPTED = ("> ^C KeyboardInterrupt", "> ^C again to exit")


class AiderTail:
    """Follows the last chat of a history, and the log of analytics that belongs to it, if there is one."""

    def __init__(self, session: Session, log: str = "") -> None:
        self._session = session
        self._chat = TranscriptTail(_history, session.path, self._line, self._reset, _text)
        self._log = TranscriptTail(AiderLog, log, _nothing, lambda: None) if log else None
        self._moment = 0.0
        self._reset()

    def _reset(self) -> None:
        self._talk = Conversation(frozenset(), frozenset())
        self._talk.session = self._session.id

    @property
    def oddities(self) -> Oddities:
        """What was not understood."""
        oddities = Oddities()
        for tail in (self._chat, self._log):
            if tail is not None:
                oddities.add(tail.oddities)
        return oddities

    def refresh(self) -> bool:
        """Read what is new; whether anything was."""
        try:
            self._moment = os.stat(self._session.path).st_mtime  # the history tells no times
        except OSError:
            return False
        changed = self._chat.refresh()
        if self._log is not None:
            if isinstance(reader := self._log.calls, AiderLog):
                reader.model = self._talk.model or ""
            changed = self._log.refresh() or changed
        return changed

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now."""
        self._talk.cwd = self._chat.calls.facts.get("cwd")
        sums = self._chat.sums()
        if self._log is not None and self._log.calls.calls:
            sums = self._log.sums()
        return self._talk.view(now, process, sums)

    def _line(self, data: dict[str, Any]) -> None:
        text = str(data["text"])
        if STARTED.match(text):
            self._reset()
            self._talk.turn.ended(self._moment)
        elif text.startswith(_PROMPT):
            self._talk.asked(text.removeprefix(_PROMPT).strip(), self._moment)
        elif found := MODEL.match(text):
            self._talk.model = found[1]
        elif found := TOKENS.match(text):
            sent, _, _, received = (tokens(part) for part in found.groups())
            self._talk.replied(None, sent + received, self._moment)
            self._talk.turn.ended(self._moment)
        elif text.startswith(_INTERRUPTED):
            self._talk.turn.ended(self._moment, "interrupted")


def _history() -> AiderCalls:
    reader = AiderCalls()
    reader.live = True
    return reader


def _text(line: memoryview) -> dict[str, Any]:
    return {"text": bytes(line).decode("utf-8", "replace")}


def _nothing(data: dict[str, Any]) -> None:
    """The log says nothing of the state."""
