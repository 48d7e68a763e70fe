"""When the windows of budgets begin and end, in a time zone that is part of the budget."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .budget import Budget

_LOCALTIME = "/etc/localtime"


class Rolling(NamedTuple):
    """A window that moves with the clock, kept as sums per slot. Seconds."""

    length: int
    slot: int


ROLLING = {"hour": Rolling(3_600, 60), "day": Rolling(86_400, 900)}


def rolling(budget: Budget) -> Rolling | None:
    """How a rolling window is kept; ``None`` for other windows."""
    return ROLLING[budget.window] if budget.rolling else None


def bounds(budget: Budget, ts: float) -> tuple[float | None, float | None]:
    """Begin and end of the calendar window that ``ts`` lies in; ``(None, None)`` for other windows."""
    if budget.rolling or budget.window not in ("hour", "day"):
        return None, None
    zone = _zone(budget.zone)
    local = datetime.fromtimestamp(ts, zone)
    if budget.window == "hour":
        offset = (local.utcoffset() or timedelta()).total_seconds()
        start = ts - (ts + offset) % 3_600
        return start, start + 3_600
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    # Where a day's midnight was skipped, its first moment is what is meant; never an empty window.
    start = min(midnight.timestamp(), ts)
    return start, max((midnight + timedelta(days=1)).timestamp(), ts + 1)


def _zone(name: str) -> tzinfo:
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        # The journal outlives a machine's zone files: windows then follow UTC, but are kept.
        return UTC


def local_zone() -> str:
    """The machine's own time zone by name, else as a fixed offset; empty is UTC."""
    for name in _candidates():
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, OSError, ValueError):
            continue
        return name
    return ""


def _candidates() -> list[str]:
    named = [os.environ.get("TZ", "").removeprefix(":")]
    if not named[0]:
        _, found, name = os.path.realpath(_LOCALTIME).partition("/zoneinfo/")
        named = [name] if found else []
    offset = datetime.now().astimezone().utcoffset() or timedelta()
    hours = round(offset.total_seconds() / 3_600)
    # POSIX has it the other way round: Etc/GMT-2 is east of Greenwich.
    return [*filter(None, named), f"Etc/GMT{-hours:+d}" if hours else "UTC"]
