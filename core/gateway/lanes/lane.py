"""One provider's lane: its queue, its gates, its breaker, and what is on its way."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from random import Random

from ...agents.states import Waiting
from ...clock import Clock
from ..providers import CallLimits, Provider
from . import heads, times
from .breaker import Breaker
from .fair import FairQueue
from .gate import Block, Gate, Pass
from .rates import Rates
from .ticket import Kind, Ticket, Why
from .waiter import Verdict

MODELS = 64
"""Models of which limits are learned, per provider."""


class Lane:
    """Decides; knows nothing of tasks. All its times are monotonic seconds."""

    def __init__(
        self, provider: Provider, clock: Clock, random: Random, breaker: Breaker | None = None
    ) -> None:
        self.provider = provider
        self._clock = clock
        self._random = random
        self.queue: FairQueue[Ticket] = FairQueue()
        self.breaker = breaker or Breaker()
        """One for all accounts of a provider: it is down for everybody."""
        self.gate = Gate(provider.limits, clock, random, cold=True)
        self._patterns = {
            pattern: Gate(limits, clock, random)
            for pattern, limits in sorted(provider.models.items(), key=lambda item: -len(item[0]))
        }
        self._models: dict[str, Gate] = {}
        """Learned from answers' heads; models under a pattern are not among them."""
        self.late: list[tuple[float, int, Ticket]] = []
        """Calls that were lost, and when they may try again."""
        self._tie = itertools.count()
        self._told: dict[str | None, Why] = {}
        self.rates = Rates()

    @property
    def name(self) -> str:
        """The provider's."""
        return self.provider.name

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self.queue) + len(self.late)

    def gates(self) -> Iterator[tuple[str | None, Gate]]:
        """All gates: the provider's own first, then those of models."""
        yield None, self.gate
        yield from self._patterns.items()
        yield from self._models.items()

    def tickets(self) -> list[Ticket]:
        """Everything that waits here."""
        return [*self.queue, *(ticket for _, _, ticket in sorted(self.late, key=lambda late: late[:2]))]

    # --- in and out

    def put(self, ticket: Ticket, now: float) -> None:
        """Let a call wait here."""
        ticket.lane = self
        if ticket.not_before > now:
            heapq.heappush(self.late, (ticket.not_before, next(self._tie), ticket))
            ticket.tell(self._lost_why(ticket, now))
            return
        ticket.group = self._group(ticket.model)
        self.queue.push(ticket, now)
        ticket.tell(self._told.get(ticket.group))

    def withdraw(self, ticket: Ticket, now: float) -> None:
        """A waiting call waits here no more."""
        ticket.lane = None
        if ticket.call in self.queue:
            self.queue.remove(ticket, now)
        else:
            self.late = [late for late in self.late if late[2] is not ticket]
            heapq.heapify(self.late)

    def _group(self, model: str | None) -> str | None:
        if model is None:
            return None
        for pattern in self._patterns:
            if fnmatchcase(model, pattern):
                return pattern
        return model if model in self._models else None

    def _model_gate(self, group: str | None) -> Gate | None:
        return None if group is None else self._patterns.get(group) or self._models.get(group)

    def takes(self, now: float) -> bool:
        """Whether a call that another provider cannot take has a future here."""
        return self.breaker.blocked_until(now) is None and self.gate.closed_until(now) is None

    def used(self, now: float) -> bool:
        """Whether anything would be forgotten with it."""
        return bool(self.waiting or self.gate.running or self.gate.closed_until(now) is not None)

    # --- whose turn it is

    def pump(self, now: float) -> tuple[list[Ticket], bool, float | None]:
        """Let go whatever may.

        Returns:
            The calls that go, whether the breaker moved to half-open, and when to look again (``None``:
            only an event can change things).
        """
        gone: list[Ticket] = []
        moved = False
        due = self._return_late(now)
        while self.queue:
            block = self._block(now)
            if block is not None:
                due = _earlier(due, block.due)
                break
            ticket = self.queue.pop(lambda group: self._model_block(group, now) is None, now)
            if ticket is None:
                for group in self.queue.groups():
                    block = self._model_block(group, now)
                    due = _earlier(due, block.due if block is not None else None)
                break
            moved |= self._go(ticket, now)
            gone.append(ticket)
        self._explain(now)
        return gone, moved, due

    def _return_late(self, now: float) -> float | None:
        while self.late and self.late[0][0] <= now:
            self.put(heapq.heappop(self.late)[2], now)
        return self.late[0][0] if self.late else None

    def _block(self, now: float) -> Block | None:
        until = self.breaker.blocked_until(now)
        return Block("closed", until) if until is not None else self.gate.block(now)

    def _model_block(self, group: str | None, now: float) -> Block | None:
        gate = self._model_gate(group)
        return gate.block(now) if gate is not None else None

    def _go(self, ticket: Ticket, now: float) -> bool:
        gates = [self.gate, self._model_gate(ticket.group)]
        ticket.passes = [(gate, Pass(ticket.call, ticket.tokens)) for gate in gates if gate is not None]
        for gate, gone in ticket.passes:
            gate.take(gone, now)
        ticket.running, ticket.answered, ticket.granted, ticket.why = True, False, self.name, None
        ticket.not_before = 0.0
        self.rates.called(now)
        ticket.wake()
        return self.breaker.granted(ticket.call, now)

    # --- what became of it

    def answered(self, ticket: Ticket, status: int, head: Mapping[bytes, bytes], now: float) -> Verdict:
        """The head of an answer; ``again`` gives the call's turn back."""
        ticket.answered = True
        wall = self._clock.time()
        if status in (429, 529):
            self.rates.failed(now)
            self._turned_away(ticket, status, head, now, wall)
            self.finish(ticket, 0, now)
            return "again"
        if status < 500:
            for gate, gone in ticket.passes:
                gate.passed(gone)
        told = heads.limits(head, wall)
        if told:
            self._learn(ticket, told, status, now)
        ticket.losses = 0
        return "pass"

    def _turned_away(
        self, ticket: Ticket, status: int, head: Mapping[bytes, bytes], now: float, wall: float
    ) -> None:
        retry = heads.retry_after(head, wall)
        of_model = status == 429 and not heads.account_wide(head) and self._model_says(ticket, head, wall)
        for gate, gone in ticket.passes:
            if (gate is self.gate) != of_model:
                gate.turned_away(gone, retry, now)
            elif of_model:
                gate.passed(gone)
        if told := heads.limits(head, wall):
            self._learn(ticket, told, status, now)

    def _model_says(self, ticket: Ticket, head: Mapping[bytes, bytes], wall: float) -> bool:
        """Whether this 429 is about the call's model alone: limits of its own are used up."""
        gate = self._model_gate(ticket.group)
        if gate is None or all(known is not gate for known, _ in ticket.passes):
            return False
        return bool(gate.learned) and heads.used_up(head, wall)

    def _learn(self, ticket: Ticket, told: list[heads.Told], status: int, now: float) -> None:
        """Providers limit models each on its own, so what a head tells is about the model that was asked."""
        if ticket.model is None:
            self.gate.learn(told, now)
            return
        group = self._group(ticket.model)
        if group is None:
            if status >= 400 or not self._room():
                return
            group = ticket.model
            self._models[group] = Gate(CallLimits(), self._clock, self._random)
            self._regroup(group, now)
        gate = self._model_gate(group)
        if gate is not None:
            gate.learn(told, now)

    def _room(self) -> bool:
        """Whether one more model may be learned; one that nobody uses now makes room for it."""
        if len(self._models) < MODELS:
            return True
        for name, gate in self._models.items():
            if not gate.running and not self.queue.count(name):
                del self._models[name]
                return True
        return False

    def _regroup(self, group: str, now: float) -> None:
        for ticket in self.queue:
            if ticket.group is None and ticket.model == group:
                self.queue.remove(ticket, now)
                ticket.group = group
                self.queue.push(ticket, now)

    def lost(self, ticket: Ticket, now: float) -> None:
        """The call was not answered; it may try again after a little while."""
        self.rates.failed(now)
        if ticket.answered:
            return
        ticket.losses += 1
        pause = min(30.0, 0.5 * 2.0 ** min(10, ticket.losses - 1))
        ticket.not_before = now + pause * self._random.uniform(0.8, 1.2)
        self.finish(ticket, 0, now)

    def finish(self, ticket: Ticket, used: int, now: float) -> None:
        """A call that went is over, or has come back, having used so many tokens."""
        for gate, gone in ticket.passes:
            gate.give_back(gone, used, now)
        ticket.passes = []
        ticket.running, ticket.granted, ticket.lane = False, None, None
        self.breaker.given_up(ticket.call, now)
        self.queue.settle(ticket, used, now)

    # --- why the rest waits

    def _explain(self, now: float) -> None:
        if not self.queue:
            self._told.clear()
            return
        groups = self.queue.groups()
        for group in [known for known in self._told if known not in groups]:
            del self._told[group]
        for group in groups:
            self._explain_group(group, now)

    def _explain_group(self, group: str | None, now: float) -> None:
        kind, end, block = self._state(group, now)
        old = self._told.get(group)
        if old is not None:
            # One limit or another, or that a call tries it: no news for a person who was told.
            if kind == "probe" or kind == old.kind == "limit":
                return
            if kind == old.kind and old.end is not None and end is not None and abs(old.end - end) < 0.5:
                return
        elif kind == "probe" and self.breaker.state != "half-open":
            return  # it takes a moment
        why = self._why(kind, end, now, block)
        self._told[group] = why
        for ticket in self.queue:
            if ticket.group == group:
                ticket.tell(why)

    def _state(self, group: str | None, now: float) -> tuple[Kind, float | None, Block | None]:
        """What keeps a group back, until when, and the limit if it is one."""
        until = self.breaker.blocked_until(now)
        if until is not None:
            return ("probe", None, None) if self.breaker.state == "half-open" else ("broken", until, None)
        for gate in (self.gate, self._model_gate(group)):
            block = gate.block(now) if gate is not None else None
            if gate is None or block is None or block.kind == "probe":
                continue
            if block.kind == "closed":
                return "closed", gate.closed_until(now), None
            return "limit", None, block
        return "probe", None, None

    def _why(self, kind: Kind, end: float | None, now: float, block: Block | None = None) -> Why:
        wall = self._clock.time()
        moment = times.until(wall + (end or now) - now, wall)
        if block is not None:
            return Why(kind, Waiting.RATE_LIMIT, f"{self.name}: {block.detail}")
        if kind == "closed":
            return Why(kind, Waiting.RATE_LIMIT, f"{self.name} until {moment}", end)
        trying = "one call tries it now" if kind == "probe" else f"next try {moment}"
        return Why(kind, Waiting.DEPENDENCY, f"{self.name} unreachable, {trying}", end)

    def _lost_why(self, ticket: Ticket, now: float) -> Why:
        return self._why("lost", ticket.not_before, now)


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
