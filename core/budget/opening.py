"""What a window had used before its budget was made: read from the journal, up to the very moment.

A budget of $5 a day that is made at noon knows the morning. Nothing is counted twice and nothing is
missed: rows that are on their way to the disk while the journal is read are taken from the books.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import anyio.to_thread
import orjson

from ..journal.books import Books
from ..journal.events import Event, Record, Spent
from .amount import dollars, nanos
from .budget import Budget
from .cover import Traits, fits
from .window import bounds, rolling

_PAGE = 5_000
_AGENTS = ("AgentCreated", "AgentChanged")


class Past:
    """Sums over the settled calls of the agents that a budget covers, by what they are now.

    Args:
        start: The window's begin; calls settled before are not counted.
    """

    def __init__(self, budget: Budget, start: float) -> None:
        self._budget = budget
        self._start = start
        self._rolling = rolling(budget)
        self._traits: dict[str, Traits] = {}
        self._parents: dict[str, str | None] = {}
        self._by_agent: dict[str, dict[float, list[int]]] = {}

    def add(self, kind: str, ts: float, body: dict[str, Any]) -> None:
        """Count one row: a settled call, or what tells who an agent is."""
        if kind == "CallSettled":
            if ts >= self._start:
                self._count(ts, body)
        elif kind in _AGENTS:
            self._know(body)

    def _know(self, body: dict[str, Any]) -> None:
        agent, spec = body["agent"], body["spec"]
        known = self._traits.get(agent)
        owner = body.get("owner", known.owner if known else "")
        fleet = body.get("fleet", known.fleet if known else None)
        self._traits[agent] = Traits(spec.get("template"), owner, spec.get("labels") or {}, fleet)
        self._parents[agent] = spec.get("parent")

    def _count(self, ts: float, body: dict[str, Any]) -> None:
        slot = self._start if self._rolling is None else ts // self._rolling.slot * self._rolling.slot
        sums = self._by_agent.setdefault(body["agent"], {}).setdefault(slot, [0, 0])
        sums[0] += nanos(max(0.0, body.get("cost_usd") or 0.0))
        sums[1] += max(0, sum((body.get("usage") or [0])[:5]))

    def spent(self) -> list[Spent]:
        """The sums per slot of time, oldest first; windows that do not roll have one slot."""
        slots: dict[float, list[int]] = {}
        for agent, found in self._by_agent.items():
            if self._covers(agent):
                for slot, (usd, tokens) in found.items():
                    sums = slots.setdefault(slot, [0, 0])
                    sums[0] += usd
                    sums[1] += tokens
        return [Spent(slot, dollars(usd), tokens) for slot, (usd, tokens) in sorted(slots.items())]

    def _covers(self, agent: str) -> bool:
        if self._budget.scope == "fleet":
            return True
        if self._budget.scope == "agent":
            seen: set[str] = set()
            above: str | None = agent
            while above is not None and above not in seen:
                if above == self._budget.target:
                    return True
                seen.add(above)
                above = self._parents.get(above)
            return False
        traits = self._traits.get(agent)
        return traits is not None and fits(self._budget, traits)


async def look_back(books: Books, budget: Budget, now: float) -> list[Spent]:
    """What a new budget's window has used up to now; post the budget before anything else is awaited."""
    start = window_start(books, budget, now)
    past = Past(budget, start)
    later: list[tuple[Record, Event]] = []
    stop = books.listen(lambda batch: later.extend(batch))
    try:
        last = books.journal.last_seq
        if budget.scope != "fleet":
            await _read(books, past, _AGENTS, 0, last)
        await _read(books, past, ("CallSettled",), await books.journal.before(start), last)
    finally:
        stop()
    for record, event in (*later, *books.in_flight()):
        past.add(event.kind, record.ts, orjson.loads(record.body))
    return past.spent()


def window_start(books: Books, budget: Budget, now: float) -> float:
    """When the present window of a budget began."""
    first, _ = bounds(budget, now)
    if first is not None:
        return first
    if (window := rolling(budget)) is not None:
        return now - window.length - window.slot
    if budget.window == "task" and (agent := books.pending.agents.get(budget.target)):
        return agent.task_since
    return 0.0


async def _read(books: Books, past: Past, kinds: Sequence[str], since: int, last: int) -> None:
    while since < last:
        records = await books.journal.read(since, limit=_PAGE, kinds=kinds)
        if not records:
            return
        await anyio.to_thread.run_sync(_add_all, past, records, last)
        since = records[-1].seq


def _add_all(past: Past, records: Iterable[Record], last: int) -> None:
    for record in records:
        if record.seq <= last:
            past.add(record.kind, record.ts, orjson.loads(record.body))
