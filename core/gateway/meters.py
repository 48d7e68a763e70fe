"""Rates and windows: what was used in the last minute, the last hour and today.

These are gauges over the journal's facts, kept in memory and rebuilt from the last day's
``CallSettled`` events at start. Money and tokens "ever" and "this run" are in the fold itself.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from ..agents.agent import Meter
from ..journal.events import Usage

FINE = 5
"""Seconds per slot of the last minute."""

#: input, cache read, cache write, output
Buckets = tuple[int, int, int, int]
_ZERO: Buckets = (0, 0, 0, 0)


def buckets(usage: Usage) -> Buckets:
    """The four buckets people see."""
    return (usage.input, usage.cache_read, usage.cache_write, usage.output)


def _add(a: Buckets, b: Buckets) -> Buckets:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])


class Ring:
    """Sums per slot of time; old slots are forgotten."""

    __slots__ = ("keep", "seconds", "slots")

    def __init__(self, seconds: int, keep: int) -> None:
        self.seconds = seconds
        self.keep = keep
        self.slots: deque[tuple[int, Buckets, float]] = deque(maxlen=keep)

    def add(self, now: float, amount: Buckets, cost: float = 0.0) -> None:
        """Count ``amount`` at ``now``; a clock set back counts into the newest slot."""
        slot = int(now // self.seconds)
        if self.slots and self.slots[-1][0] >= slot:
            last, tokens, money = self.slots[-1]
            self.slots[-1] = (last, _add(tokens, amount), money + cost)
        else:
            self.slots.append((slot, amount, cost))

    def total(self, now: float) -> tuple[Buckets, float]:
        """Sum of the last ``keep`` slots at ``now``."""
        first = int(now // self.seconds) - self.keep + 1
        tokens, money = _ZERO, 0.0
        for slot, amount, cost in reversed(self.slots):
            if slot < first:
                break
            tokens = _add(tokens, amount)
            money += cost
        return tokens, money

    def series(self, now: float, count: int) -> tuple[int, ...]:
        """All tokens per slot of the last ``count`` slots, oldest first."""
        last = int(now // self.seconds)
        values = [0] * count
        for slot, amount, _ in reversed(self.slots):
            index = count - 1 - (last - slot)
            if index < 0:
                break
            values[min(index, count - 1)] += sum(amount)
        return tuple(values)

    def cost_since(self, now: float, slots: int) -> float:
        """Money in the last ``slots`` slots."""
        first = int(now // self.seconds) - slots + 1
        return sum(cost for slot, _, cost in self.slots if slot >= first)

    def peak(self) -> int:
        """The fullest slot kept."""
        return max((sum(amount) for _, amount, _ in self.slots), default=0)


@dataclass(slots=True)
class Gauge:
    """The rings of one agent, or of one provider."""

    minute: Ring = field(default_factory=lambda: Ring(FINE, 60 // FINE))
    hour: Ring = field(default_factory=lambda: Ring(60, 60))

    def add(self, now: float, amount: Buckets, cost: float = 0.0) -> None:
        """Count into both rings."""
        if any(amount):
            self.minute.add(now, amount)
        if any(amount) or cost:
            self.hour.add(now, amount, cost)

    def rate(self, now: float) -> Buckets:
        """Tokens of the last minute by bucket."""
        return self.minute.total(now)[0]


@dataclass(slots=True)
class _Hour:
    """Settled calls of one minute, for the exact hour window."""

    minute: int
    meter: Meter


class Meters:
    """Gauges and windows of all agents and providers."""

    def __init__(self) -> None:
        self.agents: dict[str, Gauge] = {}
        self.providers: dict[str, Gauge] = {}
        self.fleet = Gauge()
        self._hours: dict[str, deque[_Hour]] = {}
        self._today: dict[str, Meter] = {}
        self._day = ""

    def seen(self, agent: str, provider: str, now: float, tokens: Buckets) -> None:
        """Tokens that were seen in a running call, before it is settled."""
        for gauge in self._gauges(agent, provider):
            gauge.add(now, tokens)

    def settled(
        self,
        agent: str,
        provider: str,
        ts: float,
        usage: Usage,
        cost: float | None,
        *,
        exact: bool,
        seen: Usage,
    ) -> None:
        """A call's final figures; ``seen`` is what ``seen()`` counted of it already."""
        rest = tuple(max(0, a - b) for a, b in zip(buckets(usage), buckets(seen), strict=True))
        for gauge in self._gauges(agent, provider):
            gauge.add(ts, (rest[0], rest[1], rest[2], rest[3]), cost or 0.0)
        minutes = self._hours.setdefault(agent, deque(maxlen=61))
        minute = int(ts // 60)
        if not minutes or minutes[-1].minute < minute:
            minutes.append(_Hour(minute, Meter()))
        minutes[-1].meter.add(usage, cost, exact=exact)
        self._roll(ts)
        if _day(ts) == self._day:
            self._today.setdefault(agent, Meter()).add(usage, cost, exact=exact)

    def today(self, agent: str, now: float) -> Meter:
        """Calls settled since local midnight."""
        self._roll(now)
        return self._today.get(agent) or Meter()

    def hour(self, agent: str, now: float) -> Meter:
        """Calls settled in the last 60 minutes."""
        first = int(now // 60) - 59
        total = Meter()
        for slot in self._hours.get(agent, ()):
            if slot.minute >= first:
                meter = slot.meter
                total.usage = total.usage.plus(meter.usage)
                total.cost += meter.cost
                total.calls += meter.calls
                total.estimated += meter.estimated
                total.unpriced += meter.unpriced
        return total

    def forget(self, agent: str) -> None:
        """The agent was removed."""
        self.agents.pop(agent, None)
        self._hours.pop(agent, None)
        self._today.pop(agent, None)

    def _gauges(self, agent: str, provider: str) -> tuple[Gauge, Gauge, Gauge]:
        return (
            self.agents.setdefault(agent, Gauge()),
            self.providers.setdefault(provider, Gauge()),
            self.fleet,
        )

    def _roll(self, now: float) -> None:
        day = _day(now)
        # ISO dates order like days; a clock set back does not bring yesterday's sums up again.
        if day > self._day:
            self._day = day
            self._today.clear()


def _day(ts: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(ts))


def midnight(now: float) -> float:
    """The last local midnight, as the epoch counts."""
    local = time.localtime(now)
    return time.mktime((local.tm_year, local.tm_mon, local.tm_mday, 0, 0, 0, 0, 0, -1))
