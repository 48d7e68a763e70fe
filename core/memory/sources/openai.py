"""What is said in OpenAI's Responses, Chat Completions and Completions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ...gateway.protocols.untrusted import items, members, parse
from ...gateway.sse import EventSplitter, fields
from .spoken import Spoken, SpokenRole, by_user, called, texts, unescaped

_STRING = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_CONTENT = re.compile(rb'"content"\s*:\s*' + _STRING)
_DELTA = re.compile(rb'response\.output_text\.delta".*?"delta"\s*:\s*' + _STRING)
_CALLS = b'"tool_calls"'
_SYSTEM = frozenset({"system", "developer"})


# --- Chat Completions


def asked_in_chat(request: dict[str, Any]) -> Iterator[Spoken]:
    """Everything in a chat's request, or the one prompt of the older Completions."""
    for text in texts(request.get("prompt")):
        yield Spoken("user", text)
    for message in items(request.get("messages")):
        yield from _message(members(message))


def _message(message: dict[str, Any]) -> Iterator[Spoken]:
    role = str(message.get("role"))
    if role in ("tool", "function"):
        yield Spoken("tool", "\n".join(texts(message.get("content"))))
        return
    for text in texts(message.get("content")):
        yield _by(role, text)
    for call in items(message.get("tool_calls")):
        part = members(call)
        function = members(part.get("function") or part.get("custom"))
        yield called(function.get("name"), function.get("arguments", function.get("input")))


def _by(role: str, text: str) -> Spoken:
    if role in _SYSTEM:
        return Spoken("system", text)
    return Spoken("assistant", text) if role == "assistant" else by_user(text)


def answered_in_chat(data: bytes, streamed: bool) -> Iterator[Spoken]:
    """Everything in an answer: of several choices the first is what the conversation goes on with."""
    if not streamed:
        choice = members(next(iter(items(parse(data).get("choices"))), None))
        if isinstance(text := choice.get("text"), str):
            yield Spoken("assistant", text)
        yield from _message({**members(choice.get("message")), "role": "assistant"})
        return
    if _CALLS not in data and b'"text":' not in data and b'"index":1' not in data:
        yield Spoken("assistant", unescaped(_CONTENT.findall(data)))
        return
    yield from _chunks(parse(fields(event)[1]) for event in EventSplitter().feed(data + b"\n\n"))


def _chunks(chunks: Iterable[dict[str, Any]]) -> Iterator[Spoken]:
    said: list[str] = []
    names: dict[int, str] = {}
    arguments: dict[int, list[str]] = {}
    for chunk in chunks:
        choice = members(next(iter(items(chunk.get("choices"))), None))
        if choice.get("index") not in (0, None):
            continue
        delta = members(choice.get("delta"))
        said += [text for text in (delta.get("content"), choice.get("text")) if isinstance(text, str)]
        for place, one in enumerate(items(delta.get("tool_calls"))):
            call = members(one)
            index = call.get("index")
            at = index if isinstance(index, int) else place
            function = members(call.get("function") or call.get("custom"))
            names[at] = names.get(at, "") + str(function.get("name") or "")
            arguments.setdefault(at, []).append(str(function.get("arguments", function.get("input")) or ""))
    yield Spoken("assistant", "".join(said))
    for at, name in names.items():
        yield called(name, "".join(arguments[at]))


# --- Responses


def asked_for_response(request: dict[str, Any]) -> Iterator[Spoken]:
    """Everything in a request for a response."""
    for text in texts(request.get("instructions")):
        yield Spoken("system", text)
    if isinstance(request.get("input"), str):
        yield Spoken("user", request["input"])
    for item in items(request.get("input")):
        yield from _item(members(item), "user")


def _item(item: dict[str, Any], otherwise: SpokenRole) -> Iterator[Spoken]:
    kind = str(item.get("type") or "message")
    if kind == "message":
        for text in texts(item.get("content")):
            yield _by(str(item.get("role") or otherwise), text)
    elif kind.endswith("_call_output"):
        output = item.get("output")
        yield Spoken("tool", "\n".join(texts(output)) or _output(members(output)))
    elif kind.endswith("_call"):
        arguments = item.get("arguments", item.get("input", item.get("action")))
        yield called(item.get("name") or kind.removesuffix("_call"), arguments)


def _output(output: dict[str, Any]) -> str:
    return "\n".join(texts(output.get("content"))) or "\n".join(texts([output]))


def answered_in_response(data: bytes, streamed: bool) -> Iterator[Spoken]:
    """Everything in a response; of a stream that was cut, what came."""
    if not streamed:
        for item in items(parse(data).get("output")):
            yield from _item(members(item), "assistant")
        return
    done: list[Spoken] = []
    last: list[Spoken] = []
    for event in EventSplitter().feed(data + b"\n\n"):
        # The texts that stream by are repeated whole in the event that ends their item.
        if b".output_item.done" in event[:200]:
            done += _item(members(parse(fields(event)[1]).get("item")), "assistant")
        elif event[:40].startswith((b"event: response.completed", b"event: response.incomplete")):
            response = members(parse(fields(event)[1]).get("response"))
            last += [
                one for item in items(response.get("output")) for one in _item(members(item), "assistant")
            ]
    if done or last:
        yield from done or last
    else:
        yield Spoken("assistant", unescaped(_DELTA.findall(data)))
