"""One thing that was said in a model call, whatever the protocol, and the key that tells it is known.

Clients send the whole conversation with each call. What is said gets a key that does not depend on where
in the request it stands: its role, its text, and how many equal ones came before it. A conversation that
grows adds what is new; one that is compacted, cut at the head, or reordered adds nothing for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

import orjson

SpokenRole = Literal["user", "assistant", "system", "tool"]

MOST_CHARS = 64 << 10
"""Of one thing that was said; the rest is left out, and the text says so."""

_REMINDER = "<system-reminder>"
"""Claude Code puts what it tells the model by itself into the person's message, in this."""


class Spoken(NamedTuple):
    """Something said by or to a model. ``text`` is hostile, and as long as it came."""

    role: SpokenRole
    text: str


class Keyed(NamedTuple):
    """The same with its key, and cut to what is kept."""

    spoken: Spoken
    key: str


def keyed(
    spoken: Iterable[Spoken],
    conversation: str,
    seen: dict[tuple[str, str], int] | None = None,
    new: Callable[[int], bool] = lambda mark: True,
) -> list[Keyed]:
    """Each thing with its key; blank ones are left out.

    Args:
        conversation: Keys of two conversations differ, but for what the system says: that comes in all.
        seen: How often each thing came before; added to. An answer goes on counting from its request.
        new: Asked with a hash that is as good as the key in this process, and cheaper; what is not new is
            left out.
    """
    counts: dict[tuple[str, str], int] = {} if seen is None else seen
    found = []
    for role, text in spoken:
        text = text.strip()
        if not text:
            continue
        bare = role, text
        number = counts.get(bare, 0)
        counts[bare] = number + 1
        system = role == "system"
        if system and number:
            continue
        scope = "" if system else conversation
        # Most of a request was said before: that is told without a digest.
        if not new(hash((scope, role, number, text))):
            continue
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
        found.append(Keyed(Spoken(role, cut(text)), f"said:{scope}:{role}:{number}:{digest}"))
    return found


def cut(text: str, most: int = MOST_CHARS) -> str:
    """A text within bounds; one that was longer says so at its end."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[{len(text) - most} more characters were not kept]"


def by_user(text: str) -> Spoken:
    """A text in a message of the user's: the person's, or what their client adds to it."""
    return Spoken("system" if text.lstrip().startswith(_REMINDER) else "user", text)


def called(name: object, arguments: object) -> Spoken:
    """A tool call: its name, and its arguments as JSON in one form, however they were written."""
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments or "{}")
        except orjson.JSONDecodeError:  # no JSON, or cut: as it is
            return Spoken("assistant", f"{_name(name)} {arguments}".strip())
    return Spoken("assistant", f"{_name(name)} {plain(arguments)}")


def plain(value: object) -> str:
    """Any JSON value as text: a text as it is, everything else as JSON with its keys in order."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except (TypeError, ValueError):  # nested too deep, or a number no JSON has
        return ""


def _name(name: object) -> str:
    return name[:200] if isinstance(name, str) else "tool"


def texts(parts: object, *kinds: str) -> Iterator[str]:
    """The texts of a list of parts (or of a text) in it; pictures and files are named, not kept."""
    if isinstance(parts, str):
        yield parts
        return
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            text = _text(part)
            if text is not None and (not kinds or part.get("type") in kinds):
                yield text
            elif text is None and isinstance(kind := part.get("type"), str) and _shown(kind):
                yield f"[{kind[:40]}]"


def _text(part: dict[str, Any]) -> str | None:
    text = part.get("text")
    return text if isinstance(text, str) else None


def _shown(kind: str) -> bool:
    return any(word in kind for word in ("image", "file", "document", "audio"))


def unescaped(fragments: Iterable[bytes]) -> str:
    """The text of pieces of one JSON string, as they were written between its quotes."""
    written = b"".join(fragments)
    try:
        text = orjson.loads(b'"' + written + b'"')
    except orjson.JSONDecodeError:
        return written.decode("utf-8", "replace")
    return text if isinstance(text, str) else ""
