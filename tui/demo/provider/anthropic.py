"""Anthropic Messages on the wire: requests in, server-sent events or one JSON message out.

Fields and event order as in https://docs.anthropic.com/en/api/messages-streaming.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

import orjson

from .ask import Answer, Ask, Event, Invalid, Manners, Part, Route, Tool
from .directives import DIRECTIVE
from .http import Request
from .prompt_cache import Block, Lasting
from .truth import Usage

_PATHS = (
    ("POST", "/v1/messages", "generate"),
    ("POST", "/v1/messages/count_tokens", "count"),
    ("GET", "/v1/models", "models"),
    ("HEAD", "/api/hello", "hello"),
    ("GET", "/api/hello", "hello"),
    ("HEAD", "/", "hello"),
)
_MODEL = re.compile(r"(?P<prefix>.*)/v1/models/(?P<model>[^/]+)")

MODELS = (
    ("claude-opus-5-5", "Claude Opus 5.5"),
    ("claude-sonnet-5-5", "Claude Sonnet 5.5"),
    ("claude-haiku-5-5", "Claude Haiku 5.5"),
    ("claude-opus-4-8", "Claude Opus 4.8"),
    ("claude-sonnet-4-6", "Claude Sonnet 4.6"),
    ("claude-haiku-4-5", "Claude Haiku 4.5"),
)

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_PING = Event(b'event: ping\ndata: {"type": "ping"}\n\n', 0)


class AnthropicMessages:
    """The dialect of ``/v1/messages``."""

    @property
    def name(self) -> str:
        """As the truth calls it."""
        return "anthropic"

    @property
    def manners(self) -> Manners:
        """As Anthropic names things."""
        garbage = b'event: content_block_delta\ndata: {"type":"content_bl\n\n'
        return Manners("msg_01", "toolu_01", "request-id", "anthropic", garbage)

    def route(self, request: Request) -> Route | None:
        """Find the provider's own path at the end of the request's; what is before it is the prefix."""
        for method, suffix, kind in _PATHS:
            if request.method == method and request.path.endswith(suffix):
                if kind == "models" and "anthropic-version" not in request.headers:
                    return None  # others list their models there too
                return Route(kind, request.path[: -len(suffix)])  # type: ignore[arg-type]
        listing = request.method == "GET" and "anthropic-version" in request.headers
        if listing and (match := _MODEL.fullmatch(request.path)):
            return Route("model", match["prefix"], match["model"])
        return None

    def parse(self, request: Request) -> Ask:
        """Read a ``POST /v1/messages`` or ``count_tokens``."""
        if not (request.headers.get("x-api-key") or request.headers.get("authorization")):
            raise Invalid("x-api-key header is required", 401)
        if not request.headers.get("anthropic-version"):
            raise Invalid("anthropic-version: header is required")
        try:
            data = orjson.loads(request.body)
        except orjson.JSONDecodeError as error:
            raise Invalid(f"The request body is not valid JSON: {error}") from error
        if not isinstance(data, dict):
            raise Invalid("The request body is not a JSON object")
        return _read(data, counting=request.path.endswith("/count_tokens"))

    def events(self, answer: Answer) -> list[Event]:
        """``message_start``, ``ping``, blocks with their deltas, ``message_delta``, ``message_stop``."""
        start = _usage_fields(answer.usage, output=1)
        events = [
            _event("message_start", {"message": {**_message(answer), "usage": start}}, 1, _flat(start)),
            _PING._replace(output=1),
        ]
        sent = 0
        for index, part in enumerate(answer.reply.parts):
            events.append(
                _event(
                    "content_block_start",
                    {"index": index, "content_block": _opening(part, answer, index)},
                    sent,
                )
            )
            for piece, count in zip(part.pieces, part.tokens, strict=True):
                sent += count
                events.append(
                    _event("content_block_delta", {"index": index, "delta": _delta(part, piece)}, sent)
                )
            if part.kind == "thinking":
                delta = {"type": "signature_delta", "signature": _signature(part)}
                events.append(_event("content_block_delta", {"index": index, "delta": delta}, sent))
            events.append(_event("content_block_stop", {"index": index}, sent))
        final = _usage_fields(answer.usage, output=answer.usage.output)
        stop = {"stop_reason": answer.reply.stop, "stop_sequence": None}
        output = answer.usage.output
        events.append(_event("message_delta", {"delta": stop, "usage": final}, output, _flat(final)))
        events.append(_event("message_stop", {}, output))
        return events

    def body(self, answer: Answer) -> tuple[bytes, dict[str, int]]:
        """The whole message."""
        usage = _usage_fields(answer.usage, output=answer.usage.output)
        content = []
        for index, part in enumerate(answer.reply.parts):
            block = _opening(part, answer, index)
            text = "".join(part.pieces)
            if part.kind == "tool":
                block["input"] = _arguments(text)
            elif part.kind == "thinking":
                block |= {"thinking": text, "signature": _signature(part)}
            else:
                block["text"] = text
            content.append(block)
        message = {**_message(answer), "content": content, "stop_reason": answer.reply.stop, "usage": usage}
        return orjson.dumps(message), _flat(usage)

    def trouble(self, status: int, message: str, request_id: str) -> bytes:
        """An error's body."""
        kind = _ERRORS.get(status, "api_error" if status >= 500 else "invalid_request_error")
        error = {"type": kind, "message": message}
        return orjson.dumps({"type": "error", "error": error, "request_id": request_id})

    def stream_trouble(self, message: str, request_id: str) -> bytes:
        """An ``error`` event."""
        body = self.trouble(529, message, request_id)
        return b"event: error\ndata: " + body + b"\n\n"

    def other(self, route: Route, request: Request) -> tuple[int, bytes]:
        """Models, token counts and the client's hello."""
        if route.kind == "hello":
            return 200, orjson.dumps({"message": "hello"})
        if route.kind == "count":
            return 200, orjson.dumps({"input_tokens": self.parse(request).tokens})
        models = [
            {"type": "model", "id": id, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
            for id, name in MODELS
        ]
        if route.kind == "models":
            page = {"data": models, "has_more": False, "first_id": MODELS[0][0], "last_id": MODELS[-1][0]}
            return 200, orjson.dumps(page)
        for model in models:
            if model["id"] == route.detail:
                return 200, orjson.dumps(model)
        raise Invalid(f"model: {route.detail}", 404)


# --- reading -----------------------------------------------------------------------------------


def _read(data: dict[str, Any], *, counting: bool) -> Ask:
    model, messages = data.get("model"), data.get("messages")
    if not isinstance(model, str) or not model:
        raise Invalid("model: Field required")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise Invalid("messages: at least one message is required")
    limit = data.get("max_tokens", 1 if counting else None)
    if not isinstance(limit, int) or limit < 1:
        raise Invalid("max_tokens: Field required")
    prompt, rounds = _last_prompt(messages)
    tools = [t for t in data.get("tools") or [] if isinstance(t, dict)]
    return Ask(
        model=DIRECTIVE.sub("", model),
        directives=" ".join(DIRECTIVE.findall(model) + DIRECTIVE.findall(prompt)),
        stream=data.get("stream") is True,
        max_output=limit,
        blocks=tuple(_blocks(tools, data.get("system"), messages)),
        conversation=blake2b(
            orjson.dumps([data.get("system"), _bare(messages[0])]), digest_size=8
        ).hexdigest(),
        prompt=prompt,
        rounds=rounds,
        tools=tuple(_tool(t) for t in tools if not t.get("defer_loading") and t.get("name")),
        forced=_forced(data),
        thinks=(data.get("thinking") or {}).get("type") in ("enabled", "adaptive"),
        schema=_schema(data),
    )


def _tool(tool: dict[str, Any]) -> Tool:
    return Tool(str(tool["name"]), tool.get("input_schema") or {})


def _forced(data: dict[str, Any]) -> str:
    choice = data.get("tool_choice") or {}
    return str(choice.get("name", "")) if choice.get("type") == "tool" else ""


def _schema(data: dict[str, Any]) -> dict[str, Any] | None:
    wanted = (data.get("output_config") or {}).get("format") or data.get("output_format") or {}
    schema = wanted.get("schema") if wanted.get("type") == "json_schema" else None
    return schema if isinstance(schema, dict) else None


def _blocks(tools: list[dict[str, Any]], system: object, messages: list[dict[str, Any]]) -> list[Block]:
    pieces: list[object] = [*tools, *_content(system)]
    blocks = [_block("", piece) for piece in pieces]
    for message in messages:
        role = str(message.get("role", ""))
        blocks += [_block(role, piece) for piece in _content(message.get("content"))]
    return blocks


def _content(content: object) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def _block(role: str, piece: object) -> Block:
    mark: Lasting | None = None
    if isinstance(piece, dict) and isinstance(control := piece.get("cache_control"), dict):
        mark = "1h" if control.get("ttl") == "1h" else "5m"
    content = orjson.dumps([role, _bare(piece)])
    return Block(content, max(1, (len(content) + 3) // 4), mark)


def _bare(piece: object) -> object:
    """Without the cache marks, which move from block to block as a conversation grows."""
    if isinstance(piece, dict):
        return {key: _bare(value) for key, value in piece.items() if key != "cache_control"}
    if isinstance(piece, list):
        return [_bare(item) for item in piece]
    return piece


def _last_prompt(messages: list[dict[str, Any]]) -> tuple[str, int]:
    """The text of the last message that a person wrote, and how many tool answers came after it."""
    rounds = 0
    for message in reversed(messages):
        if message.get("role") != "user":
            continue
        pieces = [p for p in _content(message.get("content")) if isinstance(p, dict)]
        if any(p.get("type") == "tool_result" for p in pieces):
            rounds += 1
            continue
        return "\n".join(str(p.get("text", "")) for p in pieces if p.get("type") == "text"), rounds
    return "", rounds


# --- writing -----------------------------------------------------------------------------------


def _event(kind: str, data: dict[str, Any], output: int, announced: dict[str, int] | None = None) -> Event:
    body = orjson.dumps({"type": kind, **data})
    return Event(b"event: %b\ndata: %b\n\n" % (kind.encode(), body), output, announced)


def _message(answer: Answer) -> dict[str, Any]:
    return {
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.ask.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _opening(part: Part, answer: Answer, index: int) -> dict[str, Any]:
    match part.kind:
        case "tool":
            return {"type": "tool_use", "id": answer.tool_ids[index], "name": part.tool, "input": {}}
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _delta(part: Part, piece: str) -> dict[str, str]:
    match part.kind:
        case "tool":
            return {"type": "input_json_delta", "partial_json": piece}
        case "thinking":
            return {"type": "thinking_delta", "thinking": piece}
    return {"type": "text_delta", "text": piece}


def _arguments(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}  # cut at max_tokens: a provider gives what could be read, and that is nothing


def _signature(part: Part) -> str:
    return blake2b("".join(part.pieces).encode(), digest_size=32).hexdigest()


def _usage_fields(usage: Usage, *, output: int) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": output,
        "service_tier": "standard",
    }
    if usage.thinking:
        fields["output_tokens_details"] = {"thinking_tokens": min(usage.thinking, output)}
    return fields


def _flat(fields: dict[str, Any]) -> dict[str, int]:
    return {key: value for key, value in fields.items() if isinstance(value, int)}
