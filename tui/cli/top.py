"""``agenttop top``: the screen, or with ``-b`` its table as text, for scripts and logs."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .. import format as f
from . import printing
from .kernel_call import call
from .options import Json

if TYPE_CHECKING:
    from agenttop.core.api import Delta, Header, Row, Snapshot, Window
    from agenttop.core.client import KernelClient

HEADER = (
    "ID",
    "NAME",
    "S",
    "WHY",
    "BACKEND",
    "MODEL",
    "NI",
    "TOK/M",
    "IN",
    "CACHE",
    "OUT",
    "$",
    "CPU%",
    "RES",
    "PIDS",
    "TASK",
)
RIGHT = ("NI", "TOK/M", "IN", "CACHE", "OUT", "$", "CPU%", "RES", "PIDS")


def top(
    batch: Annotated[
        bool, typer.Option("--batch", "-b", help="Print tables instead of showing the screen.")
    ] = False,
    count: Annotated[
        int | None, typer.Option("-n", min=1, help="How many tables; default: until interrupted.")
    ] = None,
    delay: Annotated[float, typer.Option("-d", min=0.1, help="Seconds between tables.")] = 1.0,
    window: Annotated[str, typer.Option(help="What sums cover: run, hour, today or total.")] = "today",
    as_json: Json = False,
) -> None:
    """Show the live fleet; with -b as text."""
    from .screen import _window, open_screen

    chosen = cast("Window", _window(window))
    if not batch:
        raise typer.Exit(open_screen(window=window))
    call(lambda client: _print_tables(client, chosen, count, delay, as_json))


async def _print_tables(
    client: KernelClient, window: Window, count: int | None, delay: float, as_json: bool
) -> None:
    """A table now and after every ``delay`` seconds, each of the newest state."""
    import anyio

    fleet = _Fleet()
    first = anyio.Event()

    async def follow() -> None:
        async with aclosing(cast("AsyncGenerator[Snapshot | Delta, None]", client.watch(window))) as changes:
            async for change in changes:
                fleet.apply(change)
                first.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await first.wait()
        printed = 0
        while True:
            fleet.print(as_json)
            printed += 1
            if printed == count:
                break
            await anyio.sleep(delay)
        tasks.cancel_scope.cancel()


class _Fleet:
    """The newest rows and header."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.header: Header | None = None

    def apply(self, change: Snapshot | Delta) -> None:
        """Take a snapshot or a delta in."""
        if hasattr(change, "window"):
            self.rows.clear()
        for gone in getattr(change, "gone", ()):
            self.rows.pop(gone, None)
        for row in change.rows:
            self.rows[row.id] = row
        if change.header is not None:
            self.header = change.header

    def print(self, as_json: bool) -> None:
        """One table, and a blank line."""
        assert self.header is not None
        live = [row for row in self.rows.values() if row.ended is None]
        if as_json:
            printing.json(
                {"time": time.time(), "header": self.header._asdict(), "agents": [r._asdict() for r in live]}
            )
            return
        printing.line(summary(self.header, live, time.time()))
        printing.table(HEADER, [cells(row) for row in live], right=RIGHT)
        printing.line("")
        import sys

        sys.stdout.flush()


def summary(header: Header, rows: list[Row], now: float) -> str:
    """The sums over the table, in one line."""
    states: dict[str, int] = {}
    for row in rows:
        shown = "paused" if row.pause else row.state
        states[shown] = states.get(shown, 0) + 1
    by_state = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
    cost = f.money(header.cost, 12, exact=header.cost_exact)
    problem = f"; {f.clean(header.problem)}" if header.problem else ""
    return (
        f"agenttop {f.clock(now)}, {len(rows)} agent{'s' * (len(rows) != 1)}: {by_state}; "
        f"${cost} ({f.money(header.spend_hour, 8)}/h), "
        f"tokens in {f.tokens(header.input)} cache {f.tokens(header.cache_read + header.cache_write)} "
        f"out {f.tokens(header.output)}{problem}"
    )


def cells(row: Row) -> list[str]:
    """One row, unpadded."""
    return [
        row.id,
        row.name,
        _letter(row),
        row.detail or row.reason or "",
        row.backend,
        f.model(row.model) if row.model else f.UNKNOWN,
        str(row.nice),
        ("" if row.rate_exact else "~") + f.tokens(row.rate),
        f.tokens(row.input),
        f.tokens(row.cache_read + row.cache_write),
        f.tokens(row.output),
        f.money(row.cost, 9, exact=row.cost_exact),
        f.UNKNOWN if row.cpu is None else f"{row.cpu:.0f}",
        f.size(row.memory),
        f.UNKNOWN if row.pids is None else str(row.pids),
        row.task,
    ]


def _letter(row: Row) -> str:
    from agenttop.core.agents.states import LETTERS, State

    if row.pause:
        return "F" if row.pause == "freeze" else "H"
    return LETTERS[State(row.state)]
