"""Answers of the Gemini API: a stream of events, a stream as one JSON array, or one object.

``usageMetadata`` comes in every chunk of a stream, the last one counts (ai.google.dev, "Generating
content"). The prompt includes what was cached; thoughts and what built-in tools put into the prompt are
outside of ``candidatesTokenCount`` and ``promptTokenCount``.
"""

from __future__ import annotations

from typing import Any

from ...journal.events import Usage
from ..jsonstream import ObjectSplitter
from ..sse import EventSplitter, fields
from .base import AnswerReader, RequestFacts
from .untrusted import Figures, items, line, parse, tokens_of, word
from .whole import WholeReader

_CALLED = "tool_calls"
"""The stop reason where the answer ended in calls: Gemini says ``STOP`` then too."""


class Content:
    """What the chunks of one answer have told so far."""

    __slots__ = ("_figures", "error", "model", "stop", "text_bytes", "tools")

    def __init__(self) -> None:
        self._figures = Figures()
        self.model: str | None = None
        self.stop: str | None = None
        self.tools: list[str] = []
        self.text_bytes = 0
        self.error = ""

    def take(self, chunk: dict[str, Any]) -> bool:
        """Take a chunk; whether it told the usage."""
        if chunk.get("error"):
            self.error = error_text(chunk["error"])
        if self.model is None:
            self.model = word(chunk.get("modelVersion"))
        for candidate in items(chunk.get("candidates")):
            if isinstance(candidate, dict):
                self._candidate(candidate)
        feedback = chunk.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            self.stop = line(feedback["blockReason"], 100)
        return self._usage(chunk.get("usageMetadata"))

    def _candidate(self, candidate: dict[str, Any]) -> None:
        content = candidate.get("content")
        for part in items(content.get("parts")) if isinstance(content, dict) else ():
            if not isinstance(part, dict):
                continue
            text = part.get("text")
            if isinstance(text, str):
                self.text_bytes += len(text.encode("utf-8", "replace"))
            elif isinstance(call := part.get("functionCall"), dict):
                self.tools.append(word(call.get("name")) or "")
                self.text_bytes += len(str(call.get("args", "")))
        if reason := word(candidate.get("finishReason"), 100):
            self.stop = reason

    def _usage(self, usage: object) -> bool:
        if not isinstance(usage, dict):
            return False
        see, get = self._figures.see, usage.get
        told = see("prompt", get("promptTokenCount"))
        see("candidates", get("candidatesTokenCount"))
        see("candidates", get("responseTokenCount"))  # the name of the live API
        see("thoughts", get("thoughtsTokenCount"))
        see("cached", get("cachedContentTokenCount"))
        see("tools", get("toolUsePromptTokenCount"))
        return told

    @property
    def stop_reason(self) -> str | None:
        """Why the model stopped; ``tool_calls`` where it wants answers to its calls."""
        return _CALLED if self.stop == "STOP" and self.tools else self.stop

    @property
    def input_told(self) -> bool:
        """Whether the prompt was counted."""
        return self._figures.has("prompt")

    def usage(self) -> Usage:
        """Disjoint buckets."""
        get = self._figures.get
        prompt, thoughts = get("prompt"), get("thoughts")
        cached = min(get("cached"), prompt)
        return Usage(
            input=prompt - cached + get("tools"),
            cache_read=cached,
            output=get("candidates") + thoughts,
            reasoning=thoughts,
        )

    def estimate(self, facts: RequestFacts) -> Usage:
        """The same with estimates for what was not told."""
        told = self.usage()
        return told._replace(
            input=told.input if self.input_told else facts.input_tokens,
            output=max(told.output, tokens_of(self.text_bytes)),
        )


class StreamedReader(AnswerReader):
    """Reads a stream, of events or (without ``alt=sse``) the objects of one array.

    The protocol has no event that ends an answer: nothing is kept back but the end of the body.
    """

    def __init__(self, event_bytes: int, facts: RequestFacts | None = None, *, array: bool = False) -> None:
        super().__init__()
        self._splitter = ObjectSplitter(event_bytes) if array else EventSplitter(event_bytes)
        self._array = array
        self._content = Content()
        self._facts = facts or RequestFacts()

    def feed(self, data: bytes) -> int | None:
        """See the base class."""
        for piece in self._splitter.feed(data):
            chunk = parse(piece if self._array else _data(piece))
            if chunk:
                self._read(chunk)
        return None

    def finish(self) -> None:
        """Nothing to do: what was told is final once the model has stopped."""

    def usage(self) -> Usage:
        """See the base class."""
        if self.final or not self.begun:
            return self._content.usage()
        return self._content.estimate(self._facts)

    def _read(self, chunk: dict[str, Any]) -> None:
        content = self._content
        told = content.take(chunk)
        if content.error:
            self.failed, self.error = True, content.error
            return
        self.begun = True
        self.answered = self.answered or content.text_bytes > 0 or bool(content.tools)
        self.model, self.tools, self.stop_reason = content.model, content.tools, content.stop_reason
        self.final = self.final or (told and content.stop is not None)


class GeneratedReader(WholeReader):
    """Reads an answer that comes whole; embeddings too."""

    def __init__(self, limit: int, accepted: bool = True, facts: RequestFacts | None = None) -> None:
        super().__init__(limit, accepted, facts)
        self._content = Content()

    def _read(self, body: dict[str, Any]) -> None:
        content = self._content
        self.final = content.take(body)
        self.begun = self.final or any(name in body for name in ("candidates", "embedding", "embeddings"))
        self.model, self.tools, self.stop_reason = content.model, content.tools, content.stop_reason
        self.error = content.error
        self._text_bytes = content.text_bytes

    def _told(self) -> Usage:
        return self._content.usage()


def _data(event: bytes) -> bytes:
    # The usual event is one line.
    return event[6:] if event.startswith(b"data: {") and b"\n" not in event else fields(event)[1]


def error_text(error: object) -> str:
    """Google's ``error`` object as one line."""
    if not isinstance(error, dict):
        return line(error)
    return line(f"{error.get('status') or error.get('code') or 'error'}: {error.get('message', '')}")
