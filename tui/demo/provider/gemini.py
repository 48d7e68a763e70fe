"""The Gemini API on the wire: chunks as events or as one array, or one object.

Fields as in https://ai.google.dev/api/generate-content.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

import orjson

from .ask import Answer, Ask, Event, Invalid, Manners, Part, Route, Tool
from .body import arguments, cached_by_prefix, conversation_of, object_in, objects, plain_text
from .directives import DIRECTIVE
from .http import Request
from .truth import Usage

_PATH = re.compile(
    r"(?P<prefix>.*)/v1(?:beta|alpha)?/(?:models|tunedModels)/(?P<model>[^/]+):(?P<method>[A-Za-z]+)"
)
_MODELS = re.compile(r"(?P<prefix>.*)/v1(?:beta|alpha)/models(?:/(?P<model>[^/:]+))?")
_KINDS = {
    "generateContent": "generate",
    "streamGenerateContent": "generate",
    "countTokens": "count",
    "embedContent": "embed",
    "batchEmbedContents": "embed",
}
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
MODELS = ("gemini-3.8-pro", "gemini-3.8-flash", "gemini-3.8-flash-lite", "gemini-embedding-2")


class GeminiApi:
    """The dialect of ``…:generateContent``."""

    @property
    def name(self) -> str:
        """As the truth calls it."""
        return "gemini"

    @property
    def manners(self) -> Manners:
        """As Google names things: hardly."""
        return Manners("", "call-", "x-request-id", "none", b'data: {"candidates": [{"content": {\r\n\r\n')

    def route(self, request: Request) -> Route | None:
        """Methods of models, and the list of models."""
        if match := _PATH.fullmatch(request.path):
            kind = _KINDS.get(match["method"])
            if kind is None or request.method != "POST":
                return None
            return Route(kind, match["prefix"], match["model"])  # type: ignore[arg-type]
        if request.method == "GET" and (match := _MODELS.fullmatch(request.path)):
            return Route("model" if match["model"] else "models", match["prefix"], match["model"] or "")
        return None

    def parse(self, request: Request) -> Ask:
        """Read a call; the model is in the path."""
        match = _PATH.fullmatch(request.path)
        assert match is not None  # ``route`` said so
        has_key = request.headers.get("x-goog-api-key") or request.headers.get("authorization")
        if not has_key and not request.query.get("key"):
            raise Invalid("Method doesn't allow unregistered callers", 403)
        data = object_in(request)
        data = data.get("generateContentRequest") or data
        stream = match["method"] == "streamGenerateContent"
        events = request.query.get("alt") == "sse"
        return _read(match["model"], data, stream=stream, events=events)

    def events(self, answer: Answer) -> list[Event]:
        """Chunks with a part each; the last has the reason and the whole usage."""
        events: list[Event] = []
        sent = 0
        before = _usage_fields(answer.usage._replace(output=0, thinking=0))
        for part in answer.reply.parts:
            pieces = list(zip(part.pieces, part.tokens, strict=True))
            if part.kind == "tool":  # a call comes in one piece
                pieces = [("".join(part.pieces), sum(part.tokens))]
            for piece, count in pieces:
                sent += count
                events.append(_chunk(answer, [_part(part, piece)], before, sent))
        usage = _usage_fields(answer.usage)
        stop = _stop(answer)
        events.append(_chunk(answer, [{"text": ""}], usage, answer.usage.output, stop))
        if answer.ask.stream_type.startswith("text/"):
            return events
        last = len(events) - 1
        return [
            event._replace(data=_in_array(event.data, first=n == 0, last=n == last))
            for n, event in enumerate(events)
        ]

    def body(self, answer: Answer) -> tuple[bytes, dict[str, int]]:
        """The whole answer."""
        usage = _usage_fields(answer.usage)
        parts = [_part(part, "".join(part.pieces)) for part in answer.reply.parts]
        return orjson.dumps(_content(answer, parts, usage, _stop(answer))), _flat(usage)

    def trouble(self, status: int, message: str, request_id: str) -> bytes:
        """An error's body."""
        name = _STATUS.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
        return orjson.dumps({"error": {"code": status, "message": message, "status": name}})

    def stream_trouble(self, message: str, request_id: str) -> bytes:
        """A chunk that is an error."""
        return b"data: " + self.trouble(503, message, request_id) + b"\r\n\r\n"

    def other(self, route: Route, request: Request) -> tuple[int, bytes]:
        """Token counts, embeddings and models."""
        if route.kind == "count":
            tokens = self.parse(request).tokens
            details = [{"modality": "TEXT", "tokenCount": tokens}]
            return 200, orjson.dumps({"totalTokens": tokens, "promptTokensDetails": details})
        if route.kind == "embed":
            many = objects(object_in(request).get("requests"))
            vector = {"values": [0.5, -0.5, 0.25, 0.125]}
            return 200, orjson.dumps(
                {"embeddings": [vector for _ in many]} if many else {"embedding": vector}
            )
        models = [_model(id) for id in MODELS]
        if route.kind == "models":
            return 200, orjson.dumps({"models": models})
        for model in models:
            if model["name"] == f"models/{route.detail}":
                return 200, orjson.dumps(model)
        raise Invalid(f"models/{route.detail} is not found", 404)


# --- reading -----------------------------------------------------------------------------------


def _read(model: str, data: dict[str, Any], *, stream: bool, events: bool) -> Ask:
    contents = (
        objects(data.get("contents")) or objects([data.get("content")]) or objects(data.get("requests"))
    )
    if not contents:
        raise Invalid("* GenerateContentRequest.contents: contents is not specified")
    config = data.get("generationConfig") or {}
    thinking = config.get("thinkingConfig") or {}
    declared = [f for tool in objects(data.get("tools")) for f in objects(tool.get("functionDeclarations"))]
    calling = (data.get("toolConfig") or {}).get("functionCallingConfig") or {}
    allowed = calling.get("allowedFunctionNames") if calling.get("mode") == "ANY" else None
    prompt, rounds = _last_prompt(contents)
    limit = config.get("maxOutputTokens", 65_536)
    if not isinstance(limit, int) or limit < 1:
        raise Invalid("max_output_tokens must be positive")
    return Ask(
        model=DIRECTIVE.sub("", model),
        directives=" ".join(DIRECTIVE.findall(model) + DIRECTIVE.findall(prompt)),
        stream=stream,
        max_output=limit,
        blocks=cached_by_prefix([*declared, data.get("systemInstruction"), *contents]),
        conversation=conversation_of(data.get("systemInstruction"), contents[0]),
        prompt=prompt,
        rounds=rounds,
        tools=tuple(_tool(function) for function in declared if function.get("name")),
        forced=str(allowed[0]) if allowed else "",
        thinks=bool(thinking.get("includeThoughts") or (thinking.get("thinkingBudget") or 0) > 0),
        schema=config.get("responseJsonSchema") or config.get("responseSchema"),
        bills_writes=False,
        stream_type="text/event-stream" if events else "application/json; charset=UTF-8",
    )


def _tool(function: dict[str, Any]) -> Tool:
    schema = function.get("parametersJsonSchema") or function.get("parameters") or {}
    return Tool(str(function["name"]), schema if isinstance(schema, dict) else {})


def _last_prompt(contents: list[dict[str, Any]]) -> tuple[str, int]:
    """The text of the last message that a person wrote, and how many rounds of tools came after it."""
    rounds = 0
    for content in reversed(contents):
        if content.get("role") == "model":
            continue
        parts = objects(content.get("parts"))
        if any("functionResponse" in part for part in parts):
            rounds += 1
            continue
        return plain_text(parts), rounds
    return "", rounds


# --- writing -----------------------------------------------------------------------------------


def _chunk(
    answer: Answer, parts: list[dict[str, Any]], usage: dict[str, Any], sent: int, stop: str | None = None
) -> Event:
    content = orjson.dumps(_content(answer, parts, usage, stop))
    return Event(b"data: %b\r\n\r\n" % content, sent, _flat(usage))


def _in_array(event: bytes, *, first: bool, last: bool) -> bytes:
    chunk = event.removeprefix(b"data: ").strip()
    return (b"[" if first else b",\r\n") + chunk + (b"]" if last else b"")


def _content(
    answer: Answer, parts: list[dict[str, Any]], usage: dict[str, Any], stop: str | None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if stop is not None:
        candidate["finishReason"] = stop
    return {
        "candidates": [{**candidate, "index": 0}],
        "usageMetadata": usage,
        "modelVersion": answer.ask.model,
        "responseId": answer.id,
    }


def _part(part: Part, text: str) -> dict[str, Any]:
    match part.kind:
        case "tool":
            signature = blake2b(text.encode(), digest_size=16).hexdigest()
            return {
                "functionCall": {"name": part.tool, "args": arguments(text)},
                "thoughtSignature": signature,
            }
        case "thinking":
            return {"text": text, "thought": True}
    return {"text": text}


def _stop(answer: Answer) -> str:
    return "MAX_TOKENS" if answer.reply.stop == "max_tokens" else "STOP"


def _usage_fields(usage: Usage) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "promptTokenCount": usage.context,
        "totalTokenCount": usage.context + usage.output,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.context}],
    }
    if usage.output > usage.thinking:
        fields["candidatesTokenCount"] = usage.output - usage.thinking
    if usage.thinking:
        fields["thoughtsTokenCount"] = usage.thinking
    if usage.cache_read:
        fields["cachedContentTokenCount"] = usage.cache_read
    return fields


def _flat(fields: dict[str, Any]) -> dict[str, int]:
    return {key: value for key, value in fields.items() if isinstance(value, int)}


def _model(id: str) -> dict[str, Any]:
    return {
        "name": f"models/{id}",
        "displayName": id,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
