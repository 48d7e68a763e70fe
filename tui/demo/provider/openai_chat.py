"""OpenAI Chat Completions on the wire, and embeddings. Usage is streamed only to those who ask for it."""

from __future__ import annotations

from typing import Any

import orjson

from . import openai
from .ask import Answer, Ask, Event, Invalid, Manners, Part, Route, Tool
from .body import cached_by_prefix, conversation_of, object_in, objects, plain_text
from .directives import DIRECTIVE
from .http import Request
from .truth import Usage

_FINISH = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length"}
_DONE = b"data: [DONE]\n\n"


class ChatCompletions:
    """The dialect of ``/v1/chat/completions``."""

    @property
    def name(self) -> str:
        """As the truth calls it."""
        return "openai-chat"

    @property
    def manners(self) -> Manners:
        """As OpenAI names things."""
        return openai.manners("chatcmpl-")

    def route(self, request: Request) -> Route | None:
        """Chat completions, embeddings, and the list of models."""
        if request.method == "POST":
            if (prefix := openai.prefix_of(request.path, "/chat/completions")) is not None:
                return Route("generate", prefix)
            if (prefix := openai.prefix_of(request.path, "/embeddings")) is not None:
                return Route("embed", prefix)
        return openai.models_route(request)

    def parse(self, request: Request) -> Ask:
        """Read a call."""
        openai.check_credentials(request)
        data = object_in(request)
        if request.path.endswith("/embeddings"):
            return openai.embedding_ask(data)
        return _read(data)

    def events(self, answer: Answer) -> list[Event]:
        """Chunks, the usage if it was asked for, and ``[DONE]``."""
        usage = _usage_fields(answer.usage)
        events = [_chunk(answer, {"role": "assistant", "content": ""}, 1)]
        sent = tool = 0
        for index, part in enumerate(answer.reply.parts):
            if part.kind == "tool":
                function = {"name": part.tool, "arguments": ""}
                call = {"index": tool, "id": answer.tool_ids[index], "type": "function", "function": function}
                events.append(_chunk(answer, {"tool_calls": [call]}, sent))
            for piece, count in zip(part.pieces, part.tokens, strict=True):
                sent += count
                events.append(_chunk(answer, _delta(part, piece, tool), sent))
            tool += part.kind == "tool"
        output = answer.usage.output
        events.append(_chunk(answer, {}, output, _FINISH[answer.reply.stop]))
        if answer.ask.wants_usage:
            told = {**_base(answer, "chat.completion.chunk"), "choices": [], "usage": usage}
            events.append(Event(_data(told), output, _flat(usage)))
        return [*events, Event(_DONE, output)]

    def body(self, answer: Answer) -> tuple[bytes, dict[str, int]]:
        """The whole completion."""
        usage = _usage_fields(answer.usage)
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        calls = []
        for index, part in enumerate(answer.reply.parts):
            text = "".join(part.pieces)
            if part.kind == "tool":
                function = {"name": part.tool, "arguments": text}
                calls.append({"id": answer.tool_ids[index], "type": "function", "function": function})
            elif part.kind == "thinking":
                message["reasoning_content"] = text
            else:
                message["content"] = text
        if calls:
            message["tool_calls"] = calls
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _FINISH[answer.reply.stop],
        }
        whole = {**_base(answer, "chat.completion"), "choices": [choice], "usage": usage}
        return orjson.dumps(whole), _flat(usage)

    def trouble(self, status: int, message: str, request_id: str) -> bytes:
        """An error's body."""
        return openai.trouble(status, message, request_id)

    def stream_trouble(self, message: str, request_id: str) -> bytes:
        """A chunk that is an error."""
        return b"data: " + self.trouble(503, message, request_id) + b"\n\n"

    def other(self, route: Route, request: Request) -> tuple[int, bytes]:
        """Embeddings and models."""
        if route.kind == "embed":
            data = object_in(request)
            return 200, openai.embeddings(data, openai.embedding_ask(data).tokens)
        return openai.models(route)


# --- reading -----------------------------------------------------------------------------------


def _read(data: dict[str, Any]) -> Ask:
    messages = objects(data.get("messages"))
    if not messages:
        raise Invalid("Missing required parameter: 'messages'.")
    tools = [tool for tool in objects(data.get("tools")) if isinstance(tool.get("function"), dict)]
    model = openai.model_of(data)
    prompt, rounds = _last_prompt(messages)
    choice = data.get("tool_choice")
    forced = choice.get("function", {}).get("name", "") if isinstance(choice, dict) else ""
    wanted = (data.get("response_format") or {}).get("json_schema") or {}
    options = data.get("stream_options")
    return Ask(
        model=DIRECTIVE.sub("", model),
        directives=" ".join(DIRECTIVE.findall(model) + DIRECTIVE.findall(prompt)),
        stream=data.get("stream") is True,
        max_output=openai.limit_of(data, "max_completion_tokens", "max_tokens"),
        blocks=cached_by_prefix([*tools, *messages]),
        conversation=conversation_of(messages[0]),
        prompt=prompt,
        rounds=rounds,
        tools=tuple(_tool(tool["function"]) for tool in tools if tool["function"].get("name")),
        forced=str(forced),
        thinks=data.get("reasoning_effort") not in (None, "none") or data.get("enable_thinking") is True,
        schema=wanted.get("schema"),
        bills_writes=False,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _tool(function: dict[str, Any]) -> Tool:
    return Tool(str(function["name"]), function.get("parameters") or {})


def _last_prompt(messages: list[dict[str, Any]]) -> tuple[str, int]:
    """The text of the last message that a person wrote, and how many rounds of tools came after it."""
    rounds = 0
    for n in range(len(messages) - 1, -1, -1):
        role = messages[n].get("role")
        if role == "tool":
            rounds += n == 0 or messages[n - 1].get("role") != "tool"
        elif role == "user":
            return plain_text(messages[n].get("content")), rounds
    return "", rounds


# --- writing -----------------------------------------------------------------------------------


def _base(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": answer.id,
        "object": kind,
        "created": 1767225600,
        "model": answer.ask.model,
        "service_tier": "default",
        "system_fingerprint": "fp_mock",
    }


def _chunk(answer: Answer, delta: dict[str, Any], sent: int, finish: str | None = None) -> Event:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk: dict[str, Any] = {**_base(answer, "chat.completion.chunk"), "choices": [choice]}
    if answer.ask.wants_usage:
        chunk["usage"] = None
    return Event(_data(chunk), sent)


def _delta(part: Part, piece: str, tool: int) -> dict[str, Any]:
    match part.kind:
        case "tool":
            return {"tool_calls": [{"index": tool, "function": {"arguments": piece}}]}
        case "thinking":
            return {"reasoning_content": piece}
    return {"content": piece}


def _data(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(chunk)


def _usage_fields(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.context,
        "completion_tokens": usage.output,
        "total_tokens": usage.context + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.thinking, "audio_tokens": 0},
    }


def _flat(fields: dict[str, Any]) -> dict[str, int]:
    flat = {key: value for key, value in fields.items() if isinstance(value, int)}
    return flat | {"cached_tokens": fields["prompt_tokens_details"]["cached_tokens"]}
