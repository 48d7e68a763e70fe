"""What reading requests has in common, whatever the protocol."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson

from .ask import Invalid
from .http import Request
from .prompt_cache import Block


def object_in(request: Request) -> dict[str, Any]:
    """The JSON object that is the request's body.

    Raises:
        Invalid: It is none.
    """
    try:
        data = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The request body is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise Invalid("The request body is not a JSON object")
    return data


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list, if it is one."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def cached_by_prefix(pieces: list[object]) -> tuple[Block, ...]:
    """The prompt in blocks, for providers that cache every prompt's prefix without being asked."""
    blocks = []
    for piece in pieces:
        content = orjson.dumps(piece)
        blocks.append(Block(content, max(1, (len(content) + 3) // 4)))
    if blocks:
        blocks[-1] = blocks[-1]._replace(mark="5m")
    return tuple(blocks)


def conversation_of(*beginning: object) -> str:
    """What stays the same while a conversation grows."""
    return blake2b(orjson.dumps(beginning), digest_size=8).hexdigest()


def arguments(text: str) -> Any:
    """A tool's arguments; none where they were cut."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}


def plain_text(content: object) -> str:
    """The text of a message's content."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in objects(content) if isinstance(part.get("text"), str))
