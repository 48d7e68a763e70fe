"""The gateway's desk in the kernel: who calls, may the call go now, and what it cost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import anyio

from ..agents.states import Waiting
from ..budget import soft
from ..budget.prices import Prices
from ..budget.state import Approval
from ..budget.verdict import Unpriced
from ..budget.worst import WorstCase
from ..clock import Clock
from ..errors import ConfigError, JournalUnavailable
from ..journal import events as ev
from ..journal.books import Books
from ..journal.events import CallProgressed, CallSettled, CallStarted, RequestPassed
from . import policy
from .admission import Admission
from .desk import Asking, Caller
from .gate import Gate
from .gauges import Gauges
from .heard import Hears
from .holding import Holding
from .identity import Identity
from .jobs import Jobs
from .lanes import Lanes, Waiter
from .meters import Meters
from .providers import KeyRing, Provider
from .runaway import Bars, Runaway
from .suspicion import Suspicion

log = logging.getLogger(__name__)

Answer = Literal["once", "extend", "allow", "deny", "kill"]


@dataclass(slots=True)
class _Open:
    """A call between its admission and its settlement."""

    started: CallStarted
    asking: Asking
    holding: Holding
    tokens: int
    """What it will probably use, for its place in the queue."""


class _Never:
    """No agent is ever a runaway."""

    enabled = False
    identical = near = floor = 2**31
    window = rate = 1.0


class CallDesk:
    """Implements ``Desk`` on the kernel's books.

    Args:
        providers: By name; those the gateway forwards to.
        unpriced: What becomes of calls without a known price under a budget in USD.
        runaway: When an agent seems to run in circles; ``None`` never asks.
    """

    def __init__(
        self,
        books: Books,
        meters: Meters,
        identity: Identity,
        prices: Prices,
        clock: Clock,
        keys: KeyRing,
        *,
        providers: Mapping[str, Provider] | None = None,
        unpriced: Unpriced = "pass",
        runaway: Bars | None = None,
    ) -> None:
        self._books = books
        self._identity = identity
        self._keys = keys
        self._providers = providers or {}
        self._prices = prices
        self._clock = clock
        self._open: dict[str, _Open] = {}
        self._supplied: set[str] = set()
        self._refolded = anyio.Event()
        self.jobs = Jobs()
        """Its ``acts`` are the kernel's verbs; set before ``run``."""
        self.hears: Hears | None = None
        """Who is told what was said in each call, after its settlement."""
        self.missing_keys: dict[str, int] = {}
        """Provider key names that calls wait for, with how many calls wait."""
        self.gauges = Gauges(books, meters, clock)
        self.gate = Gate(books)
        self.suspicion = Suspicion(books, clock, self.gate, Runaway(runaway or _Never()))
        self.worst = WorstCase(prices, providers or {})
        self.lanes = Lanes(providers or {}, clock, moved=self._breaker_moved)
        self.admission = Admission(books, clock, self.gate, self.jobs.do, unpriced)
        books.listen(self._committed)
        books.on_refold(lambda: self._refolded.set())

    async def run(self) -> None:
        """Timers of windows and queues, and what budgets do to agents. One task, owned by the kernel."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.jobs.run, name="jobs")
            tasks.start_soon(self.admission.run, name="budget windows")
            tasks.start_soon(self.lanes.run, name="lanes")
            tasks.start_soon(self._settle_lost, name="lost calls")
            tasks.start_soon(self.gauges.rebuild, name="gauges")

    # --- who -------------------------------------------------------------------------------------

    def identify(self, secret: str) -> Caller | None:
        """The agent this secret belongs to, while it lives."""
        agent_id = self._identity.agent(secret, self._books.pending.agents)
        agent = self._books.pending.agents.get(agent_id) if agent_id else None
        if agent is None or agent.run is None or not (agent.live or self.gate.excused(agent)):
            return None
        return Caller(agent.id, agent.run.number)

    def frozen(self, agent: str) -> bool:
        """Whether the agent's processes are stopped."""
        record = self._books.pending.agents.get(agent)
        return record is not None and record.freeze is not None

    # --- may it go -------------------------------------------------------------------------------

    async def admit(self, started: CallStarted, asking: Asking) -> None:
        """Return when the call and its reservation are durable.

        Raises:
            Refused: The agent is gone, may not make such calls, or has no money for it.
            JournalUnavailable: The journal takes nothing.
        """
        agent = self.gate.agent(started.agent)
        policy.check(agent, started)
        await self.worst.ready()
        holding = Holding(self._books, started.agent, started.call)
        need = self.worst.of(
            started.agent,
            started.provider,
            started.model,
            asking.body_bytes,
            asking.max_output,
            agent.spec.providers,
            stored_input=asking.stored_input,
        )
        tokens = self.worst.usual(started.agent, started.model, asking.body_bytes)
        # Known before it is written down: what is in the books and not known here was lost (_settle_lost).
        self._open[started.call] = _Open(started, asking, holding, min(tokens, need.tokens))
        try:
            cleared = await self.suspicion.cleared(started, asking.fingerprint, holding)
            await self.admission.enter(cleared, need, holding)
        except BaseException:
            del self._open[started.call]
            raise
        finally:
            self.suspicion.left(started.call)

    async def turn(self, started: CallStarted) -> str:
        """The provider the call goes to, now that it is its turn and nobody holds its agent.

        Raises:
            Refused: The agent is gone.
        """
        opened = self._open[started.call]
        agent = self.gate.agent(started.agent)
        while True:
            if self.gate.closed(agent):
                await self.gate.wait(agent.id, opened.holding)
            agent = self.gate.agent(started.agent)
            waiter = Waiter(
                started.call,
                agent.id,
                started.provider,
                started.model,
                agent.nice,
                agent.spec.queue,
                opened.tokens,
                agent.spec.providers,
                opened.asking.account,
            )
            provider = await self.lanes.enter(waiter, opened.holding.because)
            agent = self.gate.agent(started.agent)
            if not self.gate.closed(agent):
                opened.holding.over()
                return provider
            self.lanes.leave(started.call, None)  # held while it queued: others go first

    def recalled(self, started: CallStarted) -> bool:
        """Whether its agent was held, halted or ended since its turn came; it gives that back then."""
        agent = self._books.pending.agents.get(started.agent)
        able = agent is not None and (agent.live or self.gate.excused(agent))
        if agent is not None and able and not self.gate.closed(agent):
            return False
        self.lanes.leave(started.call, None)
        return True

    def answered(
        self, started: CallStarted, provider: str, status: int, headers: Mapping[bytes, bytes]
    ) -> Literal["pass", "again"]:
        """Let the lanes learn from an answer; they may want the call back."""
        verdict = self.lanes.answered(started.call, provider, status, headers)
        if verdict == "again":
            self._throttled(started, provider, status, _seconds(headers.get(b"retry-after")))
        return verdict

    def lost(self, started: CallStarted, provider: str, why: str) -> None:
        """The provider did not answer, or not to the end."""
        self.lanes.lost(started.call, provider, why)
        self._throttled(started, provider, None, None)

    def _throttled(
        self, started: CallStarted, provider: str, status: int | None, retry_after: float | None
    ) -> None:
        self._note(
            ev.CallThrottled(
                agent=started.agent,
                call=started.call,
                provider=provider,
                status=status,
                retry_after=retry_after,
            )
        )

    def _breaker_moved(self, provider: str, state: str, why: str) -> None:
        self._note(ev.BreakerMoved.model_validate({"provider": provider, "state": state, "why": why}))

    # --- keys ------------------------------------------------------------------------------------

    async def await_key(self, started: CallStarted, name: str) -> None:
        """Wait until a client has supplied the provider key ``name``; the row says what is missing."""
        holding = self._open[started.call].holding
        holding.because(Waiting.DEPENDENCY, f"key {name}")
        self.missing_keys[name] = self.missing_keys.get(name, 0) + 1
        try:
            while name not in self._supplied:
                self.gate.agent(started.agent)
                await self.gate.changed()
        finally:
            self.missing_keys[name] -= 1
            if not self.missing_keys[name]:
                del self.missing_keys[name]
        holding.over()

    def supply(self, keys: Mapping[str, str]) -> None:
        """Take provider keys that a client of the owner has; calls that waited for them go on."""
        for name, key in keys.items():
            if key:
                self._keys.supply(name, key)
                self._supplied.add(name)
        self.wake()

    def came(self, name: str) -> None:
        """The provider key of this name is there now; calls that waited for it go on."""
        self._supplied.add(name)
        self.wake()

    def wake(self) -> None:
        """Something that calls wait for may have come: a key, a resume."""
        self.gate.wake()

    # --- what people decide ----------------------------------------------------------------------

    def opened(self, call: str) -> CallStarted | None:
        """What a call asked for that is neither settled nor given up."""
        opened = self._open.get(call)
        return opened.started if opened is not None else None

    def waits(self, approval: Approval) -> bool:
        """Whether a call still waits for this answer; else its client gave up."""
        return self.suspicion.waits(approval) or self.admission.waits(approval)

    async def answer(self, approval: Approval, events: Sequence[ev.Event], answer: Answer, by: str) -> None:
        """Write an answer down and act on it: what waits goes on, or ends; durable on return.

        Raises:
            JournalUnavailable: Nothing was decided.
        """
        waits = self.waits(approval)
        await self._books.commit(*events)
        if answer == "kill":
            self.jobs.do("kill", approval.agent, by)
            return
        if approval.budget is not None:
            self.jobs.do("thaw", approval.agent, f"budget {approval.budget}")
        if not waits and answer != "deny":
            self.jobs.do("resume", approval.agent, by)

    # --- what it cost ----------------------------------------------------------------------------

    def progressed(self, event: CallProgressed) -> None:
        """Note what was seen of a running call so far; a lost note only makes a crash's estimate worse."""
        self._note(event)

    async def let_pass(self, agent: str, provider: str) -> None:
        """See ``Desk``: what is not metered follows the policy and the kill switch, too.

        Raises:
            Refused: It may not pass.
        """
        policy.check_provider(self.gate.agent(agent), provider)
        while self._books.pending.halted:
            await self.gate.changed()
            self.gate.agent(agent)

    def passed(self, event: RequestPassed) -> None:
        """Note a request that is not metered."""
        self._note(event)

    def _note(self, event: ev.Event) -> None:
        try:
            self._books.post(event)
        except JournalUnavailable as error:
            log.debug("%s not noted: %s", event.kind, error)

    async def settle(self, event: CallSettled) -> None:
        """Durable on return, however long the disk takes."""
        opened = self._open.get(event.call)
        self.lanes.leave(event.call, event.usage.total or None)
        if event.error and (key := self._key(event.provider)) and key in event.error:
            # Some providers say which key it was that they did not like.
            event = event.model_copy(update={"error": event.error.replace(key, "[key]")})
        if opened is not None and event.outcome == "ok":
            self.suspicion.answered(event.agent, opened.asking.fingerprint)
        learns = event.exact and event.outcome == "ok"
        if opened is not None and learns and not opened.asking.stored_input:
            self.worst.learned(event.agent, opened.started.model, opened.asking.body_bytes, event.usage)
        try:
            await self._books.record(event)
        finally:
            self._open.pop(event.call, None)
        for warned in soft.passed(self._books.pending, event.agent, self.admission.now):
            self._note(warned)

    def _key(self, provider: str) -> str | None:
        known = self._providers.get(provider)
        try:
            return self._keys.get(known) if known is not None else None
        except ConfigError:  # its file cannot be used any more
            return None

    async def _settle_lost(self) -> None:
        """Calls whose start is in the journal although its commit seemed to fail were never forwarded."""
        while True:
            await self._refolded.wait()
            self._refolded = anyio.Event()
            await self._books.healthy()
            try:
                await self.settle_crashed()
            except JournalUnavailable as error:  # it failed again; so it will be folded again
                log.debug("lost calls are not settled yet: %s", error)

    async def settle_crashed(self) -> int:
        """Settle the calls that a crash of the kernel cut, from their last noted progress.

        Returns how many there were.
        """
        calls = [
            (agent, call)
            for agent in self._books.pending.agents.values()
            for call in agent.calls.values()
            if call.id not in self._open
        ]
        if not calls:
            return 0
        await self._prices.ready()
        cut = [
            CallSettled(
                agent=agent.id,
                call=call.id,
                run=call.run,
                provider=call.provider or "unknown",
                model=call.model,
                usage=call.usage,
                cost_usd=self._prices.quote(call.provider, call.model, call.usage).cost,
                exact=not call.provider,  # held before it was admitted: it was sent nowhere
                outcome="crash",
                error="the kernel was killed during this call",
                seconds=max(0.0, self._clock.time() - call.started),
            )
            for agent, call in calls
        ]
        await self._books.commit(*cut)
        return len(cut)

    def _committed(self, batch: Sequence[tuple[ev.Record, ev.Event]]) -> None:
        for _, event in batch:
            match event:
                case ev.AgentRemoved():
                    self._identity.forget(event.agent)
                    self.worst.forget(event.agent)
                    self.suspicion.forget(event.agent)
                case ev.NiceChanged():
                    self.lanes.renice(event.agent, event.nice)


def _seconds(value: bytes | None) -> float | None:
    """A ``retry-after`` in seconds; ``None`` for none, or a date."""
    try:
        seconds = float(value or b"")
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e9 else None
