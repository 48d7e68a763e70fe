"""The rows of observed agents, built anew only where something changed, and what they add up to.

Used by the thread that looks, and by nobody else at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..agents.agent import ObservedFreeze
from ..gateway.meters import midnight
from ..journal.events import Usage
from ..table import Row
from . import rows
from .gauges import NO_TREE, Tree
from .watch import Observed

#: So long after its last call a row may still change by itself, in seconds: windows and bars move on.
_LIVELY = 3700.0


class Sums(NamedTuple):
    """What all observed agents add to the header in one window."""

    usage: Usage = Usage()
    cost: float = 0.0
    exact: bool = True
    unpriced: int = 0
    context: int = 0
    context_limit: int = 0
    cpu: float = 0.0
    memory: int = 0


class _Built(NamedTuple):
    stamp: tuple[Any, ...]
    rows: tuple[Row, ...]
    """The agent's own, and its subagents'."""


class Board:
    """Keeps the rows of the last look, and why they are as they are."""

    def __init__(self, price: rows.Price) -> None:
        self._price = price
        self._built: dict[tuple[str, str], _Built] = {}

    def rows(
        self,
        agents: Iterable[Observed],
        trees: Mapping[str, Tree],
        frozen: Mapping[str, ObservedFreeze],
        window: str,
        now: float,
    ) -> dict[str, Row]:
        """The rows of these agents and of their subagents, by id."""
        minute, day = int(now // 60), midnight(now)
        made: dict[str, Row] = {}
        for agent in agents:
            tree, freeze, view = trees.get(agent.id, NO_TREE), frozen.get(agent.id), agent.view
            lively = view is not None and now - (view.last_call or 0) < _LIVELY
            # The view is kept alive by the stamp, so that its id is nobody else's meanwhile.
            stamp = (view, tree, freeze, agent.session, agent.parent, minute if lively else day)
            old = self._built.get((window, agent.id))
            if old is None or not _same(old.stamp, stamp):
                built = rows.row(agent, self._price, now, window=window, tree=tree, freeze=freeze)
                old = _Built(stamp, (built, *rows.child_rows(agent, self._price, now, window)))
            elif lively and view is not None:
                old = old._replace(rows=(rows.aged(old.rows[0], view, now), *old.rows[1:]))
            self._built[window, agent.id] = old
            for row in old.rows:
                made[row.id] = row
        return made

    def keep(self, windows: Iterable[str], agents: Iterable[str]) -> None:
        """Forget all other rows."""
        kept = {(window, agent) for window in windows for agent in agents}
        for key in self._built.keys() - kept:
            del self._built[key]


def _same(old: tuple[Any, ...], new: tuple[Any, ...]) -> bool:
    """Whether nothing moved; views are compared by identity, a new one is a new one."""
    if old[0] is not new[0] or old[2:] != new[2:]:
        return False
    before, after = old[1], new[1]
    return before is after or (
        (before.load, before.stopped, before.nice, len(before.processes))
        == (after.load, after.stopped, after.nice, len(after.processes))
    )


def summed(made: Mapping[str, Row]) -> Sums:
    """What rows add up to; of trees within trees only the outer one counts."""
    fresh = read = written = output = unpriced = context = limit = memory = 0
    cost, cpu, exact = 0.0, 0.0, True
    for row in made.values():
        fresh, read = fresh + row.input, read + row.cache_read
        written, output = written + row.cache_write, output + row.output
        if row.cost:
            cost += row.cost
            exact = exact and row.cost_exact
        unpriced += row.unpriced
        if row.context and row.context_limit:
            context, limit = context + row.context, limit + row.context_limit
        if row.parent is None:
            cpu, memory = cpu + (row.cpu or 0.0), memory + (row.memory or 0)
    usage = Usage(input=fresh, cache_read=read, cache_write_5m=written, output=output)
    return Sums(usage, cost, exact, unpriced, context, limit, cpu, memory)
