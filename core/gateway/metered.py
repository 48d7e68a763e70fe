"""A model call: admitted, given its turn, forwarded, read along, and settled once whatever happens."""

from __future__ import annotations

from ..errors import AgentTopError
from . import accounts
from .coding import accept_readable
from .desk import Asking, Refused
from .dial import Unreachable
from .http1 import BodyTooLarge, Header, ResponseHead
from .ledger import Ledger, Outcome
from .passage import Destination, Passage
from .patience import Patience
from .protocols.base import WireProtocol
from .providers import Provider
from .relay import Ending, Relay
from .routes import Answer

_AGAIN_AT_MOST = 60
"""Seconds; clients obey longer ones to the letter, and hang."""


class MeteredCall(Passage):
    """One model call. It may be sent several times before the client sees anything of it."""

    _ledger: Ledger | None = None
    _patience: Patience | None = None
    _body = b""
    _altered = False
    """What is sent is not the client's own body, but what the gateway made of it."""
    _refused_by = ""
    """The provider that did not take that: it gets the client's own, once."""

    @property
    def running(self) -> bool:
        """Whether the call was opened and is not settled yet."""
        return self._ledger is not None and not self._ledger.settled

    def tick(self, now: float, frozen: float) -> None:
        """Note progress; keep a waiting client waiting, or send it away; see ``Passage``."""
        ledger, patience = self._ledger, self._patience
        if ledger is None or patience is None or ledger.settled:
            return
        if self.relay is not None and self.relay.ending is None:
            ledger.note()
        if not patience.tick(now, frozen) and self._stopped is None:
            self.stop("impatience")
        super().tick(now, frozen)

    async def run(self) -> None:
        """See ``Passage``."""
        route, request, limits = self._route, self._request, self._parts.limits
        provider, protocol, operation = route.provider, route.protocol, route.operation
        assert provider is not None
        assert protocol is not None
        assert operation is not None
        too_long = Answer(413, f"the request is longer than {limits.body_bytes} bytes", protocol)
        if (request.length or 0) > limits.body_bytes:
            raise too_long
        try:
            body = await request.body.read(limits.body_bytes)
        except BodyTooLarge as error:
            raise too_long from error
        facts = protocol.read_request(operation, request.headers, body, route.path)
        self._body = body
        self._ledger = ledger = Ledger(self._parts, route, provider, operation, facts)
        keep_alive = protocol.keep_alive(operation, facts, route.target) if facts.stream else ()
        self._patience = Patience(self._client, limits, keep_alive, ledger.asked_at)
        account = (
            accounts.of(request.headers, route.target, protocol) if provider.auth == "passthrough" else ""
        )
        size = facts.body_bytes or len(body)
        asking = Asking(size, facts.max_tokens, facts.fingerprint, account, facts.stored_input)
        if await self._admitted(ledger, asking):
            await self._go(ledger, provider)

    # --- waiting for the desk

    async def _admitted(self, ledger: Ledger, asking: Asking) -> bool:
        try:
            await self._parts.desk.admit(ledger.started, asking)
        except Refused as refused:
            await self._refuse(ledger, refused)
            return False
        except AgentTopError as error:
            self._ledger = None
            self._error(error.status, str(error))
            return False
        except BaseException:
            await self._cut_short(ledger, "the client left while its call was held")
            raise
        return True

    async def _go(self, ledger: Ledger, provider: Provider) -> None:
        """An admitted call: whatever happens now, it is settled once."""
        try:
            await self._key(ledger, provider)
            relay = await self._attempts(ledger)
        except Refused as refused:
            await self._refuse(ledger, refused)
            return
        except AgentTopError as error:
            await ledger.settle("unreachable", status=error.status, error=str(error))
            self._error(error.status, str(error))
            return
        except BaseException:
            if self.relay is not None:
                self.relay.stop("client_cut")
            await self._cut_short(ledger, "the call was cut")
            raise
        await self._end(ledger, relay)

    async def _attempts(self, ledger: Ledger) -> Relay:
        """Send the call until there is an answer that the client is to have; the desk bounds that.

        Raises:
            Refused: The desk has had enough.
        """
        assert self._patience is not None
        name: str | None = None
        while True:
            if name is None:
                name = await self._parts.desk.turn(ledger.started)
            to = self._towards(name)
            name = None
            body = self._body_for(ledger, to.name)
            self.relay = relay = self._open(ledger, to)
            try:
                ending = await self._send(relay, to, body, False, self._sent, self._recalled)
            except Unreachable as error:
                self._lost(ledger, to, str(error))
                ledger.unreached = str(error)
            else:
                if ending in ("upstream_cut", "timeout"):
                    self._lost(ledger, to, relay.why)
                if ending != "again":
                    return relay
                if self._altered and self._refused_by == to.name:
                    name = to.name  # it is its turn still
            self.relay = None
            self._turning = False
            ledger.taken_back()
            self._patience.waiting = True
            if self._stopped is not None:
                self._cancel()  # it was left to the relay

    def _body_for(self, ledger: Ledger, name: str) -> bytes:
        changed = ledger.facts.body
        self._altered = changed is not None and name != self._refused_by and name not in self._parts.unaltered
        return changed if changed is not None and self._altered else self._body

    def _open(self, ledger: Ledger, to: Destination) -> Relay:
        """What takes the answer to the next attempt."""
        desk, patience, started = self._parts.desk, self._patience, ledger.started
        assert patience is not None
        name = to.name

        def decide(head: ResponseHead) -> bool:
            patience.waiting = False
            if self._altered and ledger.protocol.refuses_addition(head.status):
                self._refused_by = name
                return False
            if self._refused_by == name and 200 <= head.status < 300:
                self._parts.unaltered.add(name)
            return desk.answered(started, name, head.status, head.lower) == "pass"

        strip = ledger.protocol.stream_filter(started.operation, ledger.facts)
        return Relay(self._client, ledger.open_tap(), self._parts.clock, decide=decide, strip=strip)

    def _sent(self, to: Destination) -> None:
        ledger = self._ledger
        assert ledger is not None
        assert self._patience is not None
        assert to.provider is not None
        ledger.sent(to.provider)
        self._patience.sent()

    def _recalled(self) -> bool:
        assert self._ledger is not None
        return self._parts.desk.recalled(self._ledger.started)

    def _lost(self, ledger: Ledger, to: Destination, why: str) -> None:
        self._parts.desk.lost(ledger.started, to.name, why)

    def _towards(self, name: str) -> Destination:
        """The provider whose turn it is; it may be another than the one asked for.

        Raises:
            Refused: It cannot take this call.
        """
        asked = self._route.provider
        provider = asked if asked is not None and name == asked.name else self._parts.providers.get(name)
        if provider is None or asked is None or provider.protocol != asked.protocol:
            raise Refused("policy", f"{name} cannot take calls for {asked.name if asked else 'nobody'}")
        key = None if provider.auth == "passthrough" else self._parts.keys.get(provider)
        if key is None and (provider.auth == "inject" or provider is not asked):
            # Nobody's own credentials are shown to a provider they are not for.
            raise Refused("key", f"the provider key {provider.key_name or provider.name} is not there")
        return self._destination(provider, key)

    async def _key(self, ledger: Ledger, provider: Provider) -> None:
        if provider.auth == "inject" and self._parts.keys.get(provider) is None:
            await self._parts.desk.await_key(ledger.started, provider.key_name)

    # --- forwarding

    def _headers(self, to: Destination) -> list[Header]:
        """Ask only for content codings that the meter reads, and for none where events are cut out."""
        assert self._ledger is not None
        facts = self._ledger.facts
        plain = facts.strip_usage or self._client.started
        headers: list[Header] = []
        asked = False
        for name, value in super()._headers(to):
            lower = name.lower()
            if lower == b"accept-encoding":
                asked = True
                headers.append((name, b"identity" if plain else accept_readable(value)))
            elif lower != b"content-encoding" or not self._altered:
                headers.append((name, value))
        if plain and not asked:
            headers.append((b"Accept-Encoding", b"identity"))
        return headers

    # --- the end

    async def _end(self, ledger: Ledger, relay: Relay) -> None:
        """Settle, then let the client have the end of its answer."""
        ending = relay.ending
        assert ending is not None
        if not await ledger.settle_relayed(relay):
            return
        try:
            if ending in ("complete", "last"):
                relay.release()
                if relay.muted:
                    self._tell_muted(ledger, relay)
                    return
                if await relay.over():
                    return
            if not self._client.gone:
                self._give_up(ending, relay)
        finally:
            ledger.tell(relay, self._request.headers, self._body)

    def _give_up(self, ending: Ending, relay: Relay) -> None:
        """The client gets an error if its answer had not begun, else a cut."""
        if relay.begun or ending in ("client_cut", "shutdown"):
            self._client.cut()
        else:
            why = relay.why or "the provider closed the connection"
            self._error(504 if ending == "timeout" else 502, why)

    def _tell_muted(self, ledger: Ledger, relay: Relay) -> None:
        assert relay.head is not None
        status = relay.head.status
        why = ledger.error or f"the provider answered {status} without a stream"
        self._error(status if status >= 400 else 502, why)

    async def _refuse(self, ledger: Ledger, refused: Refused) -> None:
        protocol, operation = ledger.protocol, ledger.started.operation
        text = f"agenttop: {refused.message}"
        status, body = protocol.refusal(operation, refused.kind, text)
        outcome: Outcome = "unreachable" if ledger.unreached else "refused"
        await ledger.settle(outcome, status=status, error=ledger.unreached or refused.message)
        if self._client.gone:
            return
        if self._client.started:
            self._break_off(protocol, operation, status, text)
            return
        headers: list[Header] = [(b"x-should-retry", b"false")]
        if refused.kind == "throttled":
            again = refused.retry_after if refused.retry_after is not None else self._parts.limits.retry_after
            headers = [(b"retry-after", b"%d" % min(max(again, 1), _AGAIN_AT_MOST))]
        self._client.reply(status, body, headers)

    async def _cut_short(self, ledger: Ledger, error: str) -> None:
        """The task was cancelled: by a client that left, by the kernel's end, or by impatience."""
        if self._stopped == "impatience":
            text = f"no turn came within {self._parts.limits.patience_seconds:g} s"
            await self._refuse(ledger, Refused("throttled", text))
            return
        outcome: Outcome = "client_cut" if self._stopped == "client_cut" else "crash"
        await ledger.settle(outcome, exact=ledger.sent_at is None, error=error)

    def _error(self, status: int, message: str) -> None:
        """An error of the gateway's own; in the stream, where that has begun."""
        protocol, operation = self._route.protocol, self._route.operation
        assert protocol is not None
        if self._client.gone:
            return
        if self._client.started:
            self._break_off(protocol, operation or "", status, f"agenttop: {message}")
            return
        raise Answer(status, message, protocol, retry=True)

    def _break_off(self, protocol: WireProtocol, operation: str, status: int, text: str) -> None:
        self._client.write(protocol.error_event(operation, status, text))
        self._client.answered()
