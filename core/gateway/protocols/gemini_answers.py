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
from .untrusted import MOST_TOKENS, count, items, line, parse, string_bytes, tokens_of, word
from .whole import WholeReader

_PLAIN = b'data: {"candidates":[{"content":{"parts":[{"text":"'
_CALLED = "tool_calls"
"""The stop reason where the answer ended in calls: Gemini says ``STOP`` then too."""


class Content:
    """What the chunks of one answer have told so far; of each figure the greatest that is believed."""

    __slots__ = (
        "_cached", "_candidates", "_prompt", "_thoughts", "_tools", "error", "model", "stop",
        "text_bytes", "tools",
    )  # fmt: skip

    def __init__(self) -> None:
        self._prompt = -1
        self._cached = self._candidates = self._thoughts = self._tools = 0
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
        return self.take_usage(chunk.get("usageMetadata"))

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

    def take_usage(self, usage: object) -> bool:
        """Take a ``usageMetadata``; whether it told the prompt, which is always there."""
        if not isinstance(usage, dict):
            return False
        # Every chunk has one, so this is written for speed: most figures are absent or as before.
        for name, value in usage.items():
            if type(value) is not int or not 0 <= value <= MOST_TOKENS:
                continue
            if name == "candidatesTokenCount" or name == "responseTokenCount":
                if value > self._candidates:
                    self._candidates = value
            elif name == "promptTokenCount":
                if value > self._prompt:
                    self._prompt = value
            elif name == "thoughtsTokenCount":
                if value > self._thoughts:
                    self._thoughts = value
            elif name == "cachedContentTokenCount":
                if value > self._cached:
                    self._cached = value
            elif name == "toolUsePromptTokenCount" and value > self._tools:
                self._tools = value
        return count(usage.get("promptTokenCount")) is not None

    @property
    def stop_reason(self) -> str | None:
        """Why the model stopped; ``tool_calls`` where it wants answers to its calls."""
        return _CALLED if self.stop == "STOP" and self.tools else self.stop

    def usage(self) -> Usage:
        """Disjoint buckets."""
        prompt = max(0, self._prompt)
        cached = min(self._cached, prompt)
        return Usage(
            input=prompt - cached + self._tools,
            cache_read=cached,
            output=self._candidates + self._thoughts,
            reasoning=self._thoughts,
        )

    def estimate(self, facts: RequestFacts) -> Usage:
        """The same with estimates for what was not told."""
        told = self.usage()
        return told._replace(
            input=told.input if self._prompt >= 0 else facts.input_tokens,
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
        self._between = b""
        """What stood between the text and the usage of the last plain chunk."""

    def feed(self, data: bytes) -> int | None:
        """See the base class."""
        # Most pieces are one whole chunk like the one before it: that is not cut out and not parsed whole.
        if (
            self._between
            and data.startswith(_PLAIN)
            and _is_one(data)
            and self._splitter.empty
            and self._again(data)
        ):
            return None
        for piece in self._splitter.feed(data):
            if self._between and piece.startswith(_PLAIN) and self._again(piece):
                continue
            chunk = parse(piece if self._array else _data(piece))
            if chunk:
                self._read(chunk)
                if not self._between and piece.startswith(_PLAIN):
                    self._learn(piece)
        return None

    def _learn(self, event: bytes) -> None:
        """Remember the form of a chunk with nothing but text and usage in it."""
        start = len(_PLAIN)
        start += string_bytes(event, start)
        end = event.find(b'"usageMetadata":{', start)
        between = event[start:end]
        if end > 0 and not any(sign in between for sign in (b'"finishReason"', b'"text"', b'"func')):
            self._between = between

    def _again(self, event: bytes) -> bool:
        """Take a chunk that differs from the last plain one in text and usage only; false for any other."""
        start = len(_PLAIN)
        end = event.find(b'"', start)
        if end < 0 or event[end - 1] == 92 or not event.startswith(self._between, end):
            return False
        rest = parse(b"{" + event[end + len(self._between) :])
        if "candidates" in rest or "error" in rest or not self._content.take_usage(rest.get("usageMetadata")):
            return False
        self._content.text_bytes += end - start
        self.answered = True
        return True

    def finish(self) -> None:
        """The protocol has no last word: an answer has ended that says why the model stopped."""
        self.ended = self.stop_reason is not None

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


def _is_one(data: bytes) -> bool:
    size = len(data)
    return data.find(b"\r\n\r\n") == size - 4 or data.find(b"\n\n") == size - 2


def _data(event: bytes) -> bytes:
    # The usual event is one line.
    return event[6:] if event.startswith(b"data: {") and b"\n" not in event else fields(event)[1]


def error_text(error: object) -> str:
    """Google's ``error`` object as one line."""
    if not isinstance(error, dict):
        return line(error)
    return line(f"{error.get('status') or error.get('code') or 'error'}: {error.get('message', '')}")
