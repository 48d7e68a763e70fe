"""What the screen shows: the live table as a snapshot and deltas, and the journal's rows.

NamedTuples and no models: a thousand rows a second are built from these, and a screen that imports
nothing else of ``core.api`` has its first table before pydantic is there. Times are wall-clock
seconds, sizes bytes, money USD. ``None`` means: not known.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

WINDOWS = ("run", "hour", "today", "total")
"""What IN, CACHE, OUT and $ of a row, and the sums in the header, cover."""

Window = Literal["run", "hour", "today", "total"]


class EventInfo(NamedTuple):
    """One journal row as people's side sees it: the stored body, decoded, plus a line to read."""

    seq: int
    ts: float
    kind: str
    agent: str | None
    name: str | None
    body: dict[str, Any]
    text: str


class Row(NamedTuple):
    """One agent in the live table: plain values, equal when nothing visible changed.

    No ages are in here, only the times they count from, so that a row stays equal to itself while
    the clock runs. Sums cover the watch's window.
    """

    id: str
    name: str
    state: str
    """``State`` beneath; ``pause`` lies over it."""
    pause: str | None
    reason: str | None
    detail: str
    """A tool's name, ``exit 1``, ``frozen 14/14``, …: the WHY column without its age."""
    since: float
    needs: bool
    """Whether it waits for a person, or ended in error."""
    backend: str
    template: str | None
    owner: str
    parent: str | None
    labels: str
    nice: int
    model: str | None
    context: int | None
    context_limit: int | None
    rate: int
    """Tokens in the last minute, all buckets."""
    rate_exact: bool
    spark: tuple[int, ...]
    """Tokens in each of the last 20 minutes, oldest first."""
    input: int
    cache_read: int
    cache_write: int
    output: int
    cost: float | None
    cost_exact: bool
    unpriced: bool
    budget: int | None
    """Per cent of the tightest budget."""
    unread: int | None
    dead_letters: int
    cpu: float | None
    """Per cent of one core, the whole tree."""
    memory: int | None
    pids: int | None
    started: float | None
    ended: float | None
    exit_code: int | None
    run: int
    task: str
    observed: bool
    stale: float | None
    """Since when state, CPU and memory are only as last seen."""
    tiers: tuple[int, int, int] | None
    attach: bool = False
    """Whether a person can get in front of it: it has a terminal."""
    host: str = ""
    """Where its kernel runs, where several are shown in one table; empty: here."""
    unread_since: float | None = None
    """When the oldest of its unacknowledged mail was accepted."""


class ProviderGauge(NamedTuple):
    """Last minute's tokens of one provider, for the header."""

    name: str
    label: str
    input: int
    cache_read: int
    cache_write: int
    output: int
    limit: int | None
    peak: int
    """The highest minute of the last hour: the scale where there is no limit."""


class HostGauge(NamedTuple):
    """One of several hosts whose kernels are shown in one table. ``None`` times: it is there."""

    name: str
    away: float | None = None
    """Since when it is away."""
    why: str = ""
    next_try: float | None = None
    """When it is called again; ``None`` while away: not before a person asks."""


class Header(NamedTuple):
    """The sums over the table, computed from the same books as the rows."""

    providers: tuple[ProviderGauge, ...]
    input: int
    cache_read: int
    cache_write: int
    output: int
    cost: float
    cost_exact: bool
    unpriced: int
    """How many agents have calls without a known price in the window."""
    spend_hour: float
    """USD per hour at the pace of the last ten minutes."""
    context: int
    context_cached: int
    context_limit: int
    held: int
    load: tuple[float, float, float] | None
    """Token load 1/5/15 min: demand over the tightest limit; ``None`` without any limit."""
    rates: tuple[int, int, int]
    """Tokens per minute averaged over 1/5/15 minutes."""
    agents_cpu: float
    agents_memory: int
    host_cores: int
    host_memory: int
    kernel_cpu: float
    """Per cent of one core."""
    kernel_memory: int
    kernel_started: float
    budget_spent: float | None
    budget_reserved: float
    budget_limit: float | None
    problem: str
    """What ails the kernel (full disk, …), or empty."""
    halted: bool = False
    """The kill switch is on."""
    approvals: int = 0
    """Questions that wait for a person."""
    budget_window: str = ""
    """Window of the budget whose ``budget_*`` these are: ``task``, ``hour``, ``day`` or ``total``."""
    hosts: tuple[HostGauge, ...] = ()
    """The hosts in this table; empty where it is one kernel's own."""


class Snapshot(NamedTuple):
    """The whole table at journal position ``seq``."""

    seq: int
    time: float
    window: str
    header: Header
    rows: tuple[Row, ...]


class Delta(NamedTuple):
    """What changed since the last one: whole rows, ids that are gone, the header if it changed."""

    seq: int
    time: float
    header: Header | None
    rows: tuple[Row, ...]
    gone: tuple[str, ...]


def row_from_json(values: list[Any]) -> Row:
    """Rebuild a row from its JSON array (tuples travel as lists)."""
    row = Row._make(values)
    return row._replace(spark=tuple(row.spark), tiers=tuple(row.tiers) if row.tiers else None)  # type: ignore[arg-type]


def header_from_json(values: list[Any]) -> Header:
    """Rebuild a header from its JSON array."""
    header = Header._make(values)
    return header._replace(
        providers=tuple(ProviderGauge._make(p) for p in header.providers),
        load=tuple(header.load) if header.load else None,  # type: ignore[arg-type]
        rates=tuple(header.rates),  # type: ignore[arg-type]
        hosts=tuple(HostGauge._make(host) for host in header.hosts),
    )
