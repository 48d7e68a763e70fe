"""What is left of one budget over its window: past as it was, the rest at the present pace."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ..budgets import WINDOWS, Amounts, amounts, covers, stopped
from ..format import clean, clock
from .budget_table import moment
from .paper import Row, rule

if TYPE_CHECKING:
    from agenttop.core.api import BudgetInfo, UsageRow

HOUR, DAY = 3600.0, 86_400.0
#: Seconds between two times on the axis.
STEPS = (60.0, 300.0, 600.0, 900.0, 1800.0, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, DAY)
#: Cells of the scale on the left, and of the words on the right.
SCALE, WORDS = 8, 26
#: Dots of a braille cell from below, left column and right column.
_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))


class Span(NamedTuple):
    """The time a chart shows."""

    start: float
    end: float


def span(info: BudgetInfo, now: float) -> Span:
    """From the window's beginning (at most a day back) to its end, or to where it would be used up."""
    start = max(info.window_start if info.window_start is not None else now - HOUR, now - DAY)
    start = min(start, now - 60)
    if info.window_end is not None and info.window_end > now:
        return Span(start, info.window_end)
    ahead = info.seconds_left if info.seconds_left is not None else (now - start) / 2
    return Span(start, now + max(60.0, min(ahead * 1.1, (now - start) * 2)))


def spending(rows: Sequence[UsageRow], usd: bool) -> list[tuple[float, float]]:
    """Usage by minute or hour as ``(beginning, USD or tokens)``, the oldest first.

    The keys are local times as the kernel writes them, ``2026-11-21 14:06``; other rows are left out.
    """
    found = []
    for row in rows:
        when = _moment(row.keys[0]) if row.keys else None
        if when is not None:
            spent = (
                (row.cost_usd or 0.0) if usd else row.input + row.cache_read + row.cache_write + row.output
            )
            found.append((when, float(spent)))
    return sorted(found)


def _moment(key: str) -> float | None:
    try:
        return datetime.fromisoformat(key).timestamp()
    except ValueError:
        return None


def left_at(when: float, left: float, spent: Sequence[tuple[float, float]], now: float) -> float:
    """What was left at a moment: what is left now, and what was spent since."""
    total = left
    for number, (begun, amount) in enumerate(spent):
        ended = spent[number + 1][0] if number + 1 < len(spent) else now
        if ended <= when:
            continue
        share = 1.0 if begun >= when or ended <= begun else (ended - when) / (ended - begun)
        total += amount * share
    return total


def chart(
    of: Amounts, spent: Sequence[tuple[float, float]], over: Span, now: float, cells: int, height: int
) -> list[Row]:
    """``height`` rows of ``cells`` characters, the highest first: the past filled, the future a line."""
    columns, levels = cells * 2, height * 4
    past: list[int] = []
    line: list[int | None] = []
    per_second = (of.burn or 0.0) / (HOUR if of.usd else 60)
    for x in range(columns):
        when = over.start + (x + 0.5) * (over.end - over.start) / columns
        if when <= now:
            left = left_at(when, of.left + of.reserved, spent, now) if spent else 0.0
            past.append(max(0, min(levels, round(levels * left / of.limit))) if of.limit else 0)
            line.append(None)
        else:
            ahead = of.left - per_second * (when - now)
            past.append(0)
            line.append(
                max(0, min(levels - 1, int(levels * ahead / of.limit)))
                if of.limit and ahead > 0 and per_second else None
            )  # fmt: skip
    return [_chart_row(past, line, row, cells) for row in range(height - 1, -1, -1)]


def _chart_row(past: Sequence[int], line: Sequence[int | None], row: int, cells: int) -> Row:
    pieces: Row = []
    for cell in range(cells):
        mask, ahead = 0, False
        for side in (0, 1):
            x = cell * 2 + side
            for dot in range(max(0, min(4, past[x] - row * 4))):
                mask |= _DOTS[side][dot]
            place = line[x]
            if place is not None and place // 4 == row:
                mask |= _DOTS[side][place % 4]
                ahead = True
        text, colour = (chr(0x2800 + mask) if mask else " "), "warn" if ahead else "good"
        if pieces and pieces[-1][1] == colour:
            pieces[-1] = (pieces[-1][0] + text, colour)
        else:
            pieces.append((text, colour))
    return pieces


def title(info: BudgetInfo, width: int) -> Row:
    """``─ Burn-down  api: agent api, today ──── limit 8.00 ─``."""
    of = amounts(info)
    about = covers(info) if info.budget.scope != "fleet" else ""
    name = clean(info.budget.name) + (f": {about}" if about and about != clean(info.budget.name) else "")
    when = "the last " + ("hour" if info.budget.window == "hour" else "24 hours")
    text = f"Burn-down  {name}, {when if info.budget.rolling else WINDOWS[info.budget.window]}"
    limit = f"limit {of.say(of.limit)}" + ("" if of.usd else " tokens")
    return rule(text[: max(12, width - len(limit) - 10)], width, limit)


def rows(
    info: BudgetInfo,
    usage: Sequence[UsageRow] | None,
    now: float,
    width: int,
    height: int,
    *,
    ascii: bool = False,
) -> list[Row]:
    """Rule, chart with its scale, time below; words on the right where there is room for them."""
    found = [title(info, width)]
    of, over = amounts(info), span(info, now)
    tall = height - 3
    words = _words(info, of, over, now) if width >= 64 else []
    cells = width - SCALE - 3 - (WORDS if words else 0)
    if tall < 2 or cells < 10:
        return [*found, *_words(info, of, over, now)][:height]
    spent = spending(usage or (), of.usd)
    drawn = chart(of, spent, over, now, cells, tall)
    scale = {0: of.limit, tall // 2: of.limit * (1 - (tall // 2) / tall), tall - 1: 0.0}
    for number, row in enumerate(drawn):
        value = scale.get(number)
        text = "" if value is None else of.say(value, SCALE - 2)
        if number == 0 and of.usd:
            text = f"${text}"
        body: Row = [(_plain(piece), colour) for piece, colour in row] if ascii else row
        beside = words[number] if number < len(words) else []
        found.append([(text.rjust(SCALE - 1) + " ", "muted"), *body, ("  ", ""), *beside])
    corner = "└" if not ascii else "`"
    found.append([(" " * (SCALE - 1), ""), (corner + "─" * cells, "rule")])
    found.append([(" " * SCALE, ""), (_times(over, cells), "muted")])
    if usage is not None and not spent:
        found[1 + tall // 2] = [(" " * SCALE, ""), ("nothing was spent in it yet".ljust(cells), "muted")]
    return found[:height]


def _plain(text: str) -> str:
    return "".join(" " if char == " " else "#" if ord(char) - 0x2800 & 0x44 == 0x44 else "." for char in text)


def _times(over: Span, cells: int) -> str:
    """Times of day below the chart, at round ones."""
    per_cell = (over.end - over.start) / cells
    step = next((step for step in STEPS if step >= 9 * per_cell), STEPS[-1])
    zone = datetime.fromtimestamp(over.start).astimezone().utcoffset()
    shift = zone.total_seconds() if zone is not None else 0.0
    when = -(-(over.start + shift) // step) * step - shift
    line = ""
    while when < over.end:
        place = int((when - over.start) / per_cell)
        if place >= len(line):
            line = line.ljust(place) + clock(when)[:5] + " "
        when += step
    return line[: cells + 5].rstrip()


def _words(info: BudgetInfo, of: Amounts, over: Span, now: float) -> list[Row]:
    """What the chart means: what is left, and when that ends at which pace."""
    found: list[Row] = [[("▽ now ", "muted"), (f"{of.say(of.left)} left", "bright bold")]]
    if of.reserved:
        found.append([(f"  {of.say(of.reserved)} reserved", "warn")])
    found.append([])
    if stopped(info):
        held = f"{info.held} call{'s' if info.held != 1 else ''} held" if info.held else "nothing is left"
        return [*found, [(held, "state-needs-you bold")]]
    per = "h" if of.usd else "min"
    if of.burn and info.seconds_left is not None:
        found.append([(f"at {of.say(of.burn)}/{per} now:", "warn")])
        found.append([(f"empty at {moment(now + info.seconds_left, now)}", "warn bold")])
    else:
        found.append([("not used up at this pace" if of.burn else "nothing is spent now", "muted")])
    since = info.window_start if info.window_start is not None else over.start
    if now - since > 60 and (mean := of.spent / (now - since)) > 0:
        step = mean * (HOUR if of.usd else 60)
        found += [[], [(f"at {of.say(step)}/{per}, the mean", "muted")]]
        found.append([(f"since {clock(since)[:5]}: {_until(of.left / mean, info, now)}", "muted")])
    return found


def _until(seconds: float, info: BudgetInfo, now: float) -> str:
    if info.window_end is not None and now + seconds >= info.window_end:
        return f"not {WINDOWS[info.budget.window]}"
    return moment(now + seconds, now)
