"""Usage told wrongly on request: not at all, going down, negative, or beyond belief."""

from __future__ import annotations

import re

from .ask import Event
from .directives import Telling

_FIGURE = re.compile(rb'("(?:\w+_tokens|\w+TokenCount)": ?)(\d+)')
_MEMBER = re.compile(rb'"usage(Metadata)?":(?! ?null)')


def misled(data: bytes, telling: Telling) -> bytes:
    """An event, or a body, that tells its usage so."""
    match telling:
        case "missing":
            return _MEMBER.sub(rb'"unused\1":', data)
        case "falling":
            return _FIGURE.sub(lambda m: m[1] + b"%d" % (int(m[2]) // 2), data)
        case "negative":
            return _FIGURE.sub(rb"\1-\2", data)
        case "absurd":
            return _FIGURE.sub(lambda m: m[1] + b"%d" % (int(m[2]) + 10**15), data)


def misled_events(events: list[Event], telling: Telling) -> list[Event]:
    """The events of a stream that tells its usage so; figures fall in a further event."""
    if telling != "falling":
        return [e if e.announced is None else e._replace(data=misled(e.data, telling)) for e in events]
    last = max((n for n, event in enumerate(events) if event.announced is not None), default=-1)
    if last < 0:
        return events
    lower = events[last]._replace(data=misled(events[last].data, telling))
    return [*events[: last + 1], lower, *events[last + 1 :]]
