"""The fair queue: of the calls that may go, which one goes next.

Strict classes (``interactive`` before ``batch``); within a class the agent with the lowest virtual
runtime, which is the tokens it was given, weighted by nice as CFS weighs time; within an agent first
come, first served. A call is charged its estimate when it goes and corrected when its true use is known.

An agent between two calls keeps the credit it gathers meanwhile, or one that makes a call at a time
would never get more than its turn; but no more than what was missed in the last ``MEMORY`` seconds,
and none after as long without any call: nobody saves up to have the provider alone later.

Every place may belong to a *group* (calls under the limits of one model); ``pop`` passes over the groups
that may not go now without losing anybody's place. All operations are O(log n) in the calls that wait, and
linear in the number of groups.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ...agents.spec import Queue
from ...nice import NORMAL, weight

MEMORY = 60.0
"""Seconds: how far back missed turns are made up for, and after how long an agent counts as new."""

CLASSES: tuple[Queue, ...] = ("interactive", "batch")


@dataclass(slots=True, eq=False)
class Place:
    """One call in the queue. ``tokens`` is what it is charged until the truth is known."""

    call: str
    agent: str
    queue: Queue
    nice: int
    tokens: int
    group: str | None = None
    seq: int = 0
    """Set by the first ``push``; kept afterwards, so that a call that comes back has its old place."""


P = TypeVar("P", bound=Place)


@dataclass(slots=True, eq=False)
class _Account(Generic[P]):
    """What one agent has had."""

    vtime: float
    """Virtual runtime with the estimates of calls that run."""
    settled: float
    """The same without them."""
    weight: int
    lines: dict[str | None, _Line[P]] = field(default_factory=dict)
    waiting: int = 0
    running: int = 0
    idle_since: float = 0.0


@dataclass(slots=True, eq=False)
class _Line(Generic[P]):
    """An agent's waiting calls of one group, oldest first."""

    account: _Account[P]
    heap: list[tuple[int, int, P]] = field(default_factory=list)
    places: set[P] = field(default_factory=set)
    version: int = 0
    """Of its entry among the lines that compete; older entries are void."""

    def first(self) -> P:
        while self.heap[0][2] not in self.places:
            heapq.heappop(self.heap)
        return self.heap[0][2]

    def add(self, place: P, tie: int) -> None:
        self.places.add(place)
        heapq.heappush(self.heap, (place.seq, tie, place))
        if len(self.heap) > 64 + 4 * len(self.places):  # of those that left
            self.heap = [(one.seq, number, one) for number, one in enumerate(self.places)]
            heapq.heapify(self.heap)


_Entry = tuple[float, int, int, _Line[P]]


class _Class(Generic[P]):
    """One scheduling class: its accounts, and per group the lines by virtual runtime."""

    def __init__(self) -> None:
        self.accounts: dict[str, _Account[P]] = {}
        self.groups: dict[str | None, list[_Entry[P]]] = {}
        self.counts: dict[str | None, int] = {}
        self.lines: dict[str | None, int] = {}
        self.vclock = 0.0
        """Where the queue has got to: the highest settled runtime anybody had when it was served."""
        self._history: deque[tuple[float, float]] = deque()
        self._swept = 0.0
        self._versions = itertools.count(1)

    def account(self, agent: str, nice: int, now: float) -> _Account[P]:
        """The agent's account as it competes from now on."""
        account = self.accounts.get(agent)
        if account is None:
            self._sweep(now)
            account = self.accounts[agent] = _Account(self.vclock, self.vclock, weight(nice))
            return account
        if account.waiting == 0:
            self._admit(account, now)
        self.reweigh(account, weight(nice))
        return account

    def _admit(self, account: _Account[P], now: float) -> None:
        if account.running == 0 and now - account.idle_since >= MEMORY:
            account.vtime = account.settled = self.vclock
            return
        missed = self._floor(now) - account.vtime
        if missed > 0:
            account.vtime += missed
            account.settled += missed

    def _floor(self, now: float) -> float:
        """Where the queue was ``MEMORY`` seconds ago."""
        history = self._history
        while len(history) > 1 and history[1][0] <= now - MEMORY:
            history.popleft()
        return history[0][1] if history and history[0][0] <= now - MEMORY else float("-inf")

    def served(self, account: _Account[P], now: float) -> None:
        """Note how far the queue has got."""
        self.vclock = max(self.vclock, account.settled)
        if not self._history or now >= self._history[-1][0] + 1.0:
            self._history.append((now, self.vclock))
            self._floor(now)

    def reweigh(self, account: _Account[P], new: int) -> None:
        """Give an account another weight; its distance from the others is what it is at that weight."""
        if new == account.weight:
            return
        ratio = account.weight / new
        account.vtime = self.vclock + (account.vtime - self.vclock) * ratio
        account.settled = self.vclock + (account.settled - self.vclock) * ratio
        account.weight = new
        self.requeue(account)

    def requeue(self, account: _Account[P]) -> None:
        """The account's runtime changed: its lines compete by the new one."""
        for group, line in account.lines.items():
            self.enter(group, line)

    def enter(self, group: str | None, line: _Line[P]) -> None:
        """Let a line compete by its present runtime and first call."""
        line.version = next(self._versions)
        heap = self.groups.setdefault(group, [])
        heapq.heappush(heap, (line.account.vtime, line.first().seq, line.version, line))
        if len(heap) > 64 + 4 * self.lines[group]:
            heap[:] = [entry for entry in heap if entry[3].version == entry[2]]
            heapq.heapify(heap)

    def best(self, group: str | None) -> _Entry[P]:
        """The first entry of a group that has waiting calls."""
        heap = self.groups[group]
        while heap[0][3].version != heap[0][2]:
            heapq.heappop(heap)
        return heap[0]

    def add(self, place: P, account: _Account[P]) -> None:
        line = account.lines.get(place.group)
        if line is None:
            line = account.lines[place.group] = _Line(account)
            self.lines[place.group] = self.lines.get(place.group, 0) + 1
        line.add(place, next(self._versions))
        account.waiting += 1
        self.counts[place.group] = self.counts.get(place.group, 0) + 1
        if line.first() is place:
            self.enter(place.group, line)

    def take(self, place: P, account: _Account[P]) -> None:
        """Remove a waiting place."""
        group = place.group
        line = account.lines[group]
        first = line.first() is place
        line.places.remove(place)
        account.waiting -= 1
        self.counts[group] -= 1
        if not line.places:
            line.version = 0
            del account.lines[group]
            self.lines[group] -= 1
        elif first:
            self.enter(group, line)
        if not self.counts[group]:
            del self.counts[group], self.groups[group], self.lines[group]

    def _sweep(self, now: float) -> None:
        """Forget agents that have not called for long; they come back as new ones anyway."""
        if now - self._swept < MEMORY:
            return
        self._swept = now
        for agent, account in list(self.accounts.items()):
            if not account.waiting and not account.running and now - account.idle_since >= MEMORY:
                del self.accounts[agent]


class FairQueue(Generic[P]):
    """Calls that wait, in the order in which they shall go. Pure: time is told to it, in seconds."""

    def __init__(self) -> None:
        self._classes: dict[Queue, _Class[P]] = {name: _Class() for name in CLASSES}
        self._places: dict[str, P] = {}
        self._seq = itertools.count(1)
        self.tokens = 0
        """Sum over the calls that wait."""

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, call: object) -> bool:
        return call in self._places

    def __iter__(self) -> Iterator[P]:
        return iter(list(self._places.values()))

    def groups(self) -> set[str | None]:
        """The groups calls wait in."""
        return {group for one in self._classes.values() for group in one.counts}

    def count(self, group: str | None) -> int:
        """How many calls of a group wait."""
        return sum(one.counts.get(group, 0) for one in self._classes.values())

    def tokens_of(self, group: str | None) -> int:
        """Sum over the calls of one group that wait."""
        return sum(place.tokens for place in self._places.values() if place.group == group)

    def push(self, place: P, now: float) -> None:
        """Let a call wait; one that waited before gets its old place among its agent's calls."""
        if not place.seq:
            place.seq = next(self._seq)
        one = self._classes[place.queue]
        account = one.account(place.agent, place.nice, now)
        self._places[place.call] = place
        self.tokens += place.tokens
        one.add(place, account)

    def pop(self, allowed: Callable[[str | None], bool], now: float) -> P | None:
        """Take the call that goes next out of the groups that may go, and charge it."""
        for one in self._classes.values():
            entry: _Entry[P] | None = None
            for group in one.counts:
                if allowed(group) and (entry is None or one.best(group) < entry):
                    entry = one.best(group)
            if entry is None:
                continue
            account, place = entry[3].account, entry[3].first()
            del self._places[place.call]
            self.tokens -= place.tokens
            one.served(account, now)
            account.running += 1
            account.vtime += _cost(place.tokens, account)
            one.take(place, account)
            if account.lines:
                one.requeue(account)
            return place
        return None

    def remove(self, place: P, now: float) -> None:
        """A waiting call leaves without having gone."""
        one = self._classes[place.queue]
        account = one.accounts[place.agent]
        del self._places[place.call]
        self.tokens -= place.tokens
        one.take(place, account)
        account.idle_since = now

    def settle(self, place: P, used: int, now: float) -> None:
        """A call that went is over, or has come back: charge the tokens it really used instead."""
        one = self._classes[place.queue]
        account = one.accounts[place.agent]
        account.running -= 1
        account.idle_since = now
        real = used * NORMAL / account.weight
        account.settled += real
        account.vtime = (
            account.settled if not account.running else account.vtime + real - _cost(place.tokens, account)
        )
        one.requeue(account)

    def renice(self, agent: str, nice: int) -> None:
        """Weigh an agent anew, in all classes, its waiting calls too."""
        for one in self._classes.values():
            account = one.accounts.get(agent)
            if account is not None:
                one.reweigh(account, weight(nice))
                for line in account.lines.values():
                    for place in line.places:
                        place.nice = nice


def _cost(tokens: int, account: _Account[P]) -> float:
    return max(1, tokens) * NORMAL / account.weight
