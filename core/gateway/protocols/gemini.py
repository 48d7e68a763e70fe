"""The Gemini API: ``POST …/models/MODEL:generateContent``, streamed and not, and embeddings.

``v1``, ``v1beta``, tuned models and Vertex AI's longer paths; counting tokens and listing models is free.
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
from .base import AnswerReader, RequestFacts, WireProtocol
from .gemini_answers import GeneratedReader, StreamedReader
from .untrusted import count, items, members, product

_METERED = {
    "generatecontent": "generateContent",
    "streamgeneratecontent": "streamGenerateContent",
    "embedcontent": "embedContent",
    "batchembedcontents": "batchEmbedContents",
}
_MODEL = re.compile(r"/(?:(tunedmodels|endpoints)/|models/)?([^/:]+):[a-z]+$", re.IGNORECASE)
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "PERMISSION_DENIED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "5s"}
_CLI = b"GeminiCLI"


class Gemini(WireProtocol):
    """Google's Gemini API."""

    name = "gemini"
    credential_headers = frozenset({b"x-goog-api-key", b"authorization"})
    credential_queries = frozenset({"key", "access_token"})
    operations = frozenset(_METERED.values())

    def operation(self, method: str, path: str) -> str | None:
        """The method behind the model's colon."""
        if method != "POST":
            return None
        return _METERED.get(path.rpartition("/")[2].rpartition(":")[2]) if ":" in path else None

    def read_request(
        self, operation: str, headers: Sequence[Header], body: bytes, path: str = ""
    ) -> RequestFacts:
        """See the base class. Gemini CLI's side calls (its router, say) come without tools."""
        request = asked.read(headers, body)
        model = model_in(path)
        generates = "embed" not in operation.lower()
        config = members(request.body.get("generationConfig") or request.body.get("generation_config"))
        from_cli = any(name.lower() == b"user-agent" and value.startswith(_CLI) for name, value in headers)
        return RequestFacts(
            model=model,
            stream=operation == "streamGenerateContent",
            max_tokens=_most(config) if generates else 0,
            main_loop=generates and bool(not from_cli or request.body.get("tools")),
            input_tokens=asked.input_tokens(request.data),
            body_bytes=request.size,
            stored_input=any(request.body.get(name) for name in ("cachedContent", "cached_content")),
            fingerprint=fingerprint(model, _messages(request.body)),
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
        """See the base class. A stream without ``alt=sse`` is one JSON array."""
        if headers.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
            return StreamedReader(event_bytes, facts)
        accepted = 200 <= status < 300
        if operation == "streamGenerateContent" and accepted:
            return StreamedReader(event_bytes, facts, array=True)
        return GeneratedReader(answer_bytes, accepted, facts)

    def credentials(self, key: str) -> list[Header]:
        """The key in ``x-goog-api-key``."""
        return [(b"x-goog-api-key", key.encode("ascii"))]

    def request_id(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Google sends none to speak of; gateways in front of it may."""
        value = headers.get(b"x-request-id")
        return value.decode("latin-1")[:200] if value else None

    def keep_alive(self, operation: str, facts: RequestFacts, target: bytes) -> tuple[bytes, ...]:
        """A chunk without candidates. Gemini CLI fails on comments, gives up after a minute without a head,
        and waits on these (tried: a quarter of an hour, one request)."""
        if facts.stream and b"alt=sse" in target:
            return (b'data: {"candidates":[]}\r\n\r\n',)
        return ()

    def error_body(self, status: int, message: str) -> bytes:
        """``{"error": {"code": …, "message": …, "status": …}}``."""
        return orjson.dumps(_error(status, message))

    def refusal(self, operation: str, kind: RefusalKind, message: str) -> tuple[int, bytes]:
        """See the base class. Gemini CLI finds in ``RetryInfo`` when to come again."""
        status, body = super().refusal(operation, kind, message)
        if kind == "throttled":
            error = _error(status, message)
            error["error"]["details"] = [_RETRY]
            body = orjson.dumps(error)
        return status, body

    def error_event(self, operation: str, status: int, message: str) -> bytes:
        """A chunk that is an error; Google's events have no names."""
        return b"data: " + self.error_body(status, message) + b"\n\n"


def model_in(path: str) -> str | None:
    """The model a path names: ``gemini-…``, ``tunedModels/…``."""
    match = _MODEL.search(path)
    if match is None:
        return None
    collection, name = match.groups()
    return (f"{collection}/{name}" if collection else name)[:200]


def _error(status: int, message: str) -> dict[str, dict[str, Any]]:
    name = _STATUS.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    return {"error": {"code": status, "message": message, "status": name}}


def _most(config: dict[str, Any]) -> int | None:
    """The most a request may produce, thoughts included, over all candidates."""
    limit = config.get("maxOutputTokens", config.get("max_output_tokens"))
    return product((count(limit), max(1, count(config.get("candidateCount")) or 1)))


def _messages(body: dict[str, Any]) -> object:
    for name in ("contents", "content", "requests"):
        if name in body:
            return body[name]
    return items(None)
