"""Takes the chunk that only tells the usage out of a stream of chat completions."""

from __future__ import annotations

import re

from ..sse import fields
from .base import StreamFilter
from .untrusted import parse

_MOST = 16 << 10
"""A usage chunk is small; of a longer event nothing is kept back."""
#: A blank line, and with it the end of the line before. A CR at the very end may be half of a CRLF.
_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")


class UsageFilter(StreamFilter):
    """Passes every byte on but those of events with ``"choices": []`` and a usage.

    What is kept back is the unfinished event at the end of a piece: usually nothing.
    """

    def __init__(self) -> None:
        self._kept = b""
        self._long = False
        """The event under way is too long to be one of ours, its beginning has passed."""
        self._half: bytes | None = None
        """The last event ended in a CR: an LF after it belongs to it, and this is what becomes of that."""

    def feed(self, data: bytes, last: bool) -> bytes:
        """See the base class."""
        if self._half is not None and data:
            half, self._half = self._half, None
            if data.startswith(b"\n"):
                return half + self.feed(data[1:], last)
        # The usual piece: whole events, none of them ours.
        if not self._kept and not self._long and data.endswith(b"\n\n") and not _may_tell(data):
            return data
        data, self._kept = self._kept + data, b""
        out: list[bytes] = []
        at = 0
        for match in _END.finditer(data):
            event = data[at : match.end()]
            at = match.end()
            dropped = not self._long and _is_usage(event)
            self._long = False
            if at == len(data) and event.endswith(b"\r"):
                self._half = b"" if dropped else b"\n"
            if not dropped:
                out.append(event)
        rest = data[at:]
        if last:
            if self._long or not _is_usage(rest):
                out.append(rest)
            self._long = False
        elif self._long or len(rest) > _MOST:
            # Line ends at the border stay: they may be half of the blank line that ends the event.
            body = rest.rstrip(b"\r\n")
            self._long = True
            out.append(body)
            self._kept = rest[len(body) :]
        else:
            self._kept = rest
        return b"".join(out)


def _may_tell(data: bytes) -> bool:
    # No regex: this sees every piece of the stream. Nobody is known to space it otherwise.
    return b'"choices":[]' in data or b'"choices": []' in data


def _is_usage(event: bytes) -> bool:
    if not _may_tell(event):
        return False
    chunk = parse(fields(event.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))[1])
    return chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)
