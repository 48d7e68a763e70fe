"""An answer that comes as one JSON object, whatever the protocol."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from ...journal.events import Usage
from .base import AnswerReader, RequestFacts
from .untrusted import parse, tokens_of


class WholeReader(AnswerReader):
    """Keeps the body, up to a limit, and reads it at its end.

    Until then, and where it tells no usage, the usage is an estimate: a provider that began to send
    the body has done all of the work.

    Args:
        limit: The most bytes that are kept.
        accepted: The answer's status says that the call was served.
    """

    def __init__(self, limit: int, accepted: bool = True, facts: RequestFacts | None = None) -> None:
        super().__init__()
        self._limit = limit
        self._accepted = accepted
        self._facts = facts or RequestFacts()
        self._size = 0
        self._parts: list[bytes] = []
        self._text_bytes: int | None = None

    def feed(self, data: bytes) -> int | None:
        """See the base class. The end of the body is the only end here."""
        self.answered = True
        self._size += len(data)
        if self._size <= self._limit:
            self._parts.append(data)
        else:
            self._parts.clear()
        return None

    def finish(self) -> None:
        """Read usage, model and tools, or the error."""
        if self._size > self._limit:
            self.error = "the answer was too long to read its usage"
            return
        body = parse(b"".join(self._parts))
        self._parts.clear()
        self._text_bytes = 0
        self._read(body)
        self.ended = self.begun

    def usage(self) -> Usage:
        """See the base class."""
        if self.final:
            return self._told()
        if not self._accepted or not self._size or (self._text_bytes is not None and not self.begun):
            return Usage()
        told = self._told()
        size = self._size if self._text_bytes is None else self._text_bytes
        return told._replace(
            input=told.input or (0 if told.cache_read or told.cache_write else self._facts.input_tokens),
            output=max(told.output, tokens_of(size)),
        )

    @abstractmethod
    def _read(self, body: dict[str, Any]) -> None:
        """Take what the object says; ``begun`` where it is an answer at all, ``_text_bytes`` of text."""

    @abstractmethod
    def _told(self) -> Usage:
        """The figures that were told."""
