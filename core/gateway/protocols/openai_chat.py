"""Chat Completions, the older Completions, and Embeddings: the parts of the ``openai`` protocol.

The usage of a stream comes in a chunk of its own (``choices: []``) before ``data: [DONE]``, and only if
``stream_options.include_usage`` asked for it; some servers put it into the last chunk, or into each.
"""

from __future__ import annotations

from typing import Any

from ...journal.events import Usage
from ..sse import EventSplitter, fields
from . import asked
from .base import AnswerReader, RequestFacts
from .openai_usage import OpenAIUsage
from .untrusted import items, line, members, parse, string_bytes, tokens_of, word
from .whole import WholeReader

_PADDING = b',"obfuscation":"'
_ASK = b'{"include_usage":true}'
_TEXTS = (
    b'"content":"', b'"reasoning_content":"', b'"arguments":"', b'"text":"', b'"reasoning":"', b'"refusal":"',
)  # fmt: skip


def asking_usage(data: bytes, body: dict[str, Any]) -> bytes | None:
    """The body of a streamed request with ``stream_options.include_usage``, else unchanged to the byte.

    ``None`` where it asks already, is not streamed, or has options that no server takes.
    """
    start = asked.object_at(data)
    if body.get("stream") is not True or start < 0:
        return None
    if "stream_options" not in body:
        return asked.with_member(data, start, "stream_options", _ASK)
    options = body["stream_options"]
    if options is not None and not isinstance(options, dict):
        return None
    if options and options.get("include_usage") not in (None, False):
        return None
    place = asked.member_at(data, start, "stream_options")
    if place is None:
        return None
    begin, end = place
    if options is None:
        return data[:begin] + _ASK + data[end:]
    if "include_usage" not in options:
        return asked.with_member(data, begin, "include_usage", b"true")
    inner = asked.member_at(data, begin, "include_usage")
    return None if inner is None else data[: inner[0]] + b"true" + data[inner[1] :]


class ChatReader(AnswerReader):
    """Reads the stream of (chat) completions. Plain deltas are only measured, never parsed."""

    def __init__(self, event_bytes: int, facts: RequestFacts | None = None) -> None:
        super().__init__()
        self._events = EventSplitter(event_bytes)
        self._usage = OpenAIUsage()
        self._facts = facts or RequestFacts()
        self._text_bytes = 0
        self._told = False
        self._over = False
        self._before = self._after = b""
        """What stood before and after the text of the last plain delta."""

    def feed(self, data: bytes) -> int | None:
        """See the base class. The cut lies before ``data: [DONE]``, or before an error."""
        if self._over:
            return None
        # Most pieces are one whole delta like the one before it: that is seen without cutting and copying it.
        if self._before and data.startswith(self._before) and self._events.empty and self._again(data):
            return None
        for event in self._events.feed(data):
            if self._before and event.startswith(self._before) and self._again(event):
                continue
            if (not self.begun or not self._plain(event)) and self._read(event):
                self._over = True
                return max(0, data.rfind(event.partition(b"\n")[0]))
        return None

    def finish(self) -> None:
        """Some servers end without a ``[DONE]``."""
        if self.stop_reason is not None:
            self.ended = True
            self.final = self._told

    def usage(self) -> Usage:
        """See the base class."""
        told = self._usage.usage()
        if self.final or not self.begun:
            return told
        if not self._usage.input_told:
            told = told._replace(input=self._facts.input_tokens)
        return told if self._told else told._replace(output=max(told.output, tokens_of(self._text_bytes)))

    def _plain(self, event: bytes) -> bool:
        """Measure a chunk that has nothing but text in it; false for any other."""
        if (
            b'"choices":[{' not in event
            or (b'"finish_reason":null' not in event and b'"finish_reason"' in event)
            or b'"name":' in event
            or (b'"usage"' in event and b'"usage":null' not in event)
        ):
            return False
        for key in _TEXTS:
            at = event.find(key)
            if at >= 0:
                at += len(key)
                size = string_bytes(event, at)
                self._text_bytes += size
                self.answered = True
                self._before = event[:at]
                # OpenAI pads deltas with something at random, at their end.
                self._after = event[at + size :].rstrip(b"\n").partition(_PADDING)[0]
                return True
        return False

    def _again(self, event: bytes) -> bool:
        """Measure a delta that differs from the last plain one in its text only; false for any other."""
        start = len(self._before)
        end = event.find(b'"', start)
        if end < 0 or event[end - 1] == 92 or not event.startswith(self._after, end):
            return False
        rest = event[end + len(self._after) :]
        if rest not in (b"\n\n", b"") and not (
            rest.startswith(_PADDING) and b'"usage"' not in rest and rest.find(b"\n\n") in (-1, len(rest) - 2)
        ):
            return False
        self._text_bytes += end - start
        return True

    def _read(self, event: bytes) -> bool:
        """Read one event; true for the one that ends the answer."""
        data = fields(event)[1]
        if data.startswith(b"[DONE]"):
            self.final = self._told
            self.ended = True
            return True
        chunk = parse(data)
        if not chunk:
            return False
        error = chunk if chunk.get("object") == "error" else chunk.get("error")
        if error:
            self.failed = True
            self.error = error_text(error)
            return True
        self.begun = True
        self.model = self.model or word(chunk.get("model"))
        choices = items(chunk.get("choices"))
        for choice in choices:
            self._choice(members(choice))
        if self._usage.update(chunk.get("usage")):
            self._told = True
            self.final = not choices or self.stop_reason is not None
        return False

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = members(choice.get("delta"))
        size, tools = _said(delta, choice)
        if size or tools:
            self.answered = True
        self._text_bytes += size
        self.tools += tools
        self.stop_reason = word(choice.get("finish_reason"), 100) or self.stop_reason


class CompletionReader(WholeReader):
    """Reads a completion, a chat completion or embeddings that come whole."""

    def __init__(
        self,
        limit: int,
        accepted: bool = True,
        facts: RequestFacts | None = None,
        *,
        output: bool = True,
    ) -> None:
        super().__init__(limit, accepted, facts)
        self._usage = OpenAIUsage()
        self._output = output

    def _read(self, body: dict[str, Any]) -> None:
        self.error = error_text(body.get("error")) if body.get("error") else ""
        self.model = word(body.get("model"))
        size = 0
        for choice in items(body.get("choices")):
            if isinstance(choice, dict):
                said, tools = _said(members(choice.get("message")), choice)
                size += said
                self.tools += tools
                self.stop_reason = word(choice.get("finish_reason"), 100) or self.stop_reason
        self._text_bytes = size
        self.final = self._usage.update(body.get("usage"), output=self._output)
        self.begun = self.final or "choices" in body or "data" in body

    def _told(self) -> Usage:
        return self._usage.usage()


def _said(message: dict[str, Any], choice: dict[str, Any]) -> tuple[int, list[str]]:
    """Bytes of text in a message or a delta, and the tools it newly calls."""
    texts = [message.get(name) for name in ("content", "reasoning_content", "reasoning", "refusal")]
    texts.append(choice.get("text"))
    tools = []
    for call in [*items(message.get("tool_calls")), {"function": message.get("function_call")}]:
        function = members(members(call).get("function") or members(call).get("custom"))
        texts += [function.get("arguments"), function.get("input")]
        if name := word(function.get("name")):
            tools.append(name)
    return sum(len(text.encode("utf-8", "replace")) for text in texts if isinstance(text, str)), tools


def error_text(error: object) -> str:
    """An ``error`` member as one line."""
    if not isinstance(error, dict):
        return line(error)
    return line(f"{error.get('type') or error.get('code') or 'error'}: {error.get('message', '')}")
