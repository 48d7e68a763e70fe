"""Server-sent events, cut out of a byte stream at any borders.

The rules are WHATWG's (html.spec.whatwg.org, 9.2.6): a blank line ends an event; CR, LF and CRLF
end a line; several ``data`` lines are joined by LF; a line that starts with a colon is a comment.
"""

from __future__ import annotations


class EventSplitter:
    """Gives the raw events of a stream, cheaply: the usual case is one ``split`` a chunk.

    Args:
        limit: Bytes of one event that are kept; a longer one is skipped and ``skipped`` counts it.
    """

    __slots__ = ("_carriage", "_limit", "_parts", "_size", "_skipping", "skipped")

    def __init__(self, limit: int = 8 << 20) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False
        self._carriage = False
        self.skipped = 0

    @property
    def empty(self) -> bool:
        """Whether nothing of an unfinished event lies here."""
        return not self._parts and not self._carriage

    def feed(self, data: bytes) -> list[bytes]:
        """The events that ``data`` completes, lines ended by LF, without the blank line."""
        if self._carriage or b"\r" in data:
            data = self._line_feeds(data)
        if not data:
            return []
        # A blank line may lie across the border: only the last byte kept matters for that.
        if self._parts and data[0] == 10 and self._parts[-1].endswith(b"\n"):
            first, rest = self._take(b""), data[1:]
            return [*first, *self._split(rest)]
        return self._split(data)

    def _split(self, data: bytes) -> list[bytes]:
        end = data.find(b"\n\n")
        if end < 0:
            self._keep(data)
            return []
        events = self._take(data[:end])
        whole = data[end + 2 :].split(b"\n\n")
        self._keep(whole.pop())
        events.extend(event for event in (part.lstrip(b"\n") for part in whole) if event)
        return events

    def _take(self, end: bytes) -> list[bytes]:
        if self._skipping:
            self._skipping = False
            self.skipped += 1
            self._parts, self._size = [], 0
            return []
        event = end
        if self._parts:
            self._parts.append(end)
            event = b"".join(self._parts)
            self._parts, self._size = [], 0
        event = event.strip(b"\n")
        return [event] if event else []

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self._size += len(data)
        if self._skipping or self._size > self._limit:
            self._skipping = True
            self._parts = [data[-1:]]
        else:
            self._parts.append(data)

    def _line_feeds(self, data: bytes) -> bytes:
        if self._carriage and data.startswith(b"\n"):
            data = data[1:]
            self._carriage = False
            if not data:
                return b""
        self._carriage = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def fields(event: bytes) -> tuple[bytes, bytes]:
    """Name and data of a raw event; the name is empty where the event has none."""
    name = b""
    data: list[bytes] = []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return name, b"\n".join(data)
