"""Names of branches: which can be, and which an agent's own one gets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

#: Before the agent's name in the name of its branch.
PREFIX = "agenttop"

#: Bytes of a whole name, and of one part: git adds ``.lock`` to it, and a file's name has 255.
MOST, MOST_OF_PART = 1000, 250

_NEVER = re.compile(r"[\000-\040\177~^:?*\[\\]|\.\.|@\{|//")


def problem(name: str) -> str:
    """Why git takes no branch of this name; empty if it does. The rules are git-check-ref-format(1)'s."""
    if not name or name in ("@", "HEAD"):
        return "this is no name of a branch"
    if name.startswith(("-", "/")) or name.endswith(("/", ".")):
        return "a branch does not begin with '-' or '/', and does not end with '/' or '.'"
    if _NEVER.search(name):
        return "a branch has no blank, no control character, none of ~ ^ : ? * [ \\, and no '..', '@{', '//'"
    parts = name.split("/")
    if any(part.startswith(".") or part.endswith(".lock") for part in parts):
        return "no part of a branch begins with '.' or ends with '.lock'"
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    if max(sizes) > MOST_OF_PART or sum(sizes) > MOST:
        return "it is too long for a branch"
    return ""


def proposal(agent: str, taken: Collection[str] = ()) -> str:
    """The branch of an agent of this name: ``agenttop/NAME``.

    A name of an agent may have what a branch may not (``a..b``, ``a.lock``, ``a.``): a ``-`` stands for it.
    Where a branch is called ``agenttop`` there can be none below it, and the slash becomes a dash.
    """
    name = re.sub(r"\.\.+", "-", agent)
    name = re.sub(r"\.$", "-", name)
    name = re.sub(r"\.lock$", "-lock", name)
    return f"{PREFIX}-{name}" if PREFIX in taken else f"{PREFIX}/{name}"


def clashes(name: str, taken: Collection[str]) -> bool:
    """Whether there is a branch of this name, or one that makes it impossible (``a`` and ``a/b``)."""
    parts = name.split("/")
    above = {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return any(other in above or other.startswith(name + "/") for other in taken)


def free(agent: str, taken: Collection[str]) -> str:
    """The first of ``agenttop/NAME``, ``agenttop/NAME-2``, … that can be made beside those that are there."""
    return next(name for name in _numbered(proposal(agent, taken)) if not clashes(name, taken))


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1
