"""What comes off the wire may be anything: reading it never raises, and figures are believed with reserve."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

BYTES_PER_TOKEN = 4
"""The estimate where a provider tells no figure: about four bytes of text a token."""

MOST_TOKENS = 100_000_000
"""A larger count of one call is a mistake, ten times any model's context: it is not believed."""


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in ``data``; an empty one if it is not one (or nested too deep to be one)."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def members(value: object) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def word(value: object, most: int = 200) -> str | None:
    """The value if it is a text with something in it, cut to ``most`` characters."""
    return value[:most] if isinstance(value, str) and value else None


def line(value: object, most: int = 200) -> str:
    """Any value as one line of printable characters."""
    return "".join(char if char.isprintable() else " " for char in str(value)[:most])


def count(value: object) -> int | None:
    """A count of tokens; ``None`` for what is none: another type, negative, or beyond belief."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
        return value
    return None


def product(values: Iterable[int | None]) -> int | None:
    """The product, where all factors are known."""
    result = 1
    for value in values:
        if value is None:
            return None
        result *= value
    return result


def tokens_of(size: int) -> int:
    """The estimate for ``size`` bytes of text."""
    return -(-size // BYTES_PER_TOKEN)


class Figures:
    """The greatest plausible value seen of each figure: usage is cumulative and never taken back."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def see(self, name: str, value: object) -> bool:
        """Take a figure; false if it is absent or not believed."""
        # Inlined ``count``: this runs for every event of some protocols.
        if type(value) is int and 0 <= value <= MOST_TOKENS:
            if value > self._seen.get(name, -1):
                self._seen[name] = value
            return True
        return False

    def get(self, name: str, default: int = 0) -> int:
        """The greatest value seen."""
        return self._seen.get(name, default)

    def has(self, name: str) -> bool:
        """Whether any value was believed."""
        return name in self._seen


def string_bytes(data: bytes, start: int) -> int:
    """Length of the JSON string whose text begins at ``start``, escapes as written."""
    end = data.find(b'"', start)
    while end > 0 and data[end - 1] == 92:  # an escaped quote, or an escaped backslash before the end
        slashes = 1
        while data[end - 1 - slashes] == 92:
            slashes += 1
        if slashes % 2 == 0:
            break
        end = data.find(b'"', end + 1)
    return (end if end >= 0 else len(data)) - start
