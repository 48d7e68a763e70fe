"""The books of one metered call: what is noted while it runs, and the truth when it has ended."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Literal

import anyio

from ..errors import AgentTopError
from ..journal.events import CallProgressed, CallSettled, CallStarted, Usage
from .heard import REQUEST_BYTES, Heard, Kept
from .http1 import Header
from .parts import Parts
from .protocols.base import RequestFacts, WireProtocol
from .providers import Provider
from .relay import Relay
from .routes import Route
from .tap import Tap

log = logging.getLogger("agenttop.gateway")
#: Of calls: unique and no more. Each kernel seeds its own from the system; asking that for every call costs
#: a system call.
_ids = random.Random()
Outcome = Literal["ok", "error", "client_cut", "upstream_cut", "unreachable", "crash", "refused"]


class Ledger:
    """Settles its call once, whatever becomes of it.

    Attributes:
        provider: Where the call was sent last; another than it asked for in a fallback.
        attempts: How often it was sent.
        sent_at: When it was sent last; ``None`` while it waits for its turn.
        unreached: Why its provider was not reached the last time.
        settled: Its truth was told to the desk (which may have failed to write it down).
    """

    def __init__(
        self, parts: Parts, route: Route, provider: Provider, operation: str, facts: RequestFacts
    ) -> None:
        assert route.protocol is not None
        self._parts = parts
        self.protocol: WireProtocol = route.protocol
        self.facts = facts
        self.provider = provider
        self.started = CallStarted(
            agent=route.caller.agent,
            run=route.caller.run,
            call=f"{_ids.getrandbits(64):016x}",
            provider=provider.name,
            protocol=self.protocol.name,
            operation=operation,
            model=facts.model,
            stream=facts.stream,
            client=facts.client,
        )
        self.asked_at = parts.clock.monotonic()
        self.sent_at: float | None = None
        self.attempts = 0
        self.unreached = ""
        self.settled = False
        self._noted = Usage()
        self._tap: Tap | None = None

    def open_tap(self) -> Tap:
        """A tap for the answer to the next attempt."""
        protocol, operation, limits = self.protocol, self.started.operation, self._parts.limits
        facts = self.facts
        self._tap = Tap(
            lambda head: protocol.reader(
                operation,
                head.status,
                head.lower,
                event_bytes=limits.event_bytes,
                answer_bytes=limits.answer_bytes,
                facts=facts,
            ),
            Kept() if self._parts.desk.hears is not None else None,
        )
        return self._tap

    def sent(self, provider: Provider) -> None:
        """The request goes out now."""
        self.provider = provider
        self.unreached = ""
        self.attempts += 1
        self.sent_at = self._parts.clock.monotonic()

    def tell(self, relay: Relay, headers: Sequence[Header], body: bytes) -> None:
        """Hand what was asked and answered to whoever remembers it, if anybody does."""
        hears, head = self._parts.desk.hears, relay.head
        kept = self._tap.kept if self._tap is not None else None
        if hears is None or kept is None or head is None:
            return
        started = self.started
        hears(
            Heard(
                started.agent,
                started.run,
                started.call,
                started.operation,
                self.facts.client,
                headers,
                body if len(body) <= REQUEST_BYTES else b"",
                len(body),
                kept.pieces,
                kept.cut or relay.ending not in ("complete", "last"),
                head.lower.get(b"content-type", b"").lower().startswith(b"text/event-stream"),
                head.status,
            )
        )

    def taken_back(self) -> None:
        """The answer was dropped or never came, and cost nothing: the call waits again."""
        self.sent_at = None
        self._tap = None

    def note(self) -> None:
        """Tell the desk what was used so far, if that is news."""
        if self._tap is None or self.sent_at is None:
            return
        usage = self._tap.usage()
        if usage != self._noted:
            self._noted = usage
            started = self.started
            self._parts.desk.progressed(CallProgressed(agent=started.agent, call=started.call, usage=usage))

    @property
    def error(self) -> str:
        """What the answer says went wrong."""
        return self._tap.error if self._tap is not None else ""

    async def settle_relayed(self, relay: Relay) -> bool:
        """Settle by what was seen of an answer; false if that could not be made durable."""
        ending = relay.ending
        reader = self._tap.reader if self._tap is not None else None
        status = relay.head.status if relay.head is not None else None
        error = self.error or relay.why
        if ending in ("complete", "last"):
            outcome, exact = self._judge(status or 0)
            if not exact and not error:
                error = "the answer did not tell its usage"
        else:
            outcome = _CUT.get(str(ending), "upstream_cut")
            # Headers alone tell nothing; a call that was never sent has cost nothing.
            exact = (reader is not None and reader.final) or self.sent_at is None
            if status is None and outcome == "upstream_cut":
                status = 504 if ending == "timeout" else 502
        return await self.settle(outcome, status=status, exact=exact, error=error, relay=relay)

    def _judge(self, status: int) -> tuple[Outcome, bool]:
        reader = self._tap.reader if self._tap is not None else None
        assert reader is not None
        if not 200 <= status < 300:
            return "error", True
        if reader.failed:
            return "error", reader.final or not reader.begun
        if reader.final:
            return "ok", True
        return ("upstream_cut" if reader.begun and not reader.ended else "ok"), False

    async def settle(
        self,
        outcome: Outcome,
        *,
        status: int | None = None,
        exact: bool = True,
        error: str = "",
        relay: Relay | None = None,
    ) -> bool:
        """Make the call's truth durable. False (and a log line) if the desk could not."""
        with anyio.CancelScope(shield=True):
            await self._parts.prices.ready()
            truth = self._truth(outcome, status, exact, error, relay)
            self.settled = True
            try:
                await self._parts.desk.settle(truth)
            except AgentTopError as problem:
                log.error("call %s could not be settled: %s", self.started.call, problem)
                return False
        return True

    def _truth(
        self, outcome: Outcome, status: int | None, exact: bool, error: str, relay: Relay | None
    ) -> CallSettled:
        started, facts = self.started, self.facts
        reader = self._tap.reader if self._tap is not None else None
        usage = self._tap.usage() if self._tap is not None else Usage()
        model = (reader.model if reader is not None else None) or started.model
        quote = self._parts.prices.quote(self.provider, model, usage)
        head = relay.head if relay is not None else None
        first = relay.first_at if relay is not None else None
        now, sent = self._parts.clock.monotonic(), self.sent_at
        return CallSettled(
            agent=started.agent,
            run=started.run,
            call=started.call,
            provider=self.provider.name,
            model=model,
            usage=usage,
            cost_usd=quote.cost,
            exact=exact,
            status=status,
            outcome=outcome,
            error=error[:500],
            stop_reason=reader.stop_reason if reader is not None else None,
            tools=reader.tools[:100] if reader is not None else [],
            context_limit=facts.context_limit or quote.context_limit,
            context_used=usage.context if facts.main_loop and usage.total else None,
            queued_seconds=(sent if sent is not None else now) - self.asked_at,
            attempts=self.attempts,
            first_token_seconds=first - sent if first is not None and sent is not None else None,
            seconds=now - sent if sent is not None else 0.0,
            request_id=self.protocol.request_id(head.lower) if head is not None else None,
        )


_CUT: dict[str, Outcome] = {"client_cut": "client_cut", "shutdown": "crash"}
