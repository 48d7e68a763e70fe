"""The table of budgets: which columns there are at a width, and a row for each budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len

from ..budgets import Amounts, Line, amounts, covers, lasts, stopped, window
from ..format import UNKNOWN, clean, clock, cut_middle, fit, level
from .paper import Piece, Row
from .sheet import under_cursor

if TYPE_CHECKING:
    from agenttop.core.api import BudgetInfo

#: Fewer cells than this are no gauge.
GAUGE = 6
ACTIONS = {"ask": "ask", "deny": "deny", "freeze": "frz", "kill": "kill"}
_TREE = {"├": "├─", "└": "└─", "│": "│ ", " ": "  "}


class Shown(NamedTuple):
    """What a row is made from."""

    info: BudgetInfo
    amounts: Amounts
    now: float
    names: Mapping[str, str]
    """Names of agents by id."""
    at_least: str
    """The sign before a sum with unpriced parts."""


class BudgetColumn(NamedTuple):
    """A column: from which width on it is there, its cells, and what stands in it."""

    title: str
    start: int
    cells: int
    piece: Callable[[Shown], Piece]
    left: bool = False


def _sign(shown: Shown) -> str:
    if shown.amounts.usd and shown.info.unpriced:
        return shown.at_least
    return "" if shown.info.exact else "~"


def _spent(shown: Shown) -> Piece:
    text = shown.amounts.say(shown.amounts.spent, 7)
    return (_sign(shown) + text, "fg" if shown.info.exact else "num-estimated")


def _reserved(shown: Shown) -> Piece:
    held = shown.amounts.reserved
    return (shown.amounts.say(held, 6), "warn") if held else (UNKNOWN, "muted")


def _left(shown: Shown) -> Piece:
    left = shown.amounts.left
    return (shown.amounts.say(left), "bad bold" if left <= 0 or shown.info.held else "fg")


def _used(shown: Shown) -> Piece:
    used = shown.amounts.used
    colour = level(used)
    return (f"{used}%", "fg" if colour == "good" else f"{colour} bold")


def _pace(shown: Shown) -> Piece:
    pace = shown.amounts.pace()
    return (pace, "muted" if pace == UNKNOWN else "fg")


def _lasts(shown: Shown) -> Piece:
    text = lasts(shown.info)
    return (text, "state-needs-you bold" if text == "now" else "muted" if text == UNKNOWN else "fg")


def _stops(shown: Shown) -> Piece:
    if stopped(shown.info):
        return ("now", "state-needs-you bold")
    seconds = shown.info.seconds_left
    return (moment(shown.now + seconds, shown.now), "muted") if seconds is not None else (UNKNOWN, "muted")


def _ends(shown: Shown) -> Piece:
    end = shown.info.window_end
    return (UNKNOWN if end is None else moment(end, shown.now), "muted")


def _held(shown: Shown) -> Piece:
    return (str(shown.info.held), "state-needs-you bold") if shown.info.held else (UNKNOWN, "muted")


def _next(shown: Shown) -> Piece:
    key = shown.info.next_agent
    return (clean(shown.names.get(key, key)), "fg") if key else (UNKNOWN, "muted")


def _then(shown: Shown) -> Piece:
    action = shown.info.budget.action
    return (ACTIONS.get(action, action), "bad" if action == "kill" else "muted")


def moment(when: float, now: float) -> str:
    """``15:45``; a day or more away in days: ``+3d``."""
    away = when - now
    if not math.isfinite(away):  # at a rate that is next to nothing
        return UNKNOWN
    return clock(when)[:5] if away < 86_400 else f"+{int(away // 86_400)}d"


BEFORE: tuple[BudgetColumn, ...] = (
    BudgetColumn("COVERS", 130, 18, lambda shown: (covers(shown.info), "muted"), left=True),
    BudgetColumn("PER", 46, 6, lambda shown: (window(shown.info), "muted"), left=True),
    BudgetColumn("SPENT", 0, 8, _spent),
    BudgetColumn("RSVD", 104, 7, _reserved),
    BudgetColumn("LEFT", 52, 8, _left),
    BudgetColumn("LIMIT", 60, 8, lambda shown: (shown.amounts.say(shown.amounts.limit), "fg")),
)
AFTER: tuple[BudgetColumn, ...] = (
    BudgetColumn("USED%", 36, 6, _used),
    BudgetColumn("$/h", 90, 7, _pace),
    BudgetColumn("LASTS", 66, 7, _lasts),
    BudgetColumn("STOPS", 100, 7, _stops),
    BudgetColumn("ENDS", 116, 7, _ends),
    BudgetColumn("HELD", 76, 5, _held),
    BudgetColumn("NEXT", 150, 14, _next, left=True),
    BudgetColumn("THEN", 72, 6, _then),
)


def _name_cells(width: int) -> int:
    return 30 if width >= 160 else 24 if width >= 100 else 19 if width >= 80 else max(10, min(18, width // 3))


def _there(columns: Sequence[BudgetColumn], width: int) -> list[BudgetColumn]:
    return [column for column in columns if width >= column.start]


def _gauge_cells(width: int) -> int:
    taken = 2 + _name_cells(width) + sum(column.cells for column in _there((*BEFORE, *AFTER), width))
    free = width - taken - 2
    return free if free >= GAUGE else 0


def _place(column: BudgetColumn, piece: Piece) -> Piece:
    text, colour = piece
    room = column.cells - column.left
    text = fit(text, room) if cell_len(text) > room else text
    return ((f" {text}".ljust(column.cells) if column.left else text.rjust(column.cells)), colour)


def heading(width: int) -> Row:
    """The heading row, as long as the pane is wide."""
    head = "head-fg/head-bg"
    before = "".join(_place(column, (column.title, ""))[0] for column in _there(BEFORE, width))
    after = "".join(_place(column, (column.title, ""))[0] for column in _there(AFTER, width))
    gauge = _gauge_cells(width)
    text = " " + "BUDGET".ljust(_name_cells(width)) + before + " " * (gauge + 2 if gauge else 0) + after
    return [(text.ljust(width), head)]


def rows(
    lines: Sequence[Line],
    now: float,
    names: Mapping[str, str],
    width: int,
    chosen: str | None,
    *,
    at_least: str = "≥",
) -> list[Row]:
    """One row a budget; the one called ``chosen`` under the cursor's bar."""
    found = []
    for line in lines:
        row = _row(line, Shown(line.info, amounts(line.info), now, names, at_least), width)
        found.append(under_cursor(row, width) if line.info.budget.name == chosen else row)
    return found


def _row(line: Line, shown: Shown, width: int) -> Row:
    gauge = _gauge_cells(width)
    row: Row = [(" ", ""), *_name(line, _name_cells(width))]
    row += [_place(column, column.piece(shown)) for column in _there(BEFORE, width)]
    if gauge:
        row += [("  ", ""), *bar(shown.amounts, gauge)]
    return [*row, *(_place(column, column.piece(shown)) for column in _there(AFTER, width))]


def _name(line: Line, cells: int) -> Row:
    tree = "".join(_TREE[mark] for mark in line.tree)
    room = max(4, cells - len(tree))
    name = clean(line.info.budget.name)
    text = cut_middle(name, room)
    if stopped(line.info):
        colour = "state-needs-you bold"
    else:
        colour = {"fleet": "bright bold", "agent": "fg"}.get(line.info.budget.scope, "link")
    return [(tree[: cells - 4], "rule"), (text + " " * (room - cell_len(text)), colour)]


def bar(of: Amounts, cells: int) -> Row:
    """Spent solid in the colour of how much that is, reserved dashed, the rest a thin line.

    It is full only when nothing is left.
    """
    if of.limit <= 0:
        return [("─" * cells, "rule")]
    room = cells if of.left <= 0 else cells - 1
    spent = min(room, max(1 if of.spent > 0 else 0, round(cells * of.spent / of.limit)))
    both = round(cells * (of.spent + of.reserved) / of.limit)
    held = max(0, min(room - spent, max(1 if of.reserved > 0 else 0, both - spent)))
    parts: Row = [("━" * spent, level(of.used)), ("╍" * held, "warn"), ("─" * (cells - spent - held), "rule")]
    return [piece for piece in parts if piece[0]]
