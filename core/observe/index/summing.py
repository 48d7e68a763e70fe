"""From the sums of the scan index to the sums somebody asked for: by day, project, model, agent, session.

Days are those of a time zone. The index sums by quarters of an hour, and no zone's offset is finer than
that, so a day that has 23 or 25 hours gets the calls of those.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ...errors import UsageError
from .scan_index import QUARTER, Sum

_SECONDS = QUARTER // 1000
#: Stands for a time that no calendar has.
NO_DAY = "-"


class Group(NamedTuple):
    """Calls under one combination of keys, of one CLI, one model and one band of sizes."""

    keys: list[str]
    kind: str
    """The CLI, as its observer is named."""
    model: str
    band: int
    """See ``calls.band``: prices may depend on it."""
    calls: int
    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    reasoning: int


class Wish(NamedTuple):
    """What is to be summed, and how.

    Attributes:
        by: ``day week month project model agent session``, in any order.
        agents: CLIs to count; empty: all.
        projects: Folders to count with all below them, or the last parts of their paths; empty: all.
        since: Seconds since the epoch; like ``until`` rounded down to a quarter of an hour.
        until: The same, not included.
        timezone: IANA name; ``None``: the machine's.
    """

    by: Sequence[str] = ("day",)
    agents: Sequence[str] = ()
    projects: Sequence[str] = ()
    since: float | None = None
    until: float | None = None
    timezone: str | None = None


def zone(name: str | None) -> tzinfo | None:
    """A time zone by its IANA name; ``None`` is the machine's.

    Raises:
        UsageError: It is not known here.
    """
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"the time zone {name} is not known here",
            "",
            "Take an IANA name such as Europe/Berlin; they are in the package tzdata",
        ) from error


def groups(
    sums: Iterable[Sum],
    kinds: Mapping[int, str],
    facts: Mapping[int, Mapping[str, Any]],
    paths: Mapping[int, str],
    wish: Wish,
) -> list[Group]:
    """The sums that are wished for, in no order.

    Args:
        kinds: The CLI of each file, by number.
        facts: What its reader learned of it.
        paths: Where it lies.
    """
    files = _Files(kinds, facts, paths, wish)
    moments = _Moments(wish)
    makers = [_maker(key, files, moments) for key in wish.by]
    cells: dict[tuple[Any, ...], list[int]] = {}
    for row in sums:
        if not (files.wanted(row.file) and moments.wanted(row.quarter)):
            continue
        key = (*[make(row) for make in makers], kinds[row.file], row.model, row.band)
        if (cell := cells.get(key)) is None:
            cells[key] = [*row[4:]]
        else:
            for place, count in enumerate(row[4:]):
                cell[place] += count
    return [Group([*key[:-3]], *key[-3:], *cell) for key, cell in cells.items()]


def _maker(key: str, files: _Files, moments: _Moments) -> Callable[[Sum], str]:
    match key:
        case "day" | "week" | "month":
            return lambda row: moments.shown(key, row.quarter)
        case "model":
            return lambda row: row.model
        case "agent":
            return lambda row: files.kinds[row.file]
        case "project":
            return lambda row: files.project(row.file)
        case "session":
            return lambda row: files.session(row.file)
        case _:
            raise UsageError(f"{key} is no key of history")


class _Moments:
    """Quarters of an hour as people call them."""

    def __init__(self, wish: Wish) -> None:
        self._zone = zone(wish.timezone)
        self._first = None if wish.since is None else int(wish.since // _SECONDS)
        self._end = None if wish.until is None else int(wish.until // _SECONDS)
        self._shown: dict[tuple[str, int], str] = {}

    def wanted(self, quarter: int) -> bool:
        return (self._first is None or quarter >= self._first) and (self._end is None or quarter < self._end)

    def shown(self, key: str, quarter: int) -> str:
        """``2026-11-21``; of a week its Monday; ``2026-11``."""
        if (shown := self._shown.get((key, quarter))) is None:
            shown = self._shown[key, quarter] = self._called(key, quarter)
        return shown

    def _called(self, key: str, quarter: int) -> str:
        try:
            day = datetime.fromtimestamp(quarter * _SECONDS, self._zone)
            if key == "week":
                day -= timedelta(days=day.weekday())
            return day.strftime("%Y-%m" if key == "month" else "%Y-%m-%d")
        except (ValueError, OverflowError, OSError):  # a transcript may say anything
            return NO_DAY


class _Files:
    """Whose a file's calls are."""

    def __init__(
        self,
        kinds: Mapping[int, str],
        facts: Mapping[int, Mapping[str, Any]],
        paths: Mapping[int, str],
        wish: Wish,
    ) -> None:
        self.kinds = kinds
        self._facts = facts
        self._paths = paths
        self._agents = frozenset(wish.agents)
        self._folders = [os.path.normpath(one) for one in wish.projects if one.startswith("/")]
        self._names = {one for one in wish.projects if not one.startswith("/")}
        self._wanted: dict[int, bool] = {}

    def wanted(self, file: int) -> bool:
        if (known := self._wanted.get(file)) is None:
            known = self._wanted[file] = self._fits(file)
        return known

    def _fits(self, file: int) -> bool:
        if self._agents and self.kinds[file] not in self._agents:
            return False
        if not (self._folders or self._names):
            return True
        project = self.project(file)
        if os.path.basename(project) in self._names:
            return True
        return any(project == one or project.startswith(one.rstrip("/") + "/") for one in self._folders)

    def project(self, file: int) -> str:
        """The folder it worked in; empty where that is not known."""
        return str(self._facts[file].get("cwd") or "")

    def session(self, file: int) -> str:
        """The CLI's id of the conversation; where it tells none, the name of the file."""
        told = self._facts[file].get("session")
        return str(told or os.path.splitext(os.path.basename(self._paths[file]))[0])
