"""Names of blocks, namespaces and notes: what may stand in them, and who may use which."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from typing import Literal

from .model import MemoryRefused, Who

Verb = Literal["read", "write"]
Access = Callable[[Who, Verb, str], bool]
"""Whether somebody may read or write a namespace. Runs on the event loop; must be quick."""

_SEGMENT = 64
_DEPTH = 8
_EXTRA = frozenset("._-+@ ")
#: Folders of an export are read on other systems too, where these are devices.
_RESERVED = frozenset(("con", "prn", "aux", "nul"))


def _segment(name: str, what: str) -> str:
    name = unicodedata.normalize("NFC", name)
    why = ""
    if not name:
        why = "It is empty"
    elif len(name) > _SEGMENT or len(name.encode("utf-8", "replace")) > 3 * _SEGMENT:
        why = f"It has more than {_SEGMENT} characters"
    elif name[0] in ". -" or name[-1] in ". ":
        why = "It begins with a dot, a dash or a space, or ends with a dot or a space"
    elif not all(char.isalnum() or char in _EXTRA for char in name):
        why = "It has other characters than letters, digits, spaces and . _ - + @"
    elif name.split(".")[0].lower() in _RESERVED:
        why = "Some systems keep that name for a device"
    if why:
        raise MemoryRefused(f"{name[:80]!r} cannot be {what}", why, "Choose another name")
    return name


def block_name(name: str) -> str:
    """The name of a block.

    Raises:
        MemoryRefused: It is none.
    """
    return _segment(name, "the name of a block")


def note_key(key: str) -> str:
    """The key of a note: segments joined by ``/``, as in ``decisions/2026/store``.

    Raises:
        MemoryRefused: ``..``, an empty segment, a hostile character, too deep.
    """
    segments = key.split("/")
    if len(segments) > _DEPTH:
        raise MemoryRefused(
            f"{key[:80]!r} cannot be a note's key", f"It is deeper than {_DEPTH}", "Shorten it"
        )
    return "/".join(_segment(segment, "part of a note's key") for segment in segments)


def namespace(name: str) -> str:
    """A namespace: ``shared``, ``private/AGENT`` or ``team/NAME``.

    Raises:
        MemoryRefused: It is none of these.
    """
    kind, slash, rest = name.partition("/")
    if name == "shared":
        return name
    if kind not in ("private", "team") or not slash or "/" in rest:
        raise MemoryRefused(
            f"{name[:80]!r} is no namespace",
            "There are shared, private/AGENT and team/NAME",
            "Use one of these",
        )
    return f"{kind}/{_segment(rest, 'part of a namespace')}"


def access_by_teams(teams: Callable[[str], Iterable[str]]) -> Access:
    """The rule where policy says nothing else.

    A person may do everything. An agent reads and writes ``shared``, its own ``private/`` and the
    ``team/`` of each team that ``teams`` names for it.
    """

    def may(who: Who, verb: Verb, name: str) -> bool:
        if who.agent is None or name == "shared":
            return True
        kind, _, rest = name.partition("/")
        return rest == who.agent if kind == "private" else rest in teams(who.agent)

    return may


def tag(kind: str, value: str) -> str:
    """One word of the full-text index that stands for exactly this value, whatever is in it."""
    return kind + value.encode().hex()
