"""What a request asks now, as 64 bits: the same for the same request, few bits apart for nearly the same.

A similarity hash (Charikar's simhash) over word shingles of the newest message, or of what the tools of the
last round answered. Ids, timestamps and cache marks are left out, so that the same call made again looks it.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from itertools import islice, pairwise
from zlib import crc32

_VOLATILE = frozenset({
    "role", "type",  # not volatile, but counted once or told by the rest
    "id", "call_id", "tool_use_id", "tool_call_id", "item_id", "cache_control", "signature",
    "thoughtSignature", "encrypted_content", "timestamp", "created", "created_at", "createTime", "index",
    "status",
})  # fmt: skip
#: Dates, times, UUIDs, other long words of hexadecimal digits, long numbers: what begins with a digit,
#: and the letters before that (looked for only where there was one: both regexes are quick on usual text).
_MOVING = re.compile(rb"\d[0-9a-fA-F:.TZ_+-]{6,}")
_BEFORE = re.compile(rb"\b[a-fA-F-]+#")
_MOST_MESSAGES = 16
_MOST_TEXTS = 64
_MOST_DEPTH = 12
_MOST_NODES = 512
_WINDOWS = 4
_WINDOW = 384
_MOST_WEIGHT = 64
_MOST_TEXT = _WINDOWS * _WINDOW


def fingerprint(model: str | None, messages: object) -> int | None:
    """The similarity hash of the newest of ``messages``; ``None`` where there are none.

    Args:
        messages: A prompt, or a list of messages or input items as any of the protocols has them.
    """
    newest = _newest(messages)
    texts = _texts(newest)
    if not texts:
        return None
    # What is asked stands last, after what the client puts before it, and must not drown in that.
    before, asked = _words(texts[:-1]), _words(texts[-1:])
    if before and asked:
        asked *= min(_MOST_WEIGHT, max(1, len(before) // len(asked)))
    last = newest[-1]
    role = last.get("role") if isinstance(last, dict) else None
    head = f"{model or ''} {role[:100] if isinstance(role, str) else ''}".encode("utf-8", "replace")
    return _simhash([b"model", head, *before, *asked, b"."])


def distance(one: int, other: int) -> int:
    """In how many of the 64 bits they differ."""
    return (one ^ other).bit_count()


def _newest(messages: object) -> list[object]:
    """The last message; if that is what a tool answered, the answers of the same round before it too."""
    if not isinstance(messages, list):
        return [messages]
    newest = messages[-1:]
    if newest and _is_answer(newest[0]):
        for message in reversed(messages[-_MOST_MESSAGES:-1]):
            if not _is_answer(message):
                break
            newest.insert(0, message)
    return newest


def _is_answer(message: object) -> bool:
    if not isinstance(message, dict):
        return False
    kind = message.get("type")
    return message.get("role") in ("tool", "function") or (isinstance(kind, str) and kind.endswith("_output"))


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


def _words(texts: Sequence[str]) -> list[bytes]:
    data, moving = _MOVING.subn(b"#", _sample(texts))
    if moving:
        data = _BEFORE.sub(b"#", data)
    return data.split()


def _sample(texts: Sequence[str]) -> bytes:
    """At most some 1.5 kB of the texts: short ones whole, of long ones windows spread over the whole.

    A small change moves the windows by as little as it moves the text: most words in them stay.
    """
    left = _MOST_TEXT
    parts: list[str] = []
    # Short texts (roles, names, arguments) first get their due, the long ones share the rest.
    long = [text for text in texts if len(text) > _WINDOW]
    share = max(_WINDOW, left // max(1, len(long)))
    for text in reversed(texts):
        if left <= 0:
            break
        if len(text) > share:
            count = max(1, share // _WINDOW)
            step = (len(text) - _WINDOW) // max(1, count - 1)
            parts += [text[n * step : n * step + _WINDOW] for n in range(count - 1, -1, -1)]
            left -= count * _WINDOW
        else:
            parts.append(text)
            left -= len(text)
    return " ".join(reversed(parts)).encode("utf-8", "replace")


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
