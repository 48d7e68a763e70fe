"""Request bodies, read on the side: decoded where they came compressed, within bounds, whatever they are."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..coding import Decoder
from ..http1 import Header
from . import untrusted

MOST_BYTES = 32 << 20
"""A body that decodes to more is not read; no provider takes more either."""

UNREAD_RATIO = 8
"""How much larger a compressed body that cannot be read is taken to be: JSON shrinks to about an eighth."""

_BASE64 = (b";base64,", b'"data":"', b'"data": "')
_PICTURE_BYTES = 6_000
"""What a picture or file counts as: some 1,500 tokens, a usual one's price."""
_LONG = 4_096
_OPENED = re.compile(rb"\s*\{")
_EMPTY = re.compile(rb"\s*\}")


class Asked(NamedTuple):
    """A request's body as read: the decoded bytes and the object in them (empty if it is none).

    ``size`` is the length of ``data``, at least that of what came where it is none,
    an estimate where it could not be decoded.
    """

    data: bytes
    body: dict[str, Any]
    size: int


def read(headers: Sequence[Header], data: bytes) -> Asked:
    """Decode and parse a body. Never raises."""
    plain = decoded(_codings(headers), data)
    if plain is None:
        return Asked(b"", {}, len(data) * UNREAD_RATIO)
    body = untrusted.parse(plain)
    return Asked(plain, body, len(plain) if body else max(len(plain), len(data)))


def _codings(headers: Sequence[Header]) -> list[bytes]:
    values = [value for name, value in headers if name.lower() == b"content-encoding"]
    return [token for token in (t.strip().lower() for t in b",".join(values).split(b",")) if token]


def decoded(codings: Sequence[bytes], data: bytes, most: int = MOST_BYTES) -> bytes | None:
    """The body without its content codings; ``None`` where that cannot be had in ``most`` bytes."""
    if len(codings) > 2:
        return None
    for coding in reversed(codings):
        if coding in (b"gzip", b"x-gzip", b"deflate"):
            plain = _inflated(coding, data, most)
        elif coding == b"zstd":
            plain = _unzstd(data, most)
        else:
            plain = data if coding == b"identity" else None
        if plain is None:
            return None
        data = plain
    return data


def _inflated(coding: bytes, data: bytes, most: int) -> bytes | None:
    decoder = Decoder(b"deflate" if coding == b"deflate" else b"gzip")
    parts: list[bytes] = []
    size = 0
    for piece in decoder.feed(data):
        size += len(piece)
        if size > most:
            return None
        parts.append(piece)
    return None if decoder.broken else b"".join(parts)


def _unzstd(data: bytes, most: int) -> bytes | None:
    """Codex compresses so with a ChatGPT login. Without the ``zstandard`` package it stays unread."""
    try:
        import zstandard
    except ImportError:
        return None
    unpacker = zstandard.ZstdDecompressor(max_window_size=32 << 20)
    try:
        with unpacker.stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
            plain = reader.read(most + 1)
    except zstandard.ZstdError:
        return None
    return plain if len(plain) <= most else None


def input_tokens(data: bytes) -> int:
    """An estimate of the prompt's tokens from the body's size; base64 counts as pictures do."""
    size = len(data)
    if size > _LONG:
        for mark in _BASE64:
            at = data.find(mark)
            while at >= 0:
                start = at + len(mark)
                end = data.find(b'"', start)
                end = len(data) if end < 0 else end
                if end - start > _LONG:
                    size -= end - start - _PICTURE_BYTES if end - start > _PICTURE_BYTES else 0
                at = data.find(mark, end)
    return untrusted.tokens_of(max(0, size))


_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.DOTALL)


def member_at(data: bytes, start: int, name: str) -> tuple[int, int] | None:
    """Where the value of the last member ``name`` of the object at ``start`` begins and ends.

    ``data`` is valid JSON: its tokens are looked at, not checked.
    """
    depth = 0
    key: bytes | None = None
    value = -1
    found: tuple[int, int] | None = None
    previous = b""
    for match in _TOKEN.finditer(data, start):
        token = match.group()
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]", b","):
            if depth == 1 and value >= 0:
                if key is not None and _is(key, name):
                    found = value, match.start()
                value, key = -1, None
            if token != b",":
                depth -= 1
                if depth == 0:
                    break
        elif token == b":" and depth == 1:
            key, value = previous, match.end()
        if depth == 1:
            previous = token
    if found is None:
        return None
    text = data[found[0] : found[1]]
    return found[0] + len(text) - len(text.lstrip()), found[1] - len(text) + len(text.rstrip())


def _is(token: bytes, name: str) -> bool:
    if b"\\" in token:
        return untrusted.parse(b"{%b:1}" % token) == {name: 1}
    return token == b'"%b"' % name.encode()


def with_member(data: bytes, start: int, name: str, value: bytes) -> bytes:
    """The JSON text with a member put first into the object at ``start``, which has none of that name."""
    brace = start + 1
    comma = b"" if _EMPTY.match(data, brace) else b","
    return b'%b"%b":%b%b%b' % (data[:brace], name.encode(), value, comma, data[brace:])


def object_at(data: bytes) -> int:
    """Where the object that is the whole of ``data`` begins."""
    match = _OPENED.match(data)
    return match.end() - 1 if match is not None else -1
