"""The Responses API: the parts of the ``openai`` protocol.

The stream's last event (``response.completed``, ``.incomplete`` or ``.failed``) carries the whole response,
and the usage in it (platform.openai.com, "Streaming events"). ``/responses/compact`` bills as a response.
"""

from __future__ import annotations

from typing import Any

from ...journal.events import Usage
from ..sse import EventSplitter, fields
from .base import AnswerReader, RequestFacts
from .openai_chat import error_text
from .openai_usage import OpenAIUsage
from .untrusted import items, line, members, parse, string_bytes, tokens_of, word
from .whole import WholeReader

_LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
#: What the client has to do, and will call again with the result of.
_CLIENT_CALLS = frozenset({
    "function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call",
    "computer_call", "mcp_approval_request",
})  # fmt: skip
_CALLED = "tool_calls"
"""The stop reason where the response ended in calls; the protocol has no word of its own for that."""


class ResponseReader(AnswerReader):
    """Reads the stream of a response. Deltas are only measured, never parsed."""

    def __init__(self, event_bytes: int, facts: RequestFacts | None = None) -> None:
        super().__init__()
        self._events = EventSplitter(event_bytes)
        self._usage = OpenAIUsage()
        self._facts = facts or RequestFacts()
        self._calls: set[object] = set()
        self._asks = False
        self._text_bytes = 0
        self._over = False

    def feed(self, data: bytes) -> int | None:
        """See the base class. The cut lies before the event that ends the response."""
        if self._over:
            return None
        if data.find(b"\n\n") == len(data) - 2 and self._events.empty and _is_delta(data):
            self._count(data)
            return None
        for event in self._events.feed(data):
            if _is_delta(event):
                self._count(event)
            elif self._read(event):
                self._over = True
                return max(0, data.rfind(event.partition(b"\n")[0]))
        return None

    def finish(self) -> None:
        """Nothing to do: without its last event a response tells nothing."""

    def usage(self) -> Usage:
        """See the base class."""
        told = self._usage.usage()
        if self.final or not self.begun:
            return told
        return told._replace(
            input=told.input if self._usage.input_told else self._facts.input_tokens,
            output=max(told.output, tokens_of(self._text_bytes)),
        )

    def _count(self, event: bytes) -> None:
        self.begun = self.answered = True
        at = event.find(b'"delta":"')
        if at >= 0:
            self._text_bytes += string_bytes(event, at + 9)
        elif (at := event.find(b'"delta": "')) >= 0:
            self._text_bytes += string_bytes(event, at + 10)

    def _read(self, event: bytes) -> bool:
        """Read one event that is no delta; true for the one that ends the response."""
        name, data = fields(event)
        kind = name.decode("latin-1")
        if kind and not self._telling(kind, data):
            return False
        if data.startswith(b"[DONE]"):
            return True
        body = parse(data)
        kind = word(body.get("type")) or kind
        if kind.endswith(".delta"):
            self._count(data)
        elif kind == "response.created":
            self.begun = True
            self.model = word(members(body.get("response")).get("model")) or self.model
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._item(body.get("output_index"), members(body.get("item")))
        elif kind in _LAST:
            self._last(kind, members(body.get("response")))
            return True
        elif kind == "error" or (not kind and body.get("error")):
            self.failed = True
            self.error = error_text(body.get("error") or body)
            return True
        return False

    def _telling(self, kind: str, data: bytes) -> bool:
        """Whether an event has to be parsed; those that repeat a whole text or response have not."""
        if kind in ("response.created", "error") or kind in _LAST:
            return True
        self.begun = self.begun or kind.startswith("response.")
        if kind.startswith("response.output_item."):
            return b"_call" in data or b"mcp_" in data
        return not kind.startswith("response.")

    def _item(self, index: object, item: dict[str, Any]) -> None:
        key = index if isinstance(index, int) else word(item.get("id"))
        name = _call(item)
        if name and key not in self._calls and len(self._calls) < 1000:
            self._calls.add(key)
            self.tools.append(name)
            self.answered = True
            self._asks = self._asks or item.get("type") in _CLIENT_CALLS

    def _last(self, kind: str, response: dict[str, Any]) -> None:
        self.begun = self.ended = True
        self.model = word(response.get("model")) or self.model
        for index, item in enumerate(items(response.get("output"))):
            self._item(index, members(item))
        self.final = self._usage.update(response.get("usage"))
        self.stop_reason = _stop(response, kind.partition(".")[2], self._asks)
        if kind == "response.failed":
            self.failed = True
            self.error = error_text(response.get("error") or "the response failed")


class WholeResponseReader(WholeReader):
    """Reads a response that comes whole."""

    def __init__(self, limit: int, accepted: bool = True, facts: RequestFacts | None = None) -> None:
        super().__init__(limit, accepted, facts)
        self._usage = OpenAIUsage()

    def _read(self, body: dict[str, Any]) -> None:
        self.model = word(body.get("model"))
        status = word(body.get("status")) or "completed"
        self.error = error_text(body["error"]) if body.get("error") else ""
        asks, size = False, 0
        for item in items(body.get("output")):
            part = members(item)
            size += _text_bytes(part)
            if name := _call(part):
                self.tools.append(name)
                asks = asks or part.get("type") in _CLIENT_CALLS
        self._text_bytes = size
        self.final = self._usage.update(body.get("usage"))
        self.begun = self.final or "output" in body
        self.failed = status == "failed"
        if self.begun:
            self.stop_reason = _stop(body, status, asks)

    def _told(self) -> Usage:
        return self._usage.usage()


def _is_delta(event: bytes) -> bool:
    if event.startswith(b"event: response."):
        return event.find(b".delta\n", 16, 80) > 0
    return event.startswith(b'data: {"type":"response.') and event.find(b'.delta"', 24, 88) > 0


def _call(item: dict[str, Any]) -> str:
    kind = item.get("type")
    if kind not in _CLIENT_CALLS and kind != "mcp_call":
        return ""
    return word(item.get("name")) or str(kind).removesuffix("_call")


def _text_bytes(item: dict[str, Any]) -> int:
    texts = [item.get("arguments"), item.get("input")]
    parts = [*items(item.get("content")), *items(item.get("summary"))]
    texts += [members(part).get("text") for part in parts]
    return sum(len(text.encode("utf-8", "replace")) for text in texts if isinstance(text, str))


def _stop(response: dict[str, Any], status: str, asks: bool) -> str:
    if status == "incomplete":
        return line(members(response.get("incomplete_details")).get("reason") or status, 100)
    return _CALLED if asks and status == "completed" else line(status, 100)
