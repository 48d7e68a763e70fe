"""What is said in Anthropic Messages (docs.anthropic.com, "Messages" and "Streaming Messages")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ...gateway.protocols.untrusted import items, members, parse
from ...gateway.sse import fields
from .spoken import Spoken, by_user, called, texts, unescaped

_HEADER = "x-anthropic-billing-header:"
"""Claude Code's first line of the system's text, which differs from call to call."""

_STRING = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_TEXT = re.compile(rb'"text_delta"\s*,\s*"text"\s*:\s*' + _STRING)
_JSON = re.compile(rb'"input_json_delta"\s*,\s*"partial_json"\s*:\s*' + _STRING)
_START = b"event: content_block_start"


def asked(request: dict[str, Any]) -> Iterator[Spoken]:
    """Everything in a request, in its order."""
    for text in texts(request.get("system")):
        if not text.startswith(_HEADER):
            yield Spoken("system", text)
    for message in items(request.get("messages")):
        yield from _message(members(message))


def _message(message: dict[str, Any]) -> Iterator[Spoken]:
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for block in items(content):
        yield from _block(members(block), str(message.get("role")))


def _block(block: dict[str, Any], role: str) -> Iterator[Spoken]:
    kind = str(block.get("type"))
    if kind == "tool_result":
        yield Spoken("tool", "\n".join(texts(block.get("content"))))
    elif kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        yield called(block.get("name"), block.get("input"))
    elif kind.endswith("thinking"):
        return
    else:
        for text in texts([block]):
            yield Spoken("assistant", text) if role == "assistant" else by_user(text)


def answered(data: bytes, streamed: bool) -> Iterator[Spoken]:
    """Everything in an answer; of a stream that was cut, what came."""
    if not streamed:
        for block in items(parse(data).get("content")):
            yield from _block(members(block), "assistant")
        return
    # Only the events that begin a block are looked at one by one: of the rest one pass picks the texts.
    for part in data.replace(b"\r\n", b"\n").split(_START)[1:]:
        event, _, deltas = part.partition(b"\n\n")
        block = members(parse(fields(_START + event)[1]).get("content_block"))
        kind = str(block.get("type"))
        if kind == "text":
            yield Spoken("assistant", str(block.get("text") or "") + unescaped(_TEXT.findall(deltas)))
        elif kind.endswith("tool_use"):
            written = unescaped(_JSON.findall(deltas))
            yield called(block.get("name"), written or block.get("input"))
