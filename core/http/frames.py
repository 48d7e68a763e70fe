"""How streams travel over the control API: one JSON document a line, and frames for raw output.

A line is a JSON array ``[tag, …fields]``; rows are arrays in the order of ``Row``'s fields. A frame is
1 byte kind, 8 bytes offset and 4 bytes length, big-endian, then that many bytes. Both end with the
HTTP body; an error that happens on the way is the last line (tag ``error``) or the last frame
(kind ``x``), so that the end of a stream is never mistaken for its completion.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from ..errors import AgentTopError, KernelUnreachable, from_dict
from ..table import Delta, EventInfo, Snapshot, header_from_json, row_from_json

if TYPE_CHECKING:
    from ..backend import Chunk

LINES = "application/x-ndjson"
FRAMES = "application/vnd.agenttop.frames"

_FRAME = struct.Struct(">cQI")
_KINDS = {"out": b"o", "err": b"e"}
_STREAMS: dict[bytes, Any] = {b"o": "out", b"e": "err"}
_ERROR = b"x"
LONGEST = 64 << 20
"""A longer frame or line is not ours."""


def _plain(value: object) -> object:
    """orjson does not take subclasses of tuple by itself."""
    if isinstance(value, tuple):
        return tuple(value)
    raise TypeError(type(value).__name__)


def _line(*fields: object) -> bytes:
    return orjson.dumps(fields, default=_plain, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def event_line(event: EventInfo) -> bytes:
    """One journal row as a JSON object: what ``curl`` reads without a manual."""
    return orjson.dumps(event._asdict(), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def change_line(change: Snapshot | Delta) -> bytes:
    """A snapshot or a delta."""
    return _line("snapshot" if isinstance(change, Snapshot) else "delta", *change)


def answer_line(answer: object) -> bytes:
    """One answer of a stream verb: NamedTuples as arrays."""
    return orjson.dumps(answer, default=_plain, option=orjson.OPT_APPEND_NEWLINE)


def error_line(error: AgentTopError) -> bytes:
    """The last line of a stream that failed."""
    return orjson.dumps({"error": error.to_dict()}, option=orjson.OPT_APPEND_NEWLINE)


def chunk_frame(chunk: Chunk) -> bytes:
    """A piece of output."""
    return _FRAME.pack(_KINDS[chunk.stream], chunk.offset, len(chunk.data)) + chunk.data


def chunk_raw(chunk: Chunk) -> bytes:
    """A piece of output as it is, both streams mixed."""
    return bytes(chunk.data)


def error_frame(error: AgentTopError) -> bytes:
    """The last frame of a stream that failed."""
    body = orjson.dumps(error.to_dict())
    return _FRAME.pack(_ERROR, 0, len(body)) + body


def no_error(error: AgentTopError) -> bytes:
    """Raw output has no place for an error; the body is cut instead."""
    raise error


class Lines:
    """Bytes in any pieces → decoded lines."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Any]:
        """The documents that ``data`` completes.

        Raises:
            AgentTopError: The one the stream ended with.
        """
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            piece = data[start:end]
            if self._rest:
                piece = b"".join([*self._rest, piece])
                self._rest.clear()
                self._size = 0
            start = end + 1
            document = orjson.loads(piece)
            if isinstance(document, dict) and "error" in document:
                raise from_dict(document["error"])
            yield document
        if start < len(data):
            self._rest.append(data[start:])
            self._size += len(data) - start
            if self._size > LONGEST:
                raise KernelUnreachable("the kernel's answer cannot be read", "A line does not end")


def event_from(document: dict[str, Any]) -> EventInfo:
    """The inverse of ``event_line``."""
    return EventInfo(**document)


def change_from(document: list[Any]) -> Snapshot | Delta:
    """The inverse of ``change_line``."""
    tag, *fields = document
    if tag == "snapshot":
        seq, time, window, header, rows = fields
        return Snapshot(seq, time, window, header_from_json(header), tuple(map(row_from_json, rows)))
    seq, time, header, rows, gone = fields
    read = header_from_json(header) if header is not None else None
    return Delta(seq, time, read, tuple(map(row_from_json, rows)), tuple(gone))


class Frames:
    """Bytes in any pieces → chunks of output."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks that ``data`` completes.

        Raises:
            AgentTopError: The one the stream ended with.
        """
        from ..backend import Chunk

        self._buffer += data
        start, end = 0, len(self._buffer)
        with memoryview(self._buffer) as view:
            while end - start >= _FRAME.size:
                kind, offset, length = _FRAME.unpack_from(view, start)
                if length > LONGEST or (kind not in _STREAMS and kind != _ERROR):
                    raise KernelUnreachable("the kernel's answer cannot be read", "It is not made of frames")
                if end - start - _FRAME.size < length:
                    break
                start += _FRAME.size
                body = bytes(view[start : start + length])
                start += length
                if kind == _ERROR:
                    raise from_dict(orjson.loads(body))
                yield Chunk(_STREAMS[kind], offset, body)
        del self._buffer[:start]
