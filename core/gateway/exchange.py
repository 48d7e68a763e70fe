"""One request of an agent, from its head to the end of its answer."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field
from typing import Literal

import anyio
import anyio.lowlevel

from ..budget.prices import Prices
from ..clock import Clock
from ..errors import AgentTopError
from ..journal.events import CallProgressed, CallSettled, CallStarted, Usage
from .coding import accept_readable
from .desk import Asking, Desk, Refused
from .dial import Unreachable
from .http1 import LAST_CHUNK as LAST
from .http1 import BodyTooLarge, ClientGone, Header, Request, chunk, end_to_end, render
from .limits import Limits
from .protocols.base import RequestFacts, WireProtocol
from .providers import KeyRing, Provider
from .relay import Ending, Relay
from .routes import AGENT_HEADER, Answer, KernelApp, Route, find
from .server import ClientConnection
from .tap import Tap
from .upstream import Pool, UpstreamConnection

log = logging.getLogger("agenttop.gateway")
_OWN = frozenset({b"host", b"content-length", b"expect", AGENT_HEADER})
Outcome = Literal["ok", "error", "client_cut", "upstream_cut", "unreachable", "crash", "refused"]


@dataclass(slots=True)
class Parts:
    """What every exchange works with."""

    desk: Desk
    providers: dict[str, Provider]
    apps: dict[str, KernelApp]
    keys: KeyRing
    prices: Prices
    clock: Clock
    limits: Limits
    pool: Pool


@dataclass(slots=True)
class Call:
    """The books of one metered call while it runs."""

    started: CallStarted
    facts: RequestFacts
    tap: Tap
    asked_at: float
    sent_at: float | None = None
    noted: Usage = field(default_factory=Usage)


class Exchange:
    """Takes one request through. ``run`` is its task; the rest is called by connections and the tick."""

    def __init__(self, parts: Parts, client: ClientConnection, request: Request) -> None:
        self._parts = parts
        self._client = client
        self._request = request
        self._relay: Relay | None = None
        self._call: Call | None = None
        self._scope: anyio.CancelScope | None = None
        self._turning = False
        """The answer's end is awaited, which a stopped relay brings about; no need to cancel."""
        self._stopped: Literal["client_cut", "shutdown"] | None = None

    # --- Handler

    def client_gone(self) -> None:
        """The client left: stop whatever is going on for it."""
        self._stop("client_cut")

    def client_room(self, room: bool) -> None:
        """The client takes more of its answer, or not."""
        if self._relay is not None:
            self._relay.client_room(room)

    # --- the gateway

    @property
    def metered(self) -> bool:
        """Whether this is a model call that was admitted or asks to be."""
        return self._call is not None

    def shut_down(self) -> None:
        """The kernel leaves and waits no longer."""
        self._stop("shutdown")

    def tick(self, now: float) -> None:
        """Note progress; give up on a provider that says nothing."""
        relay, call = self._relay, self._call
        if relay is None:
            return
        if call is not None and call.sent_at is not None and relay.ending is None:
            usage = call.tap.usage()
            if usage != call.noted:
                call.noted = usage
                self._parts.desk.progressed(
                    CallProgressed(agent=call.started.agent, call=call.started.call, usage=usage)
                )
        limit = self._parts.limits.upstream_seconds
        if relay.waiting_for_upstream and now - relay.seen_at > limit:
            relay.stop("timeout", f"the provider sent nothing for {limit:g} s")

    async def run(self) -> None:
        """From the request to the end of its answer. Never raises, except when cancelled."""
        # Not made in __init__: that runs in a protocol's callback, outside of any task.
        with anyio.CancelScope() as self._scope:
            if self._stopped is not None:
                self._scope.cancel()
            try:
                await self._serve()
            except Answer as answer:
                self._answer(answer)
            except ClientGone:
                pass
            except AgentTopError as error:
                log.warning("a request was not served: %s", error)
                self._answer(Answer(error.status, str(error), None, retry=error.status == 503))
            except Exception:
                log.exception("a request failed inside the gateway")
        if not self._client.gone and self._client.busy_with(self):
            self._client.cut()

    # --- inside

    def _stop(self, how: Literal["client_cut", "shutdown"]) -> None:
        if self._stopped is None:
            self._stopped = how
        if self._relay is not None:
            self._relay.stop(how, "the kernel was stopped" if how == "shutdown" else "")
        if not self._turning and self._scope is not None:
            self._scope.cancel()

    def _answer(self, answer: Answer) -> None:
        if self._client.gone or not self._client.busy_with(self):
            return
        if self._relay is not None and self._relay.head is not None:
            self._client.cut()
        else:
            self._client.reply(answer.status, answer.body, answer.headers)

    async def _serve(self) -> None:
        parts = self._parts
        route = find(self._request, parts.desk, parts.providers, parts.apps)
        log.debug("%s %s %s", route.caller.agent, self._request.method, route.path)
        if route.operation is not None and route.provider is not None and route.protocol is not None:
            await self._metered(route, route.provider, route.protocol, route.operation)
        else:
            await self._plain(route)

    # --- what is not metered

    async def _plain(self, route: Route) -> None:
        key = self._parts.keys.get(route.provider) if route.provider is not None else None
        if route.provider is not None and route.provider.auth == "inject" and key is None:
            raise Answer(503, f"the provider key {route.provider.key_name} is not there", route.protocol)
        body, more = await self._request.body.read_some(self._parts.limits.replay_bytes)
        headers = self._headers(route, key)
        self._relay = relay = Relay(self._client, None, self._parts.clock)
        try:
            ending = await self._forward(route, headers, body, more)
        except Unreachable as error:
            raise Answer(502, str(error), route.protocol, retry=True) from error
        except BaseException:
            relay.stop("client_cut")
            raise
        if ending != "complete":
            self._give_up(ending, relay, route.protocol)

    # --- what is

    async def _metered(
        self, route: Route, provider: Provider, protocol: WireProtocol, operation: str
    ) -> None:
        limits = self._parts.limits
        request = self._request
        if (request.length or 0) > limits.body_bytes:
            raise Answer(413, f"the request is longer than {limits.body_bytes} bytes", protocol)
        try:
            body = await request.body.read(limits.body_bytes)
        except BodyTooLarge as error:
            raise Answer(413, f"the request is longer than {limits.body_bytes} bytes", protocol) from error
        facts = protocol.read_request(operation, request.headers, body)
        call = self._open(route, provider, protocol, operation, facts)
        try:
            await self._parts.desk.admit(call.started, Asking(len(body), facts.max_tokens, facts.fingerprint))
        except Refused as refused:
            await self._refuse(call, refused, protocol)
            return
        except AgentTopError as error:
            self._call = None
            raise Answer(error.status, str(error), protocol, retry=True) from error
        except BaseException:
            await self._settle(call, self._early_outcome, error="the client left while its call was held")
            raise
        await self._go(call, route, provider, protocol, body)

    def _open(
        self, route: Route, provider: Provider, protocol: WireProtocol, operation: str, facts: RequestFacts
    ) -> Call:
        started = CallStarted(
            agent=route.caller.agent,
            run=route.caller.run,
            call=secrets.token_hex(8),
            provider=provider.name,
            protocol=protocol.name,
            operation=operation,
            model=facts.model,
            stream=facts.stream,
            client=facts.client,
        )
        limits = self._parts.limits
        tap = Tap(
            lambda head: protocol.reader(
                operation,
                head.status,
                head.lower,
                event_bytes=limits.event_bytes,
                answer_bytes=limits.answer_bytes,
            )
        )
        self._call = Call(started, facts, tap, self._parts.clock.monotonic())
        return self._call

    @property
    def _early_outcome(self) -> Outcome:
        return "client_cut" if self._stopped == "client_cut" else "crash"

    async def _go(
        self, call: Call, route: Route, provider: Provider, protocol: WireProtocol, body: bytes
    ) -> None:
        """An admitted call: whatever happens now, it is settled once."""
        relay = Relay(self._client, call.tap, self._parts.clock)
        try:
            key = await self._key(call, provider)
            headers = self._headers(route, key, readable=True)
            self._relay = relay
            ending = await self._forward(route, headers, body, more=False, call=call)
        except Refused as refused:
            await self._refuse(call, refused, protocol)
            return
        except Unreachable as error:
            await self._settle(call, "unreachable", status=502, error=str(error))
            raise Answer(502, str(error), protocol, retry=True) from error
        except AgentTopError as error:
            await self._settle(call, "unreachable", status=error.status, error=str(error))
            raise Answer(error.status, str(error), protocol) from error
        except BaseException:
            sent = call.sent_at is not None
            relay.stop("client_cut")
            await self._settle(call, self._early_outcome, exact=not sent, error="the call was cut")
            raise
        if not await self._settle_ending(call, ending, relay, protocol):
            return
        if ending in ("complete", "last"):
            relay.release()
            if await relay.over():
                return
        self._give_up(ending, relay, protocol)

    async def _key(self, call: Call, provider: Provider) -> str | None:
        if provider.auth == "passthrough":
            return None
        key = self._parts.keys.get(provider)
        if key is None:
            await self._parts.desk.await_key(call.started, provider.key_name)
            key = self._parts.keys.get(provider)
        if key is None:
            raise Refused("key", f"the provider key {provider.key_name} is not there")
        return key

    async def _refuse(self, call: Call, refused: Refused, protocol: WireProtocol) -> None:
        text = f"agenttop: {refused.message}"
        status, body = protocol.refusal(call.started.operation, refused.kind, text)
        await self._settle(call, "refused", status=status, error=refused.message)
        if not self._client.gone:
            again = refused.retry_after
            headers = [(b"x-should-retry", b"false")] if again is None else [(b"retry-after", b"%d" % again)]
            self._client.reply(status, body, headers)

    # --- forwarding

    def _headers(self, route: Route, key: str | None, *, readable: bool = False) -> list[Header]:
        drop = _OWN
        credentials: list[Header] = []
        if route.provider is None:
            credentials = [(AGENT_HEADER, route.caller.agent.encode())]
        elif key is not None and route.provider.auth == "inject" and route.protocol is not None:
            drop = drop | route.protocol.credential_headers
            credentials = route.protocol.credentials(key)
        headers = end_to_end(self._request.headers, drop)
        if readable:
            headers = [
                (name, accept_readable(value) if name.lower() == b"accept-encoding" else value)
                for name, value in headers
            ]
        return [(b"Host", route.origin.authority.encode()), *headers, *credentials]

    async def _forward(
        self, route: Route, headers: list[Header], body: bytes, more: bool, call: Call | None = None
    ) -> Ending:
        """Send the request and wait for the relay's turn; once more where a kept connection was stale.

        A second try is made only if the connection had been used before and ended before a single
        byte of the answer: the provider had closed it, the request was not worked on (RFC 9112, 9.3.1).
        """
        relay = self._relay
        assert relay is not None
        first = self._first_line(route, headers, len(body), more)
        fresh = more
        while True:
            await anyio.lowlevel.checkpoint_if_cancelled()
            upstream = await self._parts.pool.acquire(route.origin, fresh=fresh)
            if upstream.closing:
                raise Unreachable(f"{route.origin.authority} was not reached", "it closed the connection")
            relay.attach(upstream)
            upstream.begin(relay, self._request.method)
            if call is not None:
                call.sent_at = self._parts.clock.monotonic()
            upstream.send(first, chunk(body) if more and self._request.length is None else body)
            if more:
                await self._send_rest(upstream, relay)
            self._turning = True
            ending = await relay.turn()
            if ending == "upstream_cut" and upstream.used > 1 and not upstream.touched and not fresh:
                fresh = True
                self._turning = False
                relay.retry()
                continue
            return ending

    def _first_line(self, route: Route, headers: list[Header], size: int, more: bool) -> bytes:
        request = self._request
        if more:
            length = b"%d" % request.length if request.length is not None else None
            framing = (b"Transfer-Encoding", b"chunked") if length is None else (b"Content-Length", length)
            headers = [*headers, framing]
        elif request.has_body:
            headers = [*headers, (b"Content-Length", b"%d" % size)]
        return render(b"%b %b HTTP/1.1" % (request.method.encode(), route.target), headers)

    async def _send_rest(self, upstream: UpstreamConnection, relay: Relay) -> None:
        """Stream the rest of a long body, no faster than the provider takes it."""
        chunked = self._request.length is None
        upstream.sending = True
        while relay.ending is None:
            await relay.room.wait()
            data = await self._request.body.next()
            if data is None:
                if chunked:
                    upstream.send(LAST)
                upstream.sending = False
                return
            upstream.send(chunk(data) if chunked else data)
            relay.seen_at = self._parts.clock.monotonic()

    def _give_up(self, ending: Ending, relay: Relay, protocol: WireProtocol | None) -> None:
        """The client gets an error if its answer had not begun, else a cut."""
        if self._client.gone or not self._client.busy_with(self):
            return
        if relay.head is not None or ending in ("client_cut", "shutdown"):
            self._client.cut()
            return
        status = 504 if ending == "timeout" else 502
        self._answer(Answer(status, relay.why or "the provider closed the connection", protocol, retry=True))

    # --- the books

    async def _settle_ending(self, call: Call, ending: Ending, relay: Relay, protocol: WireProtocol) -> bool:
        """Settle by what was seen; false if that could not be made durable."""
        reader = call.tap.reader
        status = relay.head.status if relay.head is not None else None
        error = call.tap.error or relay.why
        final = reader is not None and reader.final
        if ending in ("complete", "last"):
            outcome, exact = self._judge(call, status or 0)
            if not exact and not error:
                error = "the answer did not tell its usage"
        else:
            outcome = {"client_cut": "client_cut", "shutdown": "crash"}.get(ending, "upstream_cut")  # type: ignore[assignment]
            # Headers alone tell nothing; a call that was never sent has cost nothing.
            exact = final or call.sent_at is None
            if status is None and outcome == "upstream_cut":
                status = 504 if ending == "timeout" else 502
        return await self._settle(
            call, outcome, status=status, exact=exact, error=error, relay=relay, protocol=protocol
        )

    def _judge(self, call: Call, status: int) -> tuple[Outcome, bool]:
        reader = call.tap.reader
        assert reader is not None
        if not 200 <= status < 300:
            return "error", True
        if reader.failed:
            return "error", reader.final or not reader.begun
        if reader.final:
            return "ok", True
        return ("upstream_cut" if reader.begun else "ok"), False

    async def _settle(
        self,
        call: Call,
        outcome: Outcome,
        *,
        status: int | None = None,
        exact: bool = True,
        error: str = "",
        relay: Relay | None = None,
        protocol: WireProtocol | None = None,
    ) -> bool:
        """Make the call's truth durable. False (and a log line) if the desk could not."""
        with anyio.CancelScope(shield=True):
            settled = await self._truth(call, outcome, status, exact, error, relay, protocol)
            self._call = None
            try:
                await self._parts.desk.settle(settled)
            except AgentTopError as problem:
                log.error("call %s could not be settled: %s", call.started.call, problem)
                return False
        return True

    async def _truth(
        self,
        call: Call,
        outcome: Outcome,
        status: int | None,
        exact: bool,
        error: str,
        relay: Relay | None,
        protocol: WireProtocol | None,
    ) -> CallSettled:
        parts, started, reader = self._parts, call.started, call.tap.reader
        now = parts.clock.monotonic()
        usage = call.tap.usage()
        model = (reader.model if reader is not None else None) or started.model
        provider = parts.providers[started.provider]
        await parts.prices.ready()
        quote = parts.prices.quote(provider, model, usage)
        head = relay.head if relay is not None else None
        first = relay.first_at if relay is not None else None
        sent = call.sent_at
        return CallSettled(
            agent=started.agent,
            run=started.run,
            call=started.call,
            provider=started.provider,
            model=model,
            usage=usage,
            cost_usd=quote.cost,
            exact=exact,
            status=status,
            outcome=outcome,
            error=error[:500],
            stop_reason=reader.stop_reason if reader is not None else None,
            tools=reader.tools[:100] if reader is not None else [],
            context_limit=call.facts.context_limit or quote.context_limit,
            context_used=usage.context if call.facts.main_loop and usage.total else None,
            queued_seconds=(sent if sent is not None else now) - call.asked_at,
            first_token_seconds=first - sent if first is not None and sent is not None else None,
            seconds=now - sent if sent is not None else 0.0,
            request_id=protocol.request_id(head.lower) if head is not None and protocol is not None else None,
        )
