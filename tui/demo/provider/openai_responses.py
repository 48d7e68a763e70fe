"""OpenAI Responses on the wire: typed events that end in the whole response, or that response alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from . import openai
from .ask import Answer, Ask, Event, Invalid, Manners, Part, Route, Tool
from .body import cached_by_prefix, conversation_of, object_in, objects, plain_text
from .directives import DIRECTIVE
from .http import Request
from .truth import Usage

_OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")
_PATHS = (("/responses", "generate"), ("/responses/input_tokens", "count"))


class Responses:
    """The dialect of ``/v1/responses``."""

    @property
    def name(self) -> str:
        """As the truth calls it."""
        return "openai-responses"

    @property
    def manners(self) -> Manners:
        """As OpenAI names things."""
        return openai.manners("resp_")

    def route(self, request: Request) -> Route | None:
        """Responses and token counts; the models are in the other dialect."""
        for suffix, kind in _PATHS:
            prefix = openai.prefix_of(request.path, suffix)
            if request.method == "POST" and prefix is not None:
                return Route(kind, prefix)  # type: ignore[arg-type]
        return None

    def parse(self, request: Request) -> Ask:
        """Read a call."""
        openai.check_credentials(request)
        return _read(object_in(request))

    def events(self, answer: Answer) -> list[Event]:
        """From ``response.created`` to ``response.completed``."""
        writer = _Writer()
        writer.add("response.created", {"response": _response(answer, "in_progress", [], None)}, 1)
        writer.add("response.in_progress", {"response": _response(answer, "in_progress", [], None)}, 1)
        output: list[dict[str, Any]] = []
        for index, part in enumerate(answer.reply.parts):
            writer.part(answer, index, part)
            output.append(_item(answer, index, part, "completed"))
        usage = _usage_fields(answer.usage)
        status = _status(answer)
        end = {"response": _response(answer, status, output, usage)}
        writer.add(f"response.{status}", end, answer.usage.output, _flat(usage))
        return writer.events

    def body(self, answer: Answer) -> tuple[bytes, dict[str, int]]:
        """The whole response."""
        usage = _usage_fields(answer.usage)
        output = [_item(answer, n, part, "completed") for n, part in enumerate(answer.reply.parts)]
        return orjson.dumps(_response(answer, _status(answer), output, usage)), _flat(usage)

    def trouble(self, status: int, message: str, request_id: str) -> bytes:
        """An error's body."""
        return openai.trouble(status, message, request_id)

    def stream_trouble(self, message: str, request_id: str) -> bytes:
        """A response that failed."""
        error = {"code": "server_error", "message": message}
        response = {"id": request_id, "object": "response", "status": "failed", "error": error, "usage": None}
        event = {"type": "response.failed", "sequence_number": 0, "response": response}
        return b"event: response.failed\ndata: " + orjson.dumps(event) + b"\n\n"

    def other(self, route: Route, request: Request) -> tuple[int, bytes]:
        """Token counts."""
        return 200, orjson.dumps(
            {"object": "response.input_tokens", "input_tokens": self.parse(request).tokens}
        )


# --- reading -----------------------------------------------------------------------------------


def _read(data: dict[str, Any]) -> Ask:
    given = data.get("input")
    items = objects(given) if not isinstance(given, str) else [{"role": "user", "content": given}]
    if not items:
        raise Invalid("Missing required parameter: 'input'.")
    tools = objects(data.get("tools"))
    for item in items:
        if item.get("type") == "additional_tools":
            tools = [*tools, *objects(item.get("tools"))]
    model = openai.model_of(data)
    prompt, rounds = _last_prompt(items)
    choice = data.get("tool_choice")
    wanted = (data.get("text") or {}).get("format") or {}
    reasoning = data.get("reasoning") or {}
    return Ask(
        model=DIRECTIVE.sub("", model),
        directives=" ".join(DIRECTIVE.findall(model) + DIRECTIVE.findall(prompt)),
        stream=data.get("stream") is True,
        max_output=openai.limit_of(data, "max_output_tokens"),
        blocks=cached_by_prefix([*tools, data.get("instructions"), *items]),
        conversation=conversation_of(data.get("instructions"), items[0]),
        prompt=prompt,
        rounds=rounds,
        tools=tuple(_tools(tools)),
        forced=str(choice.get("name", "")) if isinstance(choice, dict) else "",
        thinks=bool(reasoning) and reasoning.get("effort") != "none",
        schema=wanted.get("schema") if wanted.get("type") == "json_schema" else None,
    )


def _tools(tools: list[dict[str, Any]], namespace: str = "") -> Iterator[Tool]:
    """The tools that the client runs itself, those in namespaces too."""
    for tool in tools:
        name, kind = str(tool.get("name", "")), tool.get("type")
        if kind == "namespace" and not namespace:
            yield from _tools(objects(tool.get("tools")), name)
        elif kind in ("function", "custom") and name:
            yield Tool(name, tool.get("parameters") or {}, kind == "custom", namespace)


def _last_prompt(items: list[dict[str, Any]]) -> tuple[str, int]:
    """The text of the last message that a person wrote, and how many rounds of tools came after it."""
    rounds = 0
    for n in range(len(items) - 1, -1, -1):
        if items[n].get("type") in _OUTPUTS:
            rounds += n == 0 or items[n - 1].get("type") not in _OUTPUTS
        elif items[n].get("role") == "user":
            return plain_text(items[n].get("content")), rounds
    return "", rounds


# --- writing -----------------------------------------------------------------------------------


class _Writer:
    """Numbers the events and counts the tokens sent."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._sent = 0

    def add(
        self, kind: str, data: dict[str, Any], output: int, announced: dict[str, int] | None = None
    ) -> None:
        """One more event."""
        body = orjson.dumps({"type": kind, "sequence_number": len(self.events), **data})
        self.events.append(Event(b"event: %b\ndata: %b\n\n" % (kind.encode(), body), output, announced))

    def part(self, answer: Answer, index: int, part: Part) -> None:
        """One item, with its deltas."""
        whole = _item(answer, index, part, "completed")
        at: dict[str, Any] = {"output_index": index}
        opened = _item(answer, index, Part(part.kind, (), (), part.tool), "in_progress")
        if part.kind != "tool":
            opened["summary" if part.kind == "thinking" else "content"] = []
        self.add("response.output_item.added", {**at, "item": opened}, self._sent)
        at["item_id"] = whole["id"]
        match part.kind:
            case "tool":
                if whole["type"] == "custom_tool_call":
                    self._deltas("response.custom_tool_call_input", at, part, "input")
                else:
                    self._deltas("response.function_call_arguments", at, part, "arguments")
            case "thinking":
                inner = {**at, "summary_index": 0}
                self.add("response.reasoning_summary_part.added", {**inner, "part": _summary("")}, self._sent)
                self._deltas("response.reasoning_summary_text", inner, part, "text")
                text = _summary("".join(part.pieces))
                self.add("response.reasoning_summary_part.done", {**inner, "part": text}, self._sent)
            case "text":
                inner = {**at, "content_index": 0}
                self.add("response.content_part.added", {**inner, "part": _text("")}, self._sent)
                self._deltas("response.output_text", {**inner, "logprobs": []}, part, "text")
                text = _text("".join(part.pieces))
                self.add("response.content_part.done", {**inner, "part": text}, self._sent)
        self.add("response.output_item.done", {"output_index": index, "item": whole}, self._sent)

    def _deltas(self, kind: str, at: dict[str, Any], part: Part, whole: str) -> None:
        for piece, count in zip(part.pieces, part.tokens, strict=True):
            self._sent += count
            self.add(f"{kind}.delta", {**at, "delta": piece}, self._sent)
        self.add(f"{kind}.done", {**at, whole: "".join(part.pieces)}, self._sent)


def _item(answer: Answer, index: int, part: Part, status: str) -> dict[str, Any]:
    text = "".join(part.pieces)
    salt = f"{answer.id.removeprefix('resp_')}{index}"
    match part.kind:
        case "tool":
            tool = next((tool for tool in answer.ask.tools if tool.name == part.tool), Tool(part.tool, {}))
            named = {"namespace": tool.namespace} if tool.namespace else {}
            if tool.custom:
                return {
                    "type": "custom_tool_call", "id": f"ctc_{salt}", "call_id": answer.tool_ids[index],
                    "name": part.tool, **named, "input": text, "status": status,
                }  # fmt: skip
            return {
                "type": "function_call", "id": f"fc_{salt}", "call_id": answer.tool_ids[index],
                "name": part.tool, **named, "arguments": text, "status": status,
            }  # fmt: skip
        case "thinking":
            return {
                "type": "reasoning",
                "id": f"rs_{salt}",
                "summary": [_summary(text)],
                "encrypted_content": None,
            }
    return {
        "type": "message", "id": f"msg_{salt}", "role": "assistant", "status": status,
        "content": [_text(text)],
    }  # fmt: skip


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}


def _status(answer: Answer) -> str:
    return "incomplete" if answer.reply.stop == "max_tokens" else "completed"


def _response(
    answer: Answer, status: str, output: list[dict[str, Any]], usage: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "id": answer.id, "object": "response", "created_at": 1767225600, "status": status, "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None, "max_output_tokens": None, "model": answer.ask.model, "output": output,
        "parallel_tool_calls": True, "previous_response_id": None, "store": False, "temperature": 1.0,
        "reasoning": {"effort": None, "summary": None}, "text": {"format": {"type": "text"}},
        "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "usage": usage,
        "user": None, "metadata": {},
    }  # fmt: skip


def _usage_fields(usage: Usage) -> dict[str, Any]:
    written = usage.cache_write_5m + usage.cache_write_1h
    return {
        "input_tokens": usage.context,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": written},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.thinking},
        "total_tokens": usage.context + usage.output,
    }


def _flat(fields: dict[str, Any]) -> dict[str, int]:
    flat = {key: value for key, value in fields.items() if isinstance(value, int)}
    details: dict[str, int] = fields["input_tokens_details"]
    return flat | details
