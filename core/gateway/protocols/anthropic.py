"""Anthropic Messages: ``POST /v1/messages``, streamed and not.

Where usage is (docs.anthropic.com, "Streaming Messages"): ``message_start.message.usage`` has the input
side and a placeholder for the output; ``message_delta.usage`` is cumulative, the last one is the truth.
Input, cache read and cache write are disjoint fields; thinking is inside the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ...journal.events import Usage
from ..fingerprint import fingerprint
from ..http1 import Header
from ..sse import EventSplitter, fields
from . import asked
from .base import AnswerReader, RequestFacts, WireProtocol
from .untrusted import Figures, count, items, line, members, parse, tokens_of, word
from .whole import WholeReader

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_PINGS = 8
"""So many pings before each placeholder of a start: at one in ten seconds far below five minutes."""
_START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_held","type":"message",'
    b'"role":"assistant","model":"held","content":[],"stop_reason":null,"stop_sequence":null,'
    b'"usage":{"input_tokens":0,"output_tokens":0}}}\n\n'
)
_DELTA = b"event: content_block_delta"
_TEXT = b'"text":"'
_TEXT_FROM = len(_DELTA)
_DELTA_TEXTS = (_TEXT, b'"thinking":"', b'"partial_json":"')
_LONG_CONTEXT = b"context-1m-"
_CLIENT_HEADERS = {
    b"x-claude-code-session-id": "session",
    b"x-claude-code-agent-id": "subagent",
}


class _UsageFields:
    """The greatest value seen of each field of Anthropic's ``usage`` objects."""

    __slots__ = ("_figures",)

    def __init__(self) -> None:
        self._figures = Figures()

    def update(self, usage: object) -> bool:
        """Take what a ``usage`` object says; whether it told the output."""
        if not isinstance(usage, dict):
            return False
        see = self._figures.see
        for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            see(name, usage.get(name))
        for group, names in (
            ("cache_creation", ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")),
            ("output_tokens_details", ("thinking_tokens",)),
        ):
            part = usage.get(group)
            if isinstance(part, dict):
                for name in names:
                    see(name, part.get(name))
        return see("output_tokens", usage.get("output_tokens"))

    @property
    def told(self) -> bool:
        """Whether anything was told."""
        return bool(self.usage().total) or self._figures.has("output_tokens")

    @property
    def input_told(self) -> bool:
        """Whether the fresh input was told."""
        return self._figures.has("input_tokens")

    def usage(self, least_output: int = 0) -> Usage:
        """Disjoint buckets. Cache writes of unknown lifetime are five-minute ones, the default."""
        get = self._figures.get
        hour = get("ephemeral_1h_input_tokens", 0)
        written = get("cache_creation_input_tokens", hour + get("ephemeral_5m_input_tokens", 0))
        output = max(get("output_tokens", 0), least_output)
        return Usage(
            input=get("input_tokens", 0),
            cache_read=get("cache_read_input_tokens", 0),
            cache_write_5m=max(0, written - hour),
            cache_write_1h=min(hour, written),
            output=output,
            reasoning=min(get("thinking_tokens", 0), output),
        )


def _error_text(error: object) -> str:
    if not isinstance(error, dict):
        return ""
    return line(f"{error.get('type', 'error')}: {error.get('message', '')}")


class StreamReader(AnswerReader):
    """Reads the event stream. Text is only counted; few events are parsed at all."""

    def __init__(self, event_bytes: int, facts: RequestFacts | None = None) -> None:
        super().__init__()
        self._events = EventSplitter(event_bytes)
        self._fields = _UsageFields()
        self._facts = facts or RequestFacts()
        self._text_bytes = 0
        self._over = False

    def feed(self, data: bytes) -> int | None:
        """See the base class. The cut lies before the event that ends the message."""
        if self._over:
            return None
        # Most pieces are one whole delta: that is seen without cutting and copying it.
        if data.startswith(_DELTA) and data.find(b"\n\n") == len(data) - 2 and self._events.empty:
            at = data.find(_TEXT, _TEXT_FROM)
            if at < 0:
                self._count(data)
            else:
                self.answered = True
                self._text_bytes += max(0, data.rfind(b'"') - at - len(_TEXT))
            return None
        for event in self._events.feed(data):
            if event.startswith(_DELTA):
                self._count(event)
            elif self._read(event):
                self._over = True
                # Where the closing event began in an earlier piece, what is out of it tells a client
                # nothing: events count from their blank line on.
                return max(0, data.find(event.partition(b"\n")[0]))
        return None

    def finish(self) -> None:
        """Nothing to do: an event without its blank line does not count."""

    def usage(self) -> Usage:
        """See the base class."""
        usage = self._fields.usage(0 if self.final else tokens_of(self._text_bytes))
        if self.begun and not self._fields.input_told:
            return usage._replace(input=self._facts.input_tokens)
        return usage

    def _count(self, event: bytes) -> None:
        self.answered = True
        for key in _DELTA_TEXTS:
            at = event.find(key)
            if at >= 0:
                self._text_bytes += max(0, event.rfind(b'"') - at - len(key))
                return

    def _read(self, event: bytes) -> bool:
        """Read one event that is not a plain delta; true for the one that ends the message."""
        name, data = fields(event)
        if name == b"ping":
            return False
        if name == b"content_block_start" and b"_use" not in data:
            self.answered = True
            return False
        body = parse(data)
        kind = str(body.get("type") or name.decode("latin-1"))
        if kind == "message_start":
            self._start(body.get("message"))
        elif kind == "content_block_start":
            self._block(body.get("content_block"))
        elif kind == "content_block_delta":
            self._count(data)
        elif kind == "message_delta":
            self._delta(body)
        elif kind == "error":
            self.failed = True
            self.error = _error_text(body.get("error"))
            return True
        self.ended = kind == "message_stop"
        return self.ended

    def _start(self, message: object) -> None:
        self.begun = True
        if isinstance(message, dict):
            self.model = word(message.get("model"))
            self._fields.update(message.get("usage"))

    def _block(self, block: object) -> None:
        self.answered = True
        if isinstance(block, dict) and block.get("type") in ("tool_use", "mcp_tool_use"):
            self.tools.append(word(block.get("name")) or "")

    def _delta(self, body: dict[str, Any]) -> None:
        delta = body.get("delta")
        stop = delta.get("stop_reason") if isinstance(delta, dict) else None
        if isinstance(stop, str):
            self.stop_reason = stop[:100]
        if self._fields.update(body.get("usage")) and stop is not None:
            self.final = True


class MessageReader(WholeReader):
    """Reads an answer that comes as one JSON object: a message or an error."""

    def __init__(self, limit: int, accepted: bool = True, facts: RequestFacts | None = None) -> None:
        super().__init__(limit, accepted, facts)
        self._fields = _UsageFields()

    def _read(self, body: dict[str, Any]) -> None:
        self.model = word(body.get("model"))
        self.error = _error_text(body.get("error"))
        self.stop_reason = word(body.get("stop_reason"))
        size = 0
        for block in items(body.get("content")):
            part = members(block)
            size += sum(len(part[name]) for name in ("text", "thinking") if isinstance(part.get(name), str))
            if part.get("type") in ("tool_use", "mcp_tool_use"):
                self.tools.append(word(part.get("name")) or "")
        self._text_bytes = size
        self._fields.update(body.get("usage"))
        self.final = self._fields.told
        self.begun = self.final or "content" in body

    def _told(self) -> Usage:
        return self._fields.usage()


class Anthropic(WireProtocol):
    """The Messages API."""

    name = "anthropic"
    credential_headers = frozenset({b"x-api-key", b"authorization"})
    operations = frozenset({"messages"})

    def operation(self, method: str, path: str) -> str | None:
        """Only creating a message is metered; counting tokens and listing models is free."""
        return "messages" if method == "POST" and path.endswith("/v1/messages") else None

    def read_request(
        self, operation: str, headers: Sequence[Header], body: bytes, path: str = ""
    ) -> RequestFacts:
        """See the base class. Claude Code's side calls (titles, say) come without tools."""
        data, request, size = asked.read(headers, body)
        client: dict[str, str] = {}
        long_context = False
        for header, value in headers:
            lower = header.lower()
            if lower in _CLIENT_HEADERS:
                text = value.decode("latin-1")[:200]
                client[_CLIENT_HEADERS[lower]] = "".join(c if c.isprintable() else "?" for c in text)
            elif lower == b"anthropic-beta" and _LONG_CONTEXT in value:
                long_context = True
        side_call = "session" in client and not request.get("tools")
        model = word(request.get("model"))
        return RequestFacts(
            model=model,
            stream=request.get("stream") is True,
            max_tokens=count(request.get("max_tokens")),
            main_loop="subagent" not in client and not side_call,
            input_tokens=asked.input_tokens(data),
            context_limit=1_000_000 if long_context else None,
            client=client,
            body_bytes=size,
            fingerprint=fingerprint(model, request.get("messages", [])),
        )

    def reader(
        self,
        operation: str,
        status: int,
        headers: Mapping[bytes, bytes],
        *,
        event_bytes: int,
        answer_bytes: int,
        facts: RequestFacts | None = None,
    ) -> AnswerReader:
        """See the base class. What the answer is counts, not what was asked for."""
        if headers.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
            return StreamReader(event_bytes, facts)
        return MessageReader(answer_bytes, 200 <= status < 300, facts)

    def credentials(self, key: str) -> list[Header]:
        """The key in ``x-api-key``."""
        return [(b"x-api-key", key.encode("ascii"))]

    def request_id(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The ``request-id`` header; clients write it into their transcripts too."""
        value = headers.get(b"request-id")
        return value.decode("latin-1")[:200] if value else None

    def error_body(self, status: int, message: str) -> bytes:
        """``{"type": "error", "error": {"type": …, "message": …}}``."""
        kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})

    def keep_alive(self, operation: str, facts: RequestFacts, target: bytes) -> tuple[bytes, ...]:
        """A ``ping``, which the protocol has anywhere in a stream.

        Claude Code takes pings for silence, gives a stream up after five minutes of it and asks again; a
        ``message_start`` that the real one follows keeps it waiting (tried: a quarter of an hour, one
        request). Other clients take a second start for an error, and do not count the time.
        """
        if "session" in facts.client:
            return (*(_PING,) * _PINGS, _START)
        return (_PING,)
