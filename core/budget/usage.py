"""History: sums over settled calls by any keys, streamed through the journal off the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import orjson

from ..api import UsageKey, UsageRequest, UsageRow
from ..journal.events import Record
from ..journal.journal import Journal
from .amount import dollars, nanos

_PAGE = 5_000
_FORMS: dict[UsageKey, str] = {
    "second": "%Y-%m-%d %H:%M:%S",
    "minute": "%Y-%m-%d %H:%M",
    "hour": "%Y-%m-%d %H:00",
    "day": "%Y-%m-%d",
}
_SECONDS: dict[UsageKey, int] = {"second": 1, "minute": 60, "hour": 900, "day": 900}
"""Local time may be remembered for so long: no time zone is off by less than a quarter of an hour."""


@dataclass(slots=True)
class _Sum:
    calls: int = 0
    usd: int = 0
    estimated: int = 0
    unpriced: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    def add(self, body: dict[str, Any]) -> None:
        usage = body.get("usage") or (0, 0, 0, 0, 0, 0)
        cost = body.get("cost_usd")
        self.calls += 1
        self.usd += nanos(cost or 0.0)
        self.estimated += not body.get("exact", True)
        self.unpriced += cost is None and sum(usage[:5]) > 0
        self.input += usage[0]
        self.cache_read += usage[1]
        self.cache_write += usage[2] + usage[3]
        self.output += usage[4]
        self.reasoning += usage[5]

    def row(self, keys: tuple[str, ...]) -> UsageRow:
        return UsageRow(
            keys=list(keys),
            calls=self.calls,
            input=self.input,
            cache_read=self.cache_read,
            cache_write=self.cache_write,
            output=self.output,
            reasoning=self.reasoning,
            cost_usd=None if self.unpriced and not self.usd else dollars(self.usd),
            exact=not self.estimated,
            unpriced=self.unpriced,
        )


class History:
    """Gathers one answer. ``add`` takes rows in the journal's order."""

    def __init__(self, request: UsageRequest, agents: Collection[str] | None) -> None:
        self._request = request
        self._agents = agents
        self._names: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._sums: dict[tuple[str, ...], _Sum] = {}
        self._keys = [self._key(key) for key in request.by]
        self._shown: dict[tuple[UsageKey, int], str] = {}

    def _key(self, key: UsageKey) -> Callable[[float, dict[str, Any]], str]:
        if key in _FORMS:
            return lambda ts, body: self._moment(key, ts)
        if key == "agent":
            return lambda ts, body: body["agent"]
        if key in ("run", "task"):  # until there are tasks, a run is one
            return lambda ts, body: str(body["run"])
        if key == "label":
            return lambda ts, body: self._labels.get(body["agent"], "")
        return lambda ts, body: str(body.get(key) or "")

    def _moment(self, key: UsageKey, ts: float) -> str:
        slot = (key, int(ts // _SECONDS[key]))
        if (shown := self._shown.get(slot)) is None:
            if len(self._shown) > 100_000:
                self._shown.clear()
            shown = self._shown[slot] = time.strftime(_FORMS[key], time.localtime(ts))
        return shown

    def add(self, record: Record) -> None:
        """Count one row."""
        body = orjson.loads(record.body)
        if record.kind != "CallSettled":
            spec = body["spec"]
            self._names[body["agent"]] = spec["name"]
            self._labels[body["agent"]] = (spec.get("labels") or {}).get(self._request.label, "")
        elif self._wanted(record):
            keys = tuple(key(record.ts, body) for key in self._keys)
            self._sums.setdefault(keys, _Sum()).add(body)

    def _wanted(self, record: Record) -> bool:
        since, until = self._request.since, self._request.until
        return (
            (self._agents is None or record.agent in self._agents)
            and (since is None or record.ts >= since)
            and (until is None or record.ts < until)
        )

    def rows(self) -> list[UsageRow]:
        """The sums, ordered by their keys; agents by name, and of equal names by age."""
        by = self._request.by
        rows = []
        for keys, found in self._sums.items():
            named = tuple(
                self._names.get(value, value) if key == "agent" else value
                for key, value in zip(by, keys, strict=True)
            )
            rows.append(found.row(named))
        return sorted(rows, key=lambda row: [_order(value) for value in row.keys])


def _order(value: str) -> tuple[int, str]:
    return (int(value), "") if value.isdecimal() and len(value) < 10 else (0, value)


async def usage(journal: Journal, request: UsageRequest, agents: Collection[str] | None) -> list[UsageRow]:
    """Answer a request.

    Args:
        agents: Ids of the agents to count; ``None`` is all, removed ones too.

    Raises:
        JournalUnavailable: It cannot be read.
    """
    history = History(request, agents)
    last = journal.last_seq
    first = 0 if request.since is None else await journal.before(request.since)
    if first and {"agent", "label"} & set(request.by):
        await _read(journal, history, ("AgentCreated", "AgentChanged"), 0, first)
    kinds = ("AgentCreated", "AgentChanged", "CallSettled")
    await _read(journal, history, kinds, first, last)
    return await anyio.to_thread.run_sync(history.rows)


async def _read(journal: Journal, history: History, kinds: tuple[str, ...], since: int, last: int) -> None:
    while since < last:
        records = await journal.read(since, limit=_PAGE, kinds=kinds)
        if not records:
            return
        await anyio.to_thread.run_sync(_add, history, records, last)
        since = records[-1].seq


def _add(history: History, records: list[Record], last: int) -> None:
    for record in records:
        if record.seq <= last:
            history.add(record)
