"""Tools used with arguments that were asked for: ``use=send?to=ana&text=hello+there``.

A tool is called by its own name, also where its client puts its MCP server's before it
(``mcp__agenttop__send``, ``agenttop-send``, a namespace). ``+`` is a space, ``%XX`` any byte. The value
``@message`` is the id of the last message of the bus that was read.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from .ask import Ask, Tool

SERVER = "agenttop"
_MESSAGE = re.compile(r'\bid[\\"]+: ?[\\"]+(m\d+)\b')


class Use(NamedTuple):
    """One tool to use."""

    name: str
    arguments: tuple[tuple[str, str], ...]


def parse_use(text: str) -> Use:
    """Read one word of a directive.

    Raises:
        ValueError: It names no tool.
    """
    name, _, query = text.partition("?")
    if not name:
        raise ValueError("use= names a tool")
    return Use(name, tuple(parse_qsl(query, keep_blank_values=True)))


def tool_of(use: Use, tools: tuple[Tool, ...]) -> Tool | None:
    """The tool that is meant, the kernel's before others of that name."""
    ours = re.compile(rf"(?:mcp_+)?{SERVER}[_-]+(?:{SERVER}[_-]+)?{re.escape(use.name)}")
    for tool in tools:
        if ours.fullmatch(f"{tool.namespace}_{tool.name}" if tool.namespace else tool.name):
            return tool
    return next((tool for tool in tools if tool.name == use.name), None)


def input_of(use: Use, tool: Tool, ask: Ask) -> dict[str, Any]:
    """The arguments, of the types that the tool's schema has."""
    properties = tool.schema.get("properties") or {}
    return {name: _typed(_looked_up(value, ask), properties.get(name) or {}) for name, value in use.arguments}


def _looked_up(value: str, ask: Ask) -> str:
    if value != "@message":
        return value
    said = b"\n".join(block.content for block in ask.blocks).decode("utf-8", "replace")
    found = _MESSAGE.findall(said)
    return found[-1] if found else value


def _typed(value: str, schema: dict[str, Any]) -> Any:
    kind = str(schema.get("type", "string")).lower()
    if kind == "array" and not value.startswith("["):
        return value.split(",")
    if kind in ("integer", "number", "boolean", "array", "object"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
