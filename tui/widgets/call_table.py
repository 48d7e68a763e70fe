"""Model calls of one agent: a graph of tokens over time, and a table in the colours of the buckets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..format import clean, clock, model, tokens
from .paper import Row, column, ends

if TYPE_CHECKING:
    from agenttop.core.api import CallInfo

_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
_PLAIN_LEVELS = " .:|#"


def graph(values: Sequence[float], cells: int, height: int, *, ascii: bool = False) -> list[str]:
    """``values`` as bars over the whole width, ``height`` rows of ``cells`` characters, the highest first.

    Two columns of four dots a cell (braille); a value above zero shows at least one dot.
    """
    peak = max(values, default=0)
    if peak <= 0 or cells <= 0:
        return [" " * max(0, cells)] * height
    dots = [values[min(len(values) - 1, x * len(values) // (cells * 2))] for x in range(cells * 2)]
    heights = [0 if value <= 0 else max(1, round(value / peak * height * 4)) for value in dots]
    rows = []
    for row in range(height - 1, -1, -1):
        line = []
        for cell in range(cells):
            levels = [max(0, min(4, heights[cell * 2 + side] - row * 4)) for side in (0, 1)]
            if ascii:
                line.append(_PLAIN_LEVELS[max(levels)])
            else:
                mask = sum(_DOTS[side][dot] for side in (0, 1) for dot in range(levels[side]))
                line.append(chr(0x2800 + mask) if mask else " ")
        rows.append("".join(line))
    return rows


def graph_rows(spark: Sequence[int], width: int, height: int = 3, *, ascii: bool = False) -> list[Row]:
    """The last twenty minutes, with its scale at the right and the time below."""
    scale = f"{tokens(max(spark, default=0))} tok/min"
    cells = max(1, width - len(scale) - 2)
    lines = graph(spark, cells, height, ascii=ascii)
    rows: list[Row] = []
    for number, line in enumerate(lines):
        right = scale if number == 0 else "0" if number == height - 1 else ""
        rows.append([(" ", ""), (line, "tok-cache-read"), (" " + right, "muted")])
    rows.append(ends([(" -20 min", "muted")], [("now", "muted"), (" " * (len(scale) + 1), "")], width))
    return rows


HEADING: Row = [
    (" TIME     ", "label"), ("   IN", "label"), ("  C-RD", "label"), ("  C-WR", "label"),
    ("   OUT", "label"),
    ("   SEC", "label"), ("       $", "label"), ("  ENDED IN", "label"),
]  # fmt: skip


def call_rows(calls: Sequence[CallInfo], now: float, *, models: bool = False) -> list[Row]:
    """One row a call, the newest first."""
    return [call_row(call, now, models=models) for call in sorted(calls, key=lambda call: -call.started)]


def call_row(call: CallInfo, now: float, *, models: bool = False) -> Row:
    """``14:05:44   412  104k  3.1k   655   9.8   0.054  Bash``."""
    going = call.state != "settled"
    seconds = now - call.started if going else call.seconds
    mark = "" if call.exact and not going else "~"
    row: Row = [
        (f" {clock(call.started)} ", "muted"),
        _count(call.input, 5, "tok-input", mark), _count(call.cache_read, 6, "tok-cache-read", mark),
        _count(call.cache_write, 6, "tok-cache-write", mark), _count(call.output, 6, "tok-output", mark),
        column("-" if seconds is None else f"{seconds:.1f}", 6, "fg", right=True),
        _price(call, going), ("  ", ""),
    ]  # fmt: skip
    if call.state == "held":
        row.append(("held", "state-paused bold"))
    elif going:
        row.append(("in flight", "state-planning"))
    else:
        row.append((clean(call.ended_in), "fg"))
    if call.outcome not in ("", "ok"):
        row.append((f" {clean(call.outcome)}", "bad"))
    if call.status is not None and call.status >= 400:
        row.append((f" {call.status}", "warn bold"))
    if models and call.model:
        row.append((f"  {model(call.model)}", "muted"))
    return row


def _count(value: int, cells: int, ink: str, mark: str) -> tuple[str, str]:
    text = mark + tokens(value) if value else "0"
    return (text.rjust(cells), ink if value else "muted")


def _price(call: CallInfo, going: bool) -> tuple[str, str]:
    if call.cost_usd is None:
        return ("-".rjust(8) if going else "unpr.".rjust(8), "muted")
    text = f"{call.cost_usd:.3f}" if call.exact and not going else f"~{call.cost_usd:.3f}"
    return (text.rjust(8), "fg" if call.exact else "num-estimated")
