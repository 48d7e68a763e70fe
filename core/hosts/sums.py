"""One table from several kernels: their snapshots and deltas in any order → one snapshot, then deltas.

Nothing here waits or speaks to anybody, so that any interleaving can be tried: after each step the table
is the union of what each host said last, and the header sums over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..table import Delta, Header, HostGauge, ProviderGauge, Row, Snapshot

if TYPE_CHECKING:
    from .naming import Names

T = TypeVar("T", int, float)


class _Part:
    """What one host said last."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.rows: dict[str, Row] = {}
        """As its kernel said them, by its own ids."""
        self.header: Header | None = None
        self.seq = 0
        self.time = 0.0
        self.gauge: HostGauge | None = None
        """Why it is away."""


class Merger:
    """The merged table, and what of it has not been told yet."""

    def __init__(self, names: Iterable[Names], window: str) -> None:
        self._parts = {one.label: _Part(one) for one in names}
        self._window = window
        self._shown: dict[str, Row] = {}
        """As it was told last."""
        self._header: Header | None = None
        self._told = False
        self._dirty: set[tuple[str, str]] = set()
        self._whole: set[str] = set()
        """Hosts of which every row may have changed."""
        self._stirred = False

    # --- what comes in

    def apply(self, label: str, update: Snapshot | Delta) -> None:
        """A host's kernel said something: its snapshot replaces all rows of the host."""
        part = self._parts[label]
        part.seq, part.time = update.seq, update.time
        if isinstance(update, Snapshot):
            part.rows = {row.id: row for row in update.rows}
            part.header = update.header
            part.gauge = None  # only what it says proves that it is back
            self._whole.add(label)
        else:
            if update.header is not None:
                part.header = update.header
            for row in update.rows:
                part.rows[row.id] = row
                self._dirty.add((label, row.id))
            for key in update.gone:
                part.rows.pop(key, None)
                self._dirty.add((label, key))
        self._stirred = True

    def away(self, label: str, gauge: HostGauge) -> None:
        """A host is away, or is so for another reason, or is called again at another time."""
        part = self._parts[label]
        if part.gauge is None or part.gauge.away != gauge.away:
            self._whole.add(label)
        part.gauge = gauge
        self._stirred = True

    # --- what goes out

    @property
    def known(self) -> bool:
        """Whether at least one host has said something, or all are away."""
        return any(part.header is not None for part in self._parts.values()) or self.settled

    @property
    def settled(self) -> bool:
        """Whether every host has said something or is away."""
        return all(part.header is not None or part.gauge is not None for part in self._parts.values())

    def take(self) -> Snapshot | Delta | None:
        """What is to be told now: the whole table at first, then what changed; ``None``: nothing."""
        if not self._stirred:
            return None
        self._stirred = False
        header = merged([(part.names.label, part.header, part.gauge) for part in self._parts.values()])
        if not self._told:
            self._told = True
            self._shown = {row.id: row for part in self._parts.values() for row in self._all(part)}
            self._whole.clear()
            self._dirty.clear()
            self._header = header
            return Snapshot(self._seq(), self._time(), self._window, header, tuple(self._shown.values()))
        rows, gone = self._changes()
        changed = None if header == self._header else header
        self._header = header
        if not rows and not gone and changed is None:
            return None
        return Delta(self._seq(), self._time(), changed, rows, gone)

    def _changes(self) -> tuple[tuple[Row, ...], tuple[str, ...]]:
        fresh: dict[str, Row] = {}
        gone: list[str] = []
        for label in self._whole:
            part = self._parts[label]
            here = {row.id: row for row in self._all(part)}
            fresh |= here
            gone += [key for key, row in self._shown.items() if row.host == label and key not in here]
        for label, key in self._dirty:
            part = self._parts[label]
            if label in self._whole:
                continue
            row = part.rows.get(key)
            if row is None:
                gone.append(part.names.id(key))
            else:
                told = self._row(part, row)
                fresh[told.id] = told
        self._whole.clear()
        self._dirty.clear()
        gone = [key for key in gone if self._shown.pop(key, None) is not None]
        rows = tuple(row for key, row in fresh.items() if self._shown.get(key) != row)
        self._shown |= fresh
        return rows, tuple(gone)

    def _all(self, part: _Part) -> list[Row]:
        return [self._row(part, row) for row in part.rows.values()]

    def _row(self, part: _Part, row: Row) -> Row:
        return part.names.row(row, part.gauge.away if part.gauge is not None else None)

    def _seq(self) -> int:
        """Grows whenever a journal does. It is no place in any of them."""
        return sum(part.seq for part in self._parts.values())

    def _time(self) -> float:
        return max(part.time for part in self._parts.values())


Said = tuple[str, "Header | None", "HostGauge | None"]


def merged(hosts: Sequence[Said]) -> Header:
    """The sums over the table. A host that is away keeps its part in what was spent and what is in
    context, and has none in what is measured by the second or the minute."""
    heads = [header for _, header, _ in hosts if header is not None]
    live = [header for _, header, gauge in hosts if header is not None and gauge is None]
    budgets = [header for header in heads if header.budget_limit is not None]
    windows = {header.budget_window for header in budgets}
    loads = [header.load for header in live if header.load is not None]
    return Header(
        providers=_providers(live),
        input=sum(h.input for h in heads),
        cache_read=sum(h.cache_read for h in heads),
        cache_write=sum(h.cache_write for h in heads),
        output=sum(h.output for h in heads),
        cost=sum(h.cost for h in heads),
        cost_exact=all(h.cost_exact for h in heads),
        unpriced=sum(h.unpriced for h in heads),
        spend_hour=sum(h.spend_hour for h in live),
        context=sum(h.context for h in heads),
        context_cached=sum(h.context_cached for h in heads),
        context_limit=sum(h.context_limit for h in heads),
        held=sum(h.held for h in live),
        load=_tightest(loads),
        rates=_three([h.rates for h in live]),
        agents_cpu=sum(h.agents_cpu for h in live),
        agents_memory=sum(h.agents_memory for h in live),
        host_cores=sum(h.host_cores for h in heads),
        host_memory=sum(h.host_memory for h in heads),
        kernel_cpu=sum(h.kernel_cpu for h in live),
        kernel_memory=sum(h.kernel_memory for h in live),
        kernel_started=min((h.kernel_started for h in heads), default=0.0),
        budget_spent=sum(h.budget_spent or 0.0 for h in budgets) if budgets else None,
        budget_reserved=sum(h.budget_reserved for h in budgets),
        budget_limit=sum(h.budget_limit or 0.0 for h in budgets) if budgets else None,
        problem=_problems(hosts),
        halted=bool(live) and all(h.halted for h in live),
        approvals=sum(h.approvals for h in live),
        budget_window=windows.pop() if len(windows) == 1 else "",
        hosts=tuple(gauge or HostGauge(label) for label, _, gauge in hosts),
    )


def _tightest(loads: Sequence[tuple[float, float, float]]) -> tuple[float, float, float] | None:
    if not loads:
        return None
    one, five, fifteen = (max(load[n] for load in loads) for n in range(3))
    return one, five, fifteen


def _three(rates: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    one, five, fifteen = (sum(rate[n] for rate in rates) for n in range(3))
    return one, five, fifteen


def _providers(heads: Sequence[Header]) -> tuple[ProviderGauge, ...]:
    """Providers of one name together: their limits add up, where all of them have one."""
    found: dict[str, ProviderGauge] = {}
    for head in heads:
        for gauge in head.providers:
            other = found.get(gauge.name)
            found[gauge.name] = gauge if other is None else _both(other, gauge)
    return tuple(found.values())


def _both(one: ProviderGauge, other: ProviderGauge) -> ProviderGauge:
    return ProviderGauge(
        name=one.name,
        label=one.label,
        input=one.input + other.input,
        cache_read=one.cache_read + other.cache_read,
        cache_write=one.cache_write + other.cache_write,
        output=one.output + other.output,
        limit=None if one.limit is None or other.limit is None else one.limit + other.limit,
        peak=one.peak + other.peak,
    )


def _problems(hosts: Sequence[Said]) -> str:
    """What ails the kernels, by host; that only some of them are halted is said here, too."""
    live = [(label, header) for label, header, gauge in hosts if header is not None and gauge is None]
    ails = [f"{label}: {header.problem}" for label, header in live if header.problem]
    if not all(header.halted for _, header in live):
        ails += [f"{label}: the kill switch is on" for label, header in live if header.halted]
    return "; ".join(ails)
