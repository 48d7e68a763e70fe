"""What a request asks now, as 64 bits: the same for the same request, few bits apart for nearly the same.

A similarity hash (Charikar's simhash) over word shingles of the newest messages: those after the model's
own last one. Ids, timestamps and cache marks are left out, so that the same call made again looks it.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from itertools import islice, pairwise
from zlib import crc32

_VOLATILE = frozenset({
    "id", "call_id", "tool_use_id", "tool_call_id", "item_id", "cache_control", "signature",
    "thoughtSignature", "encrypted_content", "timestamp", "created", "created_at", "createTime", "index",
    "status",
})  # fmt: skip
_OWN = frozenset({"assistant", "model"})
_OWN_ITEMS = frozenset({"reasoning", "function_call", "custom_tool_call", "local_shell_call", "mcp_call"})
#: Dates, times, UUIDs, other long words of hexadecimal digits, long numbers: what begins with a digit,
#: and the letters before that (looked for only where there was one: both regexes are quick on usual text).
_MOVING = re.compile(rb"\d[0-9a-fA-F:.TZ_+-]{6,}")
_BEFORE = re.compile(rb"\b[a-fA-F-]+#")
_MOST_MESSAGES = 16
_MOST_TEXTS = 64
_MOST_DEPTH = 12
_MOST_NODES = 512
_WINDOWS = 6
_WINDOW = 384
_MOST_TEXT = _WINDOWS * _WINDOW


def fingerprint(model: str | None, messages: object) -> int | None:
    """The similarity hash of the newest of ``messages``; ``None`` where there are none.

    Args:
        messages: A prompt, or a list of messages or input items as any of the protocols has them.
    """
    texts = _texts(_newest(messages))
    if not texts:
        return None
    data, moving = _MOVING.subn(b"#", _sample(texts))
    if moving:
        data = _BEFORE.sub(b"#", data)
    return _simhash([b"model", (model or "").encode("utf-8", "replace"), *data.split(), b"."])


def distance(one: int, other: int) -> int:
    """In how many of the 64 bits they differ."""
    return (one ^ other).bit_count()


def _newest(messages: object) -> list[object]:
    if not isinstance(messages, list):
        return [messages]
    newest: list[object] = []
    for message in reversed(messages[-_MOST_MESSAGES:]):
        if newest and _is_own(message):
            break
        newest.append(message)
        if _is_own(message):
            break
    return newest[::-1]


def _is_own(message: object) -> bool:
    if not isinstance(message, dict):
        return False
    role, kind = message.get("role"), message.get("type")
    return (isinstance(role, str) and role in _OWN) or (isinstance(kind, str) and kind in _OWN_ITEMS)


def _texts(messages: list[object]) -> list[str]:
    """The texts and numbers in them, in order; only so many, and only so deep."""
    texts: list[str] = []
    stack = [(message, 0) for message in reversed(messages)]
    nodes = 0
    while stack and nodes < _MOST_NODES and len(texts) < _MOST_TEXTS:
        nodes += 1
        value, depth = stack.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            if depth < _MOST_DEPTH:
                stack += [(member, depth + 1) for member in reversed(value[:_MOST_NODES])]
        elif isinstance(value, dict):
            if depth < _MOST_DEPTH:
                some = islice(value.items(), _MOST_NODES)
                kept = [(member, depth + 1) for name, member in some if name not in _VOLATILE]
                stack += reversed(kept)
        elif depth and isinstance(value, int | float) and not isinstance(value, bool):
            texts.append(repr(value))
    return texts


def _sample(texts: Sequence[str]) -> bytes:
    """At most some 2 kB of the texts: short ones whole, of long ones windows spread over the whole.

    A small change moves the windows by as little as it moves the text: most words in them stay.
    """
    left = _MOST_TEXT
    parts: list[str] = []
    # Short texts (roles, names, arguments) first get their due, the long ones share the rest.
    long = [text for text in texts if len(text) > _WINDOW]
    share = max(_WINDOW, left // max(1, len(long)))
    for text in texts:
        if left <= 0:
            break
        if len(text) > share:
            count = max(1, share // _WINDOW)
            step = (len(text) - _WINDOW) // max(1, count - 1)
            pieces = [text[n * step : n * step + _WINDOW] for n in range(count)]
            parts += pieces
            parts.append(f"{len(text).bit_length()}")
            left -= count * _WINDOW
        else:
            parts.append(text)
            left -= len(text)
    return " ".join(parts).encode("utf-8", "replace")


def _simhash(words: list[bytes]) -> int:
    """The low half votes by pairs of words, the high half by triples."""
    # All loops over the words run in C: 20 kB of text must not cost a third of a millisecond.
    halves = (
        array("I", map(crc32, map(b" ".join, pairwise(words)))),
        array("I", map(crc32, map(b" ".join, zip(words, words[1:], words[2:], strict=False)))),
    )
    result = 0
    for half, votes in enumerate(halves):
        data, need = votes.tobytes(), len(votes) / 2
        ones = int.from_bytes(b"\1" * len(votes), "little")
        for place in range(4):
            column = int.from_bytes(data[place::4], "little")
            for bit in range(8):
                if (column >> bit & ones).bit_count() > need:
                    result |= 1 << (half * 32 + place * 8 + bit)
    return result
