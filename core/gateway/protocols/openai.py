"""The OpenAI protocol: Responses, Chat Completions, Completions and Embeddings, whoever serves them.

Base URLs come with and without ``/v1``: only the end of a path decides what it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ..desk import RefusalKind
from ..fingerprint import fingerprint
from ..http1 import Header
from . import asked
from .base import AnswerReader, RequestFacts, StreamFilter, WireProtocol
from .openai_chat import ChatReader, CompletionReader, asking_usage
from .openai_responses import ResponseReader, WholeResponseReader
from .untrusted import count, members, parse, product, word
from .usage_filter import UsageFilter

_ENDS = (
    ("/responses", "responses"),
    ("/responses/compact", "compact"),
    ("/chat/completions", "chat"),
    ("/completions", "completions"),
    ("/embeddings", "embeddings"),
)
_RESPONSES = frozenset({"responses", "compact"})
_CHAT = frozenset({"chat", "completions"})
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")
_SESSIONS = (b"session-id", b"session_id", b"x-session-id")
_CLIS = (b"QwenCode",)
_ERROR_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_CODES: dict[RefusalKind, str] = {
    "budget": "budget_exceeded",
    "policy": "policy_denied",
    "ended": "agent_ended",
    "key": "provider_key_missing",
    "throttled": "rate_limit_exceeded",
}


class OpenAI(WireProtocol):
    """OpenAI's APIs and everything compatible with them."""

    name = "openai"
    credential_headers = frozenset({b"authorization", b"api-key"})
    operations = frozenset(name for _, name in _ENDS)

    def operation(self, method: str, path: str) -> str | None:
        """Everything else (models, token counts, stored responses) is free or not counted in tokens."""
        if method != "POST":
            return None
        return next((name for end, name in _ENDS if path.endswith(end) and not _is_longer(path, end)), None)

    def read_request(
        self, operation: str, headers: Sequence[Header], body: bytes, path: str = ""
    ) -> RequestFacts:
        """See the base class. Known clients' side calls (titles, say) come without tools."""
        data, request, size = asked.read(headers, body)
        client, knows_tools = _client(headers)
        deployment = _DEPLOYMENT.search(path)
        model = word(request.get("model")) or (deployment.group(1)[:200] if deployment else None)
        changed = asking_usage(data, request) if operation in _CHAT and request else None
        generates = operation != "embeddings"
        side_call = knows_tools and not request.get("tools")
        return RequestFacts(
            model=model,
            stream=request.get("stream") is True,
            max_tokens=_most(operation, request) if generates else 0,
            main_loop=generates and operation != "compact" and "subagent" not in client and not side_call,
            input_tokens=asked.input_tokens(data),
            client=client,
            body_bytes=size,
            stored_input=operation in _RESPONSES and any(request.get(name) for name in _STORED),
            fingerprint=fingerprint(model, _newest(request)),
            body=changed,
            strip_usage=changed is not None,
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
        streamed = headers.get(b"content-type", b"").lower().startswith(b"text/event-stream")
        accepted = 200 <= status < 300
        if operation in _RESPONSES:
            if streamed:
                return ResponseReader(event_bytes, facts)
            return WholeResponseReader(answer_bytes, accepted, facts)
        if streamed:
            return ChatReader(event_bytes, facts)
        return CompletionReader(answer_bytes, accepted, facts, output=operation != "embeddings")

    def credentials(self, key: str) -> list[Header]:
        """The key as a bearer token."""
        return [(b"Authorization", b"Bearer " + key.encode("ascii"))]

    def request_id(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The ``x-request-id`` header."""
        value = headers.get(b"x-request-id")
        return value.decode("latin-1")[:200] if value else None

    def error_body(self, status: int, message: str) -> bytes:
        """``{"error": {"message": …, "type": …, "param": null, "code": …}}``."""
        return _error(status, message, None)

    def refusal(self, operation: str, kind: RefusalKind, message: str) -> tuple[int, bytes]:
        """See the base class. Codex tries every status but 400 six times."""
        status, _ = super().refusal(operation, kind, message)
        if operation in _RESPONSES and kind != "throttled":
            status = 400
        return status, _error(status, message, _CODES[kind])

    def keep_alive(self, operation: str, facts: RequestFacts, target: bytes) -> tuple[bytes, ...]:
        """A comment between chunks (tried: OpenCode, Qwen Code), an event of no known kind in a stream of
        events: Codex does not count comments, gives up after five minutes without an event, and passes
        over kinds it does not know (tried: a quarter of an hour each, one request)."""
        if operation in _CHAT:
            return (b": held\n\n",)
        if operation == "responses":
            return (b'event: keepalive\ndata: {"type":"keepalive","sequence_number":0}\n\n',)
        return ()

    def error_event(self, operation: str, status: int, message: str) -> bytes:
        """``response.failed`` for Responses, an error for a chunk elsewhere."""
        if operation not in _RESPONSES:
            return b"data: " + self.error_body(status, message) + b"\n\n"
        # Codex ends its turn at once, with the message, on this code only; others it tries again.
        code = {429: "rate_limit_exceeded"}.get(status, "invalid_prompt" if status < 500 else "server_error")
        response: dict[str, Any] = {
            "id": "resp_agenttop", "object": "response", "status": "failed", "output": [], "usage": None,
            "error": {"code": code, "message": message},
        }  # fmt: skip
        event = {"type": "response.failed", "sequence_number": 0, "response": response}
        return b"event: response.failed\ndata: " + orjson.dumps(event) + b"\n\n"

    def stream_filter(self, operation: str, facts: RequestFacts) -> StreamFilter | None:
        """The chunk with the usage goes, where the client did not ask for it."""
        return UsageFilter() if facts.strip_usage and operation in _CHAT else None


def _is_longer(path: str, end: str) -> bool:
    return end == "/completions" and path.endswith("/chat/completions")


def _error(status: int, message: str, code: str | None) -> bytes:
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _client(headers: Sequence[Header]) -> tuple[dict[str, str], bool]:
    """What the client says of itself, and whether it is one that offers tools in its main loop."""
    client: dict[str, str] = {}
    known = turns = False
    for header, value in headers:
        name = header.lower()
        if name in _SESSIONS:
            client["session"] = _printable(value)
        elif name == b"thread-id":
            client["thread"] = _printable(value)
        elif name in (b"x-parent-session-id", b"x-openai-subagent"):
            client["subagent"] = _printable(value)
        elif name == b"x-codex-turn-metadata":
            codex = parse(value)
            agent = word(codex.get("agent_name")) or "/root"
            if agent.strip("/") != "root":
                client["subagent"] = _printable(agent.encode())
            turns = word(codex.get("request_kind")) == "turn"
        elif name == b"user-agent":
            known = value.startswith(_CLIS)
    # Codex says itself what a request is for, and may hide its tools in the input.
    return client, (known or "session" in client) and not turns


def _printable(value: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in value.decode("latin-1")[:200])


_STORED = ("previous_response_id", "conversation", "prompt")
"""Members of a request for a response that put into it what the provider has stored."""


def _most(operation: str, request: dict[str, Any]) -> int | None:
    """The most a request may produce, reasoning included, over all its choices."""
    if operation in _RESPONSES:
        return count(request.get("max_output_tokens"))
    limits = [count(request.get(name)) for name in ("max_completion_tokens", "max_tokens")]
    limit = max((limit for limit in limits if limit is not None), default=None)
    choices = max(count(request.get("n")) or 1, count(request.get("best_of")) or 1)
    prompts = request.get("prompt")
    # A list of texts is as many prompts; a list of numbers is one prompt in tokens.
    many = isinstance(prompts, list) and len(prompts) > 1 and not isinstance(prompts[0], int)
    return product((limit, choices, len(prompts) if many and isinstance(prompts, list) else 1))


def _newest(request: dict[str, Any]) -> object:
    for name in ("messages", "input", "prompt"):
        if name in request:
            return request[name]
    return members(None)
