"""All lanes together: what the gateway's desk asks before and after each call."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import anyio

from ...api import ProviderInfo
from ...clock import Clock
from ..providers import CallLimits, Provider
from . import picture
from .lane import Lane
from .ticket import Ticket, Why
from .waiter import Verdict, Waiter, Waits

ACCOUNTS = 256
"""Lanes of clients' own accounts at most; the rest share their provider's."""

Moved = Callable[[str, Literal["closed", "open", "half-open"], str], None]
"""A breaker moved: the provider, its new state, and why."""


class Lanes:
    """The lanes of all providers. Runs on one event loop.

    For one call::

        provider = await lanes.enter(waiter, waits)      # its turn; may be cancelled
        verdict = lanes.answered(call, provider, status, headers)
        lanes.lost(call, provider, why)                  # instead: no answer; enter again, or leave
        lanes.leave(call, tokens)                        # once, however it ended

    Args:
        providers: By name.
        clock: Pacing is by its monotonic time.
        moved: Called when a provider's breaker moved.
        seed: Of the jitter in back-offs.
    """

    def __init__(
        self, providers: Mapping[str, Provider], clock: Clock, *, moved: Moved, seed: int | None = None
    ) -> None:
        self._clock = clock
        self._moved = moved
        jitter = random.Random(seed)
        self._jitter = jitter
        self._lanes = {name: Lane(provider, clock, jitter) for name, provider in providers.items()}
        self._accounts: dict[tuple[str, str], Lane] = {}
        """Of clients' own credentials: what one account has used up is not another's."""
        self._calls: dict[str, Ticket] = {}
        self._due: float | None = None
        """When ``run`` wakes by itself."""
        self._sooner = anyio.Event()

    # --- one call

    async def enter(self, waiter: Waiter, waits: Waits) -> str:
        """Wait for the call's turn; the provider it goes to.

        Entering again (after ``again`` or ``lost``) puts the call before its agent's others. When
        cancelled the call is forgotten, as after ``leave(call, None)``.

        Args:
            waiter: The call.
            waits: Called when it really has to wait, and again when the reason becomes another.
        """
        ticket = self._ticket(waiter)
        try:
            now = self._clock.monotonic()
            self._put(ticket, now)
            told: Why | None = None
            while ticket.granted is None:
                ticket.changed = anyio.Event()
                if ticket.why is not None and ticket.why != told:
                    told = ticket.why
                    waits(told.reason, told.detail)
                await ticket.changed.wait()
            ticket.changed = None
        except BaseException:
            self.leave(waiter.call, None)
            raise
        return ticket.granted

    def _ticket(self, waiter: Waiter) -> Ticket:
        ticket = self._calls.get(waiter.call)
        if ticket is None:
            ticket = Ticket(
                waiter.call, waiter.agent, waiter.queue, waiter.nice, max(0, waiter.tokens),
                model=waiter.model, home=waiter.provider, account=waiter.account,
            )  # fmt: skip
            self._calls[waiter.call] = ticket
        elif ticket.lane is not None:
            raise ValueError(f"the call {waiter.call} has entered already")
        ticket.nice, ticket.may_use = waiter.nice, waiter.may_use
        return ticket

    def answered(self, call: str, provider: str, status: int, headers: Mapping[bytes, bytes]) -> Verdict:
        """Learn from an answer's head (lower-case names). ``again``: 429 or 529, ask for another turn."""
        ticket = self._calls.get(call)
        if ticket is None or ticket.lane is None or not ticket.running:
            return "pass"
        lane, now = ticket.lane, self._clock.monotonic()
        if status >= 500 and status != 529:
            lane.rates.failed(now)
            if lane.breaker.failed(call, f"it answered {status}", now):
                self._broke(lane, now)
        elif lane.breaker.succeeded(call):
            self._mended(lane, now)
        verdict = lane.answered(ticket, status, headers, now)
        self._pump(lane, now)
        return verdict

    def lost(self, call: str, provider: str, why: str) -> None:
        """The provider was not reached, said nothing for too long, or cut its answer."""
        ticket = self._calls.get(call)
        if ticket is None or ticket.lane is None or not ticket.running:
            return
        lane, now = ticket.lane, self._clock.monotonic()
        # An answer that was cut after it had begun says nothing about the next one.
        broke = not ticket.answered and lane.breaker.failed(call, why, now)
        lane.lost(ticket, now)
        if broke:
            self._broke(lane, now)
        self._pump(lane, now)

    def leave(self, call: str, tokens: int | None) -> None:
        """The call is over: settled, refused or cancelled. Safe to call twice.

        Args:
            call: Its id; one that is not known is ignored.
            tokens: What it really used, input and output; ``None`` if nothing.
        """
        ticket = self._calls.pop(call, None)
        lane = ticket.lane if ticket is not None else None
        if ticket is None or lane is None:
            return
        now = self._clock.monotonic()
        if ticket.running:
            lane.finish(ticket, max(0, tokens or 0), now)
        else:
            lane.withdraw(ticket, now)
        self._pump(lane, now)

    def renice(self, agent: str, nice: int) -> None:
        """An agent's nice changed: its waiting calls are weighted by the new one from now on."""
        for lane in self._all():
            lane.queue.renice(agent, nice)
        for ticket in self._calls.values():
            if ticket.agent == agent:
                ticket.nice = nice

    # --- which lane

    def _all(self) -> Iterator[Lane]:
        yield from self._lanes.values()
        yield from self._accounts.values()

    def _of(self, provider: str) -> list[Lane]:
        """The lanes of one provider, its common one first."""
        return [
            self._lanes[provider],
            *(lane for (name, _), lane in self._accounts.items() if name == provider),
        ]

    def _home(self, ticket: Ticket, now: float) -> Lane:
        """The lane of the account that it uses; limits from the configuration are one for all accounts."""
        common = self._lanes[ticket.home]
        provider = common.provider
        if not ticket.account or provider.auth != "passthrough" or provider.models:
            return common
        if provider.limits != CallLimits():
            return common
        key = (ticket.home, ticket.account)
        lane = self._accounts.get(key)
        if lane is None:
            if len(self._accounts) >= ACCOUNTS:  # clients make them up as they like
                self._accounts = {key: lane for key, lane in self._accounts.items() if lane.used(now)}
            if len(self._accounts) >= ACCOUNTS:
                return common
            lane = self._accounts[key] = Lane(provider, self._clock, self._jitter, common.breaker)
        return lane

    def _put(self, ticket: Ticket, now: float) -> None:
        lane = self._route(ticket, now)
        lane.put(ticket, now)
        self._pump(lane, now)

    def _route(self, ticket: Ticket, now: float) -> Lane:
        """Its own provider's lane, or while that is broken the first of its fallbacks that takes the call."""
        home = lane = self._home(ticket, now)
        seen = {home.name}
        while lane.breaker.blocked_until(now) is not None and lane.provider.fallback is not None:
            following = self._lanes.get(lane.provider.fallback)
            if following is None or following.name in seen:
                return home
            if following.takes(now) and (ticket.may_use is None or following.name in ticket.may_use):
                return following
            lane = following
            seen.add(lane.name)
        return home

    def _broke(self, lane: Lane, now: float) -> None:
        self._moved(lane.name, "open", lane.breaker.why)
        for one in self._of(lane.name):
            one.gate.chill()
            self._rearrange(one.tickets(), now)

    def _mended(self, lane: Lane, now: float) -> None:
        self._moved(lane.name, "closed", "")
        away = [
            ticket
            for other in self._lanes.values()
            if other.name != lane.name
            for ticket in other.tickets()
            if ticket.home == lane.name
        ]
        self._rearrange(away, now)
        for one in self._of(lane.name):
            if one is not lane:
                self._pump(one, now)

    def _rearrange(self, tickets: list[Ticket], now: float) -> None:
        """Let waiting calls wait where they should now."""
        changed: dict[str, Lane] = {}
        for ticket in tickets:
            lane, old = self._route(ticket, now), ticket.lane
            if old is None or old is lane:
                continue
            old.withdraw(ticket, now)
            ticket.not_before = 0.0
            lane.put(ticket, now)
            changed[lane.name] = lane
            changed[old.name] = old
        for lane in changed.values():
            self._pump(lane, now)

    # --- time

    def _pump(self, lane: Lane, now: float) -> None:
        due = self._turn(lane, now)
        if due is not None and (self._due is None or due < self._due):
            self._sooner.set()

    def _turn(self, lane: Lane, now: float) -> float | None:
        _, moved, due = lane.pump(now)
        if moved:
            self._moved(lane.name, "half-open", lane.breaker.why)
        return due

    def tick(self) -> float | None:
        """Do what is due; seconds until something is again, ``None`` if only an event can change things."""
        now = self._clock.monotonic()
        dues = [self._turn(lane, now) for lane in self._all() if lane.waiting]
        self._due = min((due for due in dues if due is not None), default=None)
        return max(0.0, self._due - now) if self._due is not None else None

    async def run(self) -> None:
        """The timers; one task, owned by the kernel."""
        while True:
            self._sooner = anyio.Event()
            seconds = self.tick()
            with anyio.move_on_after(seconds if seconds is not None else float("inf")):
                await self._sooner.wait()

    # --- what is to be seen

    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return sum(lane.waiting for lane in self._all())

    def providers(self) -> list[ProviderInfo]:
        """Every provider as it stands; whether its key is there is not known here."""
        return [picture.together(self._of(name), self._clock) for name in self._lanes]

    def limit(self, provider: str) -> float | None:
        """Tokens a minute this provider takes, configured or learned; ``None`` where that is not known."""
        if provider not in self._lanes:
            return None
        known = [limit for lane in self._of(provider) if (limit := picture.tokens_a_minute(lane)) is not None]
        return sum(known) if known else None

    def demand(self) -> float | None:
        """What runs and waits over what may go: 1.0 is as much as the tightest limit bears in a minute.

        ``None`` where no limit is known.
        """
        loads = [load for lane in self._all() if (load := picture.load(lane)) is not None]
        return max(loads, default=None)
