"""Model calls of one agent: a graph of tokens over time, and a table in the colours of the buckets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..format import age, clean, clock, cut_middle, model, tokens
from .paper import Row, ends

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

#: From so many cells on, the number of tries has a column.
TRIES_FROM = 92


def call_rows(calls: Sequence[CallInfo], now: float) -> list[Row]:
    """One row a call: held ones first with the reason, then the newest first."""
    found: list[Row] = []
    for call in _ordered(calls):
        found.append(call_row(call, now))
        found += _why(call)
    return found


def _ordered(calls: Sequence[CallInfo]) -> list[CallInfo]:
    return sorted(calls, key=lambda call: (call.state != "held", -call.started))


def _why(call: CallInfo) -> list[Row]:
    """The line below a held call: what it waits for."""
    if call.state != "held":
        return []
    text = clean(call.detail) or clean(call.reason) or "the gateway keeps it"
    return [
        [("          ", ""), (text, "state-needs-you" if call.reason in ("budget", "approval") else "muted")]
    ]


def call_row(call: CallInfo, now: float) -> Row:
    """``14:05:44   412  104k  3.1k   655   9.8   0.054  Bash``."""
    return [(f" {clock(call.started)} ", "muted"), *_buckets(call), _seconds(call, now), _price(call),
            ("  ", ""), *_end(call, tries=True)]  # fmt: skip


def wide_heading(width: int) -> Row:
    """The heading of ``wide_rows``."""
    tries = " TRY" if width >= TRIES_FROM else ""
    name = "MODEL".ljust(_model_cells(width))
    text = f" TIME     {name}   IN  C-RD  C-WR   OUT  1ST    SEC QUEUE{tries}        $  ENDED"
    return [(text, "label")]


def wide_rows(calls: Sequence[CallInfo], now: float, width: int) -> list[Row]:
    """As ``call_rows``, with the model, the seconds to the first token and in the queue, and the tries."""
    found: list[Row] = []
    for call in _ordered(calls):
        row: Row = [
            (f" {clock(call.started)} ", "muted"), (_model(call, _model_cells(width)), "fg"),
            *_buckets(call), _short(call.first_token_seconds, 5), _seconds(call, now, 7),
            _short(call.queued_seconds or None, 6),
        ]  # fmt: skip
        if width >= TRIES_FROM:
            row.append((f"{call.attempts:>4}", "warn bold" if call.attempts > 1 else "muted"))
        found.append([*row, (" ", ""), _price(call), ("  ", ""), *_end(call, tries=width < TRIES_FROM)])
        found += _why(call)
    return found


def _model_cells(width: int) -> int:
    return 18 if width >= 110 else 11


def _model(call: CallInfo, cells: int) -> str:
    return cut_middle(model(call.model) if call.model else "-", cells - 1).ljust(cells)


def _buckets(call: CallInfo) -> Row:
    going = call.state != "settled"
    mark = "" if call.exact and not going else "~"
    return [
        _count(call.input, 5, "tok-input", mark), _count(call.cache_read, 6, "tok-cache-read", mark),
        _count(call.cache_write, 6, "tok-cache-write", mark), _count(call.output, 6, "tok-output", mark),
    ]  # fmt: skip


def _seconds(call: CallInfo, now: float, cells: int = 6) -> tuple[str, str]:
    seconds = now - call.started if call.state != "settled" else call.seconds
    text = "-" if seconds is None else f"{seconds:.1f}" if seconds < 9999 else age(seconds)
    return (text.rjust(cells), "muted" if seconds is None else "fg")


def _short(seconds: float | None, cells: int) -> tuple[str, str]:
    text = "-" if seconds is None else f"{seconds:.1f}" if seconds < 99.95 else age(seconds)
    return (text.rjust(cells), "muted" if seconds is None else "fg")


def _end(call: CallInfo, *, tries: bool) -> Row:
    """How it ended, or what it does: never by colour alone."""
    if call.state == "held":
        return [(f"held {clean(call.reason)}".rstrip(), "state-needs-you bold")]
    row: Row = []
    if call.state == "running":
        row.append(("in flight", "state-planning"))
    elif call.ended_in:
        row.append((clean(call.ended_in), "fg"))
    if call.outcome not in ("", "ok"):
        row.append((f" {clean(call.outcome)}", "bad"))
    if call.status is not None and call.status >= 400:
        row.append((f" {call.status}", "warn bold"))
    if tries and call.attempts > 1:
        row.append((f" {call.attempts} tries", "warn"))
    if call.error:
        row.append((f" {clean(call.error)}", "muted"))
    if row and not call.ended_in and call.state == "settled":
        row[0] = (row[0][0].lstrip(), row[0][1])
    return row


def _count(value: int, cells: int, ink: str, mark: str) -> tuple[str, str]:
    text = mark + tokens(value) if value else "0"
    return (text.rjust(cells), ink if value else "muted")


def _price(call: CallInfo) -> tuple[str, str]:
    """What it cost; of one that is not settled the worst case that is reserved for it."""
    if call.state != "settled" and call.reserved_usd is not None:
        return (f"≤{call.reserved_usd:.3f}".rjust(8), "num-estimated")
    going = call.state != "settled"
    if call.cost_usd is None:
        return ("-".rjust(8) if going else "unpr.".rjust(8), "muted")
    text = f"{call.cost_usd:.3f}" if call.exact and not going else f"~{call.cost_usd:.3f}"
    return (text.rjust(8), "fg" if call.exact else "num-estimated")
