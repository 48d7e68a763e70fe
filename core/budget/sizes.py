"""The most one reply of a model can have, for calls that do not say: known families, else a bound."""

from __future__ import annotations

#: By the beginning of the model's name, the longest first. Upper bounds: too much is only held back for
#: the time of a call, too little could be overrun.
_OUTPUT = (
    ("claude-3-5-", 8_192),
    ("claude-3-7-", 128_000),
    ("claude-3-", 4_096),
    ("claude-opus-4-1", 32_000),
    ("claude-opus-4-2025", 32_000),
    ("claude-", 128_000),
    ("gpt-3.5", 4_096),
    ("gpt-4.1", 32_768),
    ("gpt-4o", 16_384),
    ("gpt-4-turbo", 4_096),
    ("gpt-4", 8_192),
    ("gpt-5", 128_000),
    ("o1", 100_000),
    ("o3", 100_000),
    ("o4", 100_000),
    ("gemini-1.5", 8_192),
    ("gemini-2.0", 8_192),
    ("gemini-", 65_536),
)

UNKNOWN_OUTPUT = 128_000
"""For a model of no known family."""


def max_output(model: str | None, context: int | None) -> int:
    """Tokens that one reply can have at most, as far as that is known."""
    name = (model or "").rpartition("/")[2]
    known = next((size for start, size in _OUTPUT if name.startswith(start)), None)
    if known is not None:
        return known
    return min(context or UNKNOWN_OUTPUT, UNKNOWN_OUTPUT)
