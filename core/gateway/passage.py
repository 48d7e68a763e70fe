"""One request on its way to a provider: what the metered and the unmetered ones have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple
from urllib.parse import unquote_plus

import anyio.lowlevel

from .dial import Unreachable
from .http1 import LAST_CHUNK, Header, Request, chunk, end_to_end, render
from .parts import Parts
from .protocols.base import WireProtocol
from .providers import Origin, Provider
from .relay import Ending, Relay
from .routes import AGENT_HEADER, Route, joined
from .server import ClientConnection
from .upstream import UpstreamConnection

Stop = Literal["client_cut", "shutdown", "impatience"]
"""Why a request is given up: its client left, the kernel leaves, its client has waited long enough."""

_OWN = frozenset({b"host", b"content-length", b"expect", AGENT_HEADER})


class Destination(NamedTuple):
    """Where a request is sent, and with which key."""

    origin: Origin
    target: bytes
    provider: Provider | None
    protocol: WireProtocol | None
    key: str | None
    own_credentials: bool = False
    """The client's own credentials are meant for this provider."""

    @property
    def name(self) -> str:
        """The provider's, empty for a part of the kernel."""
        return self.provider.name if self.provider is not None else ""


class Passage(ABC):
    """Takes one request through.

    Args:
        cancel: Cancels the task that is in ``run``.

    Attributes:
        relay: The answer that is being passed on, if there is one.
    """

    def __init__(
        self,
        parts: Parts,
        client: ClientConnection,
        request: Request,
        route: Route,
        cancel: Callable[[], None],
    ) -> None:
        self.relay: Relay | None = None
        self._parts = parts
        self._client = client
        self._request = request
        self._route = route
        self._cancel = cancel
        self._turning = False
        """The answer's end is awaited, which a stopped relay brings about; no need to cancel."""
        self._stopped: Stop | None = None

    @abstractmethod
    async def run(self) -> None:
        """From the request to the end of its answer.

        Raises:
            Answer, AgentTopError: The client has nothing yet and is to get this.
            ClientGone: It left.
        """

    @property
    def agent(self) -> str:
        """Whose request this is."""
        return self._route.caller.agent

    def stop(self, how: Stop) -> None:
        """Give up whatever is going on."""
        if self._stopped is None:
            self._stopped = how
        if self.relay is not None and how != "impatience":
            self.relay.stop(how, "the kernel was stopped" if how == "shutdown" else "")
        if not self._turning:
            self._cancel()

    def tick(self, now: float, frozen: float) -> None:
        """Give up on a provider that says nothing.

        Args:
            frozen: Seconds since the last tick that the agent was frozen.
        """
        relay = self.relay
        if relay is None:
            return
        limit = self._parts.limits.upstream_seconds
        if relay.silent(now, frozen) > limit:
            relay.stop("timeout", f"the provider sent nothing for {limit:g} s")

    # --- forwarding

    def _destination(self, provider: Provider | None, key: str | None) -> Destination:
        """Where the route leads, or the same request at another provider of its protocol."""
        route = self._route
        target = route.target
        if provider is not None and route.provider is not None and provider is not route.provider:
            target = joined(provider.path, route.rest) or b"/"
        origin = route.origin if provider is route.provider or provider is None else provider.origin
        own = provider is route.provider
        if provider is not None and route.protocol is not None and (key is not None or not own):
            target = without(target, route.protocol.credential_queries)
        return Destination(origin, target, provider, route.protocol, key, own)

    async def _send(
        self,
        relay: Relay,
        to: Destination,
        body: bytes,
        more: bool,
        sent: Callable[[Destination], None] | None = None,
        recalled: Callable[[], bool] | None = None,
    ) -> Ending:
        """Send the request and wait for the relay's turn; once more where a kept connection was stale.

        A second try is made only if the connection had been used before and ended before a single
        byte of the answer: the provider had closed it, the request was not worked on (RFC 9112, 9.3.1).

        Args:
            more: ``body`` is only the beginning of it.
            sent: Called each time before the request goes out.
            recalled: Asked before that, with nothing awaited in between: true is ``again``.

        Raises:
            Unreachable: Nothing of the request was sent.
        """
        fresh = more
        while True:
            if self._stopped is not None:
                await anyio.lowlevel.checkpoint_if_cancelled()
            upstream = await self._parts.pool.acquire(to.origin, fresh=fresh)
            if self._stopped is not None:  # meanwhile: not one byte goes out any more
                upstream.release()
                await anyio.lowlevel.checkpoint_if_cancelled()
            if upstream.closing:
                raise Unreachable(f"{to.origin.authority} was not reached", "it closed the connection")
            if recalled is not None and recalled():
                upstream.release()
                return "again"
            relay.attach(upstream)
            upstream.begin(relay, self._request.method)
            if sent is not None:
                sent(to)
            head = self._head(to, len(body), more)
            upstream.send(head, chunk(body) if more and self._request.length is None else body)
            if more:
                await self._send_rest(upstream, relay)
            self._turning = True
            ending = await relay.turn()
            stale = ending == "upstream_cut" and upstream.used > 1 and not upstream.touched
            if not stale or fresh or self._stopped is not None:
                return ending
            fresh = True
            self._turning = False
            relay.retry()

    def _head(self, to: Destination, size: int, more: bool) -> bytes:
        request = self._request
        headers = self._headers(to)
        if more:
            length = b"%d" % request.length if request.length is not None else None
            framing = (b"Transfer-Encoding", b"chunked") if length is None else (b"Content-Length", length)
            headers.append(framing)
        elif request.has_body:
            headers.append((b"Content-Length", b"%d" % size))
        return render(b"%b %b HTTP/1.1" % (request.method.encode(), to.target), headers)

    def _headers(self, to: Destination) -> list[Header]:
        drop = _OWN
        host = to.origin.authority.encode()
        credentials: list[Header] = []
        if to.provider is None:
            credentials = [(AGENT_HEADER, self.agent.encode())]
            # A part of the kernel judges by itself which hosts it may be asked as.
            host = next((value for name, value in self._request.headers if name.lower() == b"host"), b"")
        elif to.protocol is not None:
            if to.key is not None or not to.own_credentials:
                drop = drop | to.protocol.credential_headers
            if to.key is not None:
                credentials = to.protocol.credentials(to.key)
        return [
            (b"Host", host),
            *end_to_end(self._request.headers, drop),
            *credentials,
        ]

    async def _send_rest(self, upstream: UpstreamConnection, relay: Relay) -> None:
        """Stream the rest of a long body, no faster than the provider takes it."""
        chunked = self._request.length is None
        upstream.sending = True
        while relay.ending is None:
            await relay.room.wait()
            data = await self._request.body.next()
            if data is None:
                if chunked:
                    upstream.send(LAST_CHUNK)
                upstream.sending = False
                return
            upstream.send(chunk(data) if chunked else data)
            relay.seen()


def without(target: bytes, names: frozenset[str]) -> bytes:
    """A request target without the query parameters of these (lower-case) names; the rest byte by byte."""
    path, question, query = target.partition(b"?")
    if not names or not question:
        return target
    pairs = query.split(b"&")
    kept = [p for p in pairs if unquote_plus(p.partition(b"=")[0].decode("latin-1")).lower() not in names]
    return target if len(kept) == len(pairs) else path + (question + b"&".join(kept) if kept else b"")
