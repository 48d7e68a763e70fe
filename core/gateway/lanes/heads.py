"""What the heads of providers' answers tell of their limits.

Nothing here trusts a header: what cannot be read is as if it were not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Literal, NamedTuple

Head = Mapping[bytes, bytes]
What = Literal["requests", "tokens", "input_tokens", "output_tokens"]

LONGEST = 8 * 86_400.0
"""Seconds: no reset is believed beyond this; the longest windows that providers have are a week."""

_NUMBER = re.compile(rb"\d{1,15}(?:\.\d{1,9})?")
_DURATION = re.compile(rb"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?"
                       rb"(?:(\d{1,9}(?:\.\d{1,9})?)ms)?")  # fmt: skip
_EPOCH = 1_000_000_000
"""A reset that is greater is a moment, not a length of time."""


def _names() -> list[tuple[What, bytes, bytes, bytes]]:
    """Per limit the names of its three headers: the most, what is left, when it is all there again."""
    anthropic: tuple[What, ...] = ("requests", "tokens", "input_tokens", "output_tokens")
    openai: tuple[What, ...] = ("requests", "tokens")
    names: list[tuple[What, bytes, bytes, bytes]] = []
    for what in anthropic:
        stem = b"anthropic-ratelimit-" + what.replace("_", "-").encode()
        names.append((what, stem + b"-limit", stem + b"-remaining", stem + b"-reset"))
    for what in openai:
        word = what.encode()
        stem = b"x-ratelimit-"
        names.append((what, stem + b"limit-" + word, stem + b"remaining-" + word, stem + b"reset-" + word))
    return names


_NAMES = _names()
#: One of these is there whenever any limit is.
_SIGNS = (b"anthropic-ratelimit-requests-limit", b"anthropic-ratelimit-tokens-limit",
          b"anthropic-ratelimit-input-tokens-limit", b"x-ratelimit-limit-requests",
          b"x-ratelimit-limit-tokens")  # fmt: skip
_UNIFIED = b"anthropic-ratelimit-unified-"


class Told(NamedTuple):
    """One limit: the most, what is left, and in how many seconds it is all there again."""

    what: What
    limit: float
    left: float
    reset: float | None


def limits(head: Head, wall: float) -> list[Told]:
    """The limits a head tells; usually none, which costs a few look-ups.

    Args:
        head: Headers by lower-case name.
        wall: Now, seconds since the epoch.
    """
    for sign in _SIGNS:
        if sign in head:
            break
    else:
        return []
    found = []
    for what, most, rest, reset in _NAMES:
        limit, left = number(head.get(most)), number(head.get(rest))
        if limit is not None and left is not None and limit > 0:
            found.append(Told(what, limit, min(left, limit), seconds(head.get(reset), head, wall)))
    return found


def retry_after(head: Head, wall: float) -> float | None:
    """Seconds until a call that was turned away may come again, if the head tells.

    The provider's own word first (``retry-after-ms``, ``retry-after`` in seconds or as a date), but not
    before a used-up window that it names is there again.
    """
    told = number(head.get(b"retry-after-ms"))
    wait = min(told / 1000.0, LONGEST) if told is not None else seconds(head.get(b"retry-after"), head, wall)
    if head.get(_UNIFIED + b"status") == b"rejected":
        window = seconds(head.get(_UNIFIED + b"reset"), head, wall)
        return max(wait or 0.0, window) if window is not None else wait
    if wait is not None:
        return wait
    gone = [told.reset for told in limits(head, wall) if told.left < 1 and told.reset is not None]
    return max(gone, default=None)


def used_up(head: Head, wall: float) -> bool:
    """Whether the head names a limit of which nothing is left."""
    return any(told.left < 1 for told in limits(head, wall))


def account_wide(head: Head) -> bool:
    """Whether it is the whole account, not a model, that has used up its window."""
    return head.get(_UNIFIED + b"status") == b"rejected"


def number(value: bytes | None) -> float | None:
    """A plain number that is not negative."""
    if value is None:
        return None
    value = value.strip()
    if len(value) <= 15 and value.isdigit():
        return float(value)
    return float(value) if _NUMBER.fullmatch(value) else None


def seconds(value: bytes | None, head: Head, wall: float) -> float | None:
    """A length of time in any of the forms providers use: ``5``, ``1.5s``, ``6m0s``, a date, an epoch."""
    if value is None or len(value) > 64:
        return None
    value = value.strip()
    plain = number(value)
    if plain is not None:
        length = plain - wall if plain > _EPOCH else plain
    elif value and (match := _DURATION.fullmatch(value)):
        days, hours, minutes, secs, millis = (float(part or 0) for part in match.groups())
        length = days * 86_400 + hours * 3600 + minutes * 60 + secs + millis / 1000
    else:
        moment = _date(value)
        if moment is None:
            return None
        # By the provider's own clock, where it tells it: ours may be wrong.
        sent = _date(head.get(b"date", b"")[:64].strip())
        length = moment - (sent if sent is not None else wall)
    return min(max(0.0, length), LONGEST)


@lru_cache(maxsize=256)
def _date(value: bytes) -> float | None:
    text = value.decode("latin-1")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            found = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    try:
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError, OSError):
        return None
