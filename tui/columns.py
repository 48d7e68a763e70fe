"""The columns of the fleet table: which exist, from which width they are shown, how wide they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .format import percent

if TYPE_CHECKING:
    from agenttop.core.api import Row


class Column(NamedTuple):
    """One column. ``start`` is the terminal width from which it is shown if nothing was chosen."""

    id: str
    title: str
    start: int
    cells: int
    wide: int
    """Cells at 200 and more."""
    right: bool
    text: str
    """What it shows, for F2 setup and help."""
    sort: Callable[[Row], Any] | None = None
    """The sort value; ``None`` sorts last whatever the direction."""
    largest: bool = True
    """Whether the largest comes first when this column is chosen."""


def _cache(row: Row) -> int:
    return row.cache_read + row.cache_write


def _context(row: Row) -> int | None:
    return percent(row.context, row.context_limit)


#: On screen in this order; TASK takes what is left.
COLUMNS: tuple[Column, ...] = (
    Column("id", "ID", 57, 4, 4, False, "short id", lambda r: r.id, False),
    Column("name", "NAME", 1, 16, 18, False, "name, with tree lines", lambda r: r.name.lower(), False),
    Column("state", "S", 2, 1, 1, False, "state letter", lambda r: (r.pause or "", r.state), False),
    Column("why", "WHY", 3, 10, 14, False, "tool, reason or exit, and its age", lambda r: -r.since, False),
    Column("nice", "NI", 129, 3, 3, True, "nice: -20 first … 19 last", lambda r: r.nice, False),
    Column("backend", "BACKEND", 172, 10, 10, False, "where it runs", lambda r: r.backend, False),
    Column("model", "MODEL", 97, 11, 14, False, "model, without vendor and date", lambda r: r.model, False),
    Column("context", "CTX%", 47, 4, 4, True, "context in use", _context),
    Column("rate", "TOK/m", 36, 5, 5, True, "tokens in the last minute, all buckets", lambda r: r.rate),
    Column("spark", "LAST 20m", 155, 10, 10, False, "tokens a minute, one scale per agent",
           lambda r: sum(r.spark)),
    Column("input", "IN", 120, 4, 4, True, "fresh input tokens in the window", lambda r: r.input),
    Column("cache", "CACHE", 120, 5, 5, True, "cache tokens, read and written", _cache),
    Column("cache_read", "C-RD", 161, 5, 5, True, "tokens read from the cache", lambda r: r.cache_read),
    Column("cache_write", "C-WR", 161, 5, 5, True, "tokens written to the cache", lambda r: r.cache_write),
    Column("output", "OUT", 120, 4, 4, True, "output tokens in the window", lambda r: r.output),
    Column("cost", "$", 42, 5, 6, True, "USD in the window", lambda r: r.cost),
    Column("budget", "BUD%", 52, 4, 4, True, "use of the tightest budget", lambda r: r.budget),
    Column("mailbox", "MBOX", 85, 4, 4, True, "unacknowledged mail; ! dead letters", lambda r: r.unread),
    Column("tiers", "WRK/REC/ARC", 186, 13, 13, True, "memory: tokens / messages / entries",
           lambda r: r.tiers[0] if r.tiers else None),
    Column("cpu", "CPU%", 125, 5, 5, True, "CPU of the tree, of one core", lambda r: r.cpu),
    Column("memory", "MEM", 144, 5, 5, True, "memory of the tree", lambda r: r.memory),
    Column("time", "TIME+", 138, 8, 8, True, "how long the run lasts",
           lambda r: -r.started if r.started else None),
    Column("pids", "PIDS", 191, 4, 4, True, "processes of the tree", lambda r: r.pids),
    Column("task", "TASK", 66, 8, 22, False, "what it was told, or where it runs",
           lambda r: r.task.lower(), False),
)  # fmt: skip

BY_ID: dict[str, Column] = {column.id: column for column in COLUMNS}
WIDE = 200


class Place(NamedTuple):
    """A column with its place on the line."""

    column: Column
    x: int
    cells: int


def _cells(column: Column, width: int) -> int:
    return column.wide if width >= WIDE and column.id != "task" else column.cells


def _automatic(width: int) -> list[Column]:
    shown = [column for column in COLUMNS if column.start <= width]
    if any(column.id == "cache_read" for column in shown):
        shown = [column for column in shown if column.id != "cache"]
    return shown


def _needed(columns: Sequence[Column], width: int) -> int:
    return 1 + sum(_cells(column, width) + 1 for column in columns) - 1


def layout(width: int, chosen: Sequence[str] = ()) -> tuple[Place, ...]:
    """The columns of a line of ``width`` cells; column 0 is left for the tag.

    ``chosen`` (ids, in order) is a person's own choice. What does not fit is dropped, the column
    that needs the widest screen first; NAME, S and WHY stay to the last.
    """
    columns = [BY_ID[name] for name in chosen if name in BY_ID] or _automatic(width)
    while len(columns) > 1 and _needed(columns, width) > width:
        columns.remove(max(columns, key=lambda column: (column.start, column.cells)))
    rest = width - _needed(columns, width)
    last = columns[-1].id
    places: list[Place] = []
    x = 1
    for column in columns:
        cells = _cells(column, width)
        if column.id == "task" or (
            "task" not in {c.id for c in columns} and column.id == last and not column.right
        ):
            cells += max(0, rest)
        cells = max(1, min(cells, width - x))
        places.append(Place(column, x, cells))
        x += cells + 1
    return tuple(places)


def dropped(places: Sequence[Place]) -> list[Column]:
    """The columns that are not on the line, for the inspector."""
    there = {place.column.id for place in places}
    return [column for column in COLUMNS if column.id not in there]
