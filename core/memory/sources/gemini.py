"""What is said in Gemini's ``generateContent`` (ai.google.dev, "Generating content")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from ...gateway.jsonstream import ObjectSplitter
from ...gateway.protocols.untrusted import items, members, parse
from ...gateway.sse import EventSplitter, fields
from .spoken import Spoken, by_user, called, plain


def asked(request: dict[str, Any]) -> Iterator[Spoken]:
    """Everything in a request, in its order."""
    system = request.get("systemInstruction") or request.get("system_instruction")
    for one in _parts(members(system).get("parts"), "user"):
        yield Spoken("system", one.text)
    for content in items(request.get("contents")):
        part = members(content)
        yield from _parts(part.get("parts"), str(part.get("role")))


def _parts(parts: object, role: str) -> Iterator[Spoken]:
    """Of the model, neighbouring texts are one: clients send what was streamed in pieces back whole."""
    said: list[str] = []
    for one in items(parts):
        part = members(one)
        text = part.get("text")
        if part.get("thought") is True:
            continue
        if isinstance(text, str):
            if role == "model":
                said.append(text)
            else:
                yield by_user(text)
            continue
        if said:
            yield Spoken("assistant", "".join(said))
            said = []
        yield from _other(part)
    if said:
        yield Spoken("assistant", "".join(said))


def _other(part: dict[str, Any]) -> Iterator[Spoken]:
    if isinstance(call := part.get("functionCall"), dict):
        yield called(call.get("name"), call.get("args", {}))
    elif isinstance(response := part.get("functionResponse"), dict):
        told = members(response.get("response"))
        yield Spoken("tool", plain(told.get("output", told.get("error", told))))
    elif isinstance(data := part.get("inlineData") or part.get("fileData"), dict):
        yield Spoken("user", f"[{str(data.get('mimeType') or 'file')[:40]}]")


def answered(data: bytes, streamed: bool) -> Iterator[Spoken]:
    """Everything in an answer: a stream of events, an array, or one object."""
    parts: list[Any] = []
    for chunk in _chunks(data, streamed):
        candidate = members(next(iter(items(chunk.get("candidates"))), None))
        parts += items(members(candidate.get("content")).get("parts"))
    yield from _parts(parts, "model")


def _chunks(data: bytes, streamed: bool) -> Iterable[dict[str, Any]]:
    if streamed:
        return [parse(fields(event)[1]) for event in EventSplitter().feed(data + b"\n\n")]
    if data.lstrip()[:1] != b"[":
        return [parse(data)]
    try:
        return [members(chunk) for chunk in orjson.loads(data)]
    except orjson.JSONDecodeError:  # it was cut
        return [parse(piece) for piece in ObjectSplitter(len(data)).feed(data)]
