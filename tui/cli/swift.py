"""Commands that agents run again and again, read without typer, which would be half of their time.

Only plain words are read here. Everything else (help, several values, what is wrong) is typer's; a test
holds both to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

Option = tuple[str, "type[bool | int | float | str]"]


class Swift(NamedTuple):
    """How one command's words are read."""

    module: str
    function: str
    words: tuple[str, ...]
    """Parameters without a flag, in order; the last one takes all that follow if ``...`` stands behind it."""
    needed: int
    """How many of them there must be."""
    options: Mapping[str, Option]
    """Flag → parameter and type; a ``bool`` has no value."""


_JSON: dict[str, Option] = {"--json": ("as_json", bool)}
_CONTENT: dict[str, Option] = {
    **_JSON, "--payload": ("payload", str), "-p": ("payload", str),
    "--type": ("type", str), "-t": ("type", str),
}  # fmt: skip
_KEY: dict[str, Option] = {"--key": ("key", str)}
_DRAFT: dict[str, Option] = {
    **_CONTENT, **_KEY, "--priority": ("priority", int), "--expires": ("expires", float),
}  # fmt: skip
_WAIT: dict[str, Option] = {"--wait": ("wait", float), "-w": ("wait", float)}
_AGENT: dict[str, Option] = {"--agent": ("agent", str)}
_SPACE: dict[str, Option] = {
    "--shared": ("shared", bool), "--team": ("team", bool), "--namespace": ("namespace", str),
    "-N": ("namespace", str),
}  # fmt: skip

COMMANDS: dict[tuple[str, ...], Swift] = {
    ("send",): Swift("mailing", "send", ("to", "text"), 1, {**_DRAFT, **_WAIT}),
    ("ask",): Swift(
        "mailing", "ask", ("to", "text"), 1,
        {**_CONTENT, "--timeout": ("timeout", float), "--quiet": ("quiet", bool), "-q": ("quiet", bool)},
    ),
    ("reply",): Swift("mailing", "reply", ("request", "text"), 1, {**_CONTENT, **_KEY}),
    ("publish",): Swift("mailing", "publish", ("topic", "text"), 1, _DRAFT),
    ("inbox",): Swift(
        "mailing", "inbox", (), 0,
        {**_JSON, **_WAIT, "--limit": ("limit", int), "-n": ("limit", int), "--keep": ("keep", bool),
         "--peek": ("peek", str)},
    ),
    ("ack",): Swift("mailing", "ack", ("ids...",), 1, _JSON),
    ("subscribe",): Swift("mailing", "subscribe", ("patterns...",), 1, _JSON),
    ("whoami",): Swift("selfhood", "whoami", (), 0, _JSON),
    ("agents",): Swift("selfhood", "agents", (), 0, {**_JSON, "--all": ("all", bool), "-a": ("all", bool)}),
    ("progress",): Swift(
        "selfhood", "progress", ("text",), 0, {"--percent": ("percent", float), "-p": ("percent", float)}
    ),
    ("mem", "put"): Swift("remembering", "put", ("key", "text"), 2, {**_JSON, **_SPACE}),
    ("mem", "get"): Swift("remembering", "get", ("key",), 1, {**_JSON, **_SPACE}),
    ("mem", "blocks"): Swift("working", "blocks", ("names...",), 0, {**_JSON, **_AGENT}),
    ("mem", "write"): Swift(
        "working", "write", ("name", "text"), 2,
        {**_JSON, **_AGENT, "--append": ("append", bool), "-a": ("append", bool),
         "--expected": ("expected", int)},
    ),
    ("mem", "search"): Swift(
        "remembering", "search", ("query",), 1,
        {**_JSON, **_AGENT, "--limit": ("limit", int), "-n": ("limit", int)},
    ),
}  # fmt: skip


def read(arguments: Sequence[str]) -> Callable[[], None] | None:
    """What to do for these words; ``None``: typer has to say."""
    for length in (1, 2):
        swift = COMMANDS.get(tuple(arguments[:length]))
        if swift is not None:
            fields = parse(swift, arguments[length:])
            if fields is None:
                return None
            module = import_module(f".{swift.module}", __package__)
            return partial(getattr(module, swift.function), **fields)
    return None


def parse(swift: Swift, words: Sequence[str]) -> dict[str, Any] | None:
    """The parameters that ``words`` give; ``None`` where they are not plain."""
    fields: dict[str, Any] = {}
    plain: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-") or word == "-":
            plain.append(word)
            continue
        name, kind = swift.options.get(word, ("", str))
        if not name or name in fields:
            return None
        if kind is bool:
            fields[name] = True
            continue
        value = _value(kind, left)
        if value is None:
            return None
        fields[name] = value
    most = len(swift.words)
    if swift.words and swift.words[-1].endswith("..."):
        several = swift.words[-1].removesuffix("...")
        if plain[most - 1 :]:
            fields[several] = plain[most - 1 :]
        elif len(plain) < swift.needed:
            return None
        fields.update(zip(swift.words[:-1], plain, strict=False))
        return fields
    if not swift.needed <= len(plain) <= most:
        return None
    fields.update(zip(swift.words, plain, strict=False))
    return fields


def _value(kind: type, left: list[str]) -> Any:
    if not left or (left[0].startswith("-") and left[0] != "-"):
        return None
    try:
        return kind(left.pop(0))
    except ValueError:
        return None
