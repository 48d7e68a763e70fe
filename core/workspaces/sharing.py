"""Which agents work in one folder, where one can spoil what the other does. Blocking."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from .head import top

#: Seconds for which a folder is taken to lie where it lay.
REMEMBERED = 30.0


class Place(NamedTuple):
    """An agent at work. ``folder`` is absolute."""

    id: str
    name: str
    folder: str


class Spot(NamedTuple):
    """Where a folder really lies: without links, and in which working tree."""

    real: str
    top: str | None


def spot(folder: str) -> Spot:
    """Where a folder lies, as it was at most ``REMEMBERED`` seconds ago."""
    return _spot(folder, int(time.monotonic() / REMEMBERED))


@lru_cache(maxsize=8192)
def _spot(folder: str, when: int) -> Spot:
    real = os.path.realpath(folder)
    return Spot(real, top(real))


def shares(one: Spot, other: Spot) -> bool:
    """Whether two agents work on the same files.

    They do in one folder. In a folder and one below it they do if both are parts of the same working tree,
    or of none; then neither the root nor the home folder counts, which everything is below.
    """
    if one.real == other.real:
        return True
    if one.top != other.top:
        return False
    above, below = sorted((one.real, other.real), key=len)
    if above in ("/", os.path.expanduser("~")) and one.top is None:
        return False
    return below.startswith(above.rstrip("/") + "/")


def sharers(folder: str, places: Iterable[Place], but: str = "") -> list[Place]:
    """Those of ``places`` (without the agent ``but``) that work on the same files as ``folder``."""
    here = spot(folder)
    return [place for place in places if place.id != but and shares(here, spot(place.folder))]


def groups(places: Iterable[Place]) -> dict[str, list[Place]]:
    """The agents in git working trees by the files they work on, under the topmost folder of each group.

    Outside of one nobody is told of others: a worktree would be no way out, and people start several
    harmless programs in their home.
    """
    spots = [(place, spot(place.folder)) for place in places]
    taken = {where.real for _, where in spots if where.top is not None}
    found: dict[str, list[Place]] = {}
    for place, where in spots:
        if where.top is not None:
            found.setdefault(_topmost(where.real, where.top, taken), []).append(place)
    return found


def _topmost(folder: str, top: str, taken: set[str]) -> str:
    """The folder nearest to ``top``, on the way from ``folder`` up to it, that somebody works in."""
    found = folder
    while folder != top and len(folder) > len(top):
        folder = os.path.dirname(folder)
        if folder in taken:
            found = folder
    return found
