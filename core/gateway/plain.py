"""A request that is not metered: it passes as it is, and is written down as having passed."""

from __future__ import annotations

from ..journal.events import RequestPassed
from .desk import Refused
from .dial import Unreachable
from .passage import Passage
from .relay import Relay
from .routes import Answer

_PATH = 500


class PlainRequest(Passage):
    """A model list, a token count, a file upload; or a request to a part of the kernel."""

    async def run(self) -> None:
        """See ``Passage``."""
        parts, route = self._parts, self._route
        provider = route.provider
        if provider is not None:
            try:
                await parts.desk.let_pass(route.caller.agent, provider.name)
            except Refused as refused:
                raise Answer(refused.status, refused.message, route.protocol) from refused
        key = parts.keys.get(provider) if provider is not None and provider.auth == "inject" else None
        if provider is not None and provider.auth == "inject" and key is None:
            raise Answer(503, f"the provider key {provider.key_name} is not there", route.protocol)
        body, more = await self._request.body.read_some(parts.limits.replay_bytes)
        begun = parts.clock.monotonic()
        self.relay = relay = Relay(self._client, None, parts.clock)
        status: int | None = None
        try:
            ending = await self._send(relay, self._destination(provider, key), body, more)
            status = {"complete": None, "client_cut": None, "timeout": 504}.get(ending, 502)
        except Unreachable as error:
            status = 502
            raise Answer(502, str(error), route.protocol, retry=True) from error
        except BaseException:
            relay.stop("client_cut")
            raise
        finally:
            self._passed(relay.head.status if relay.head is not None else status, begun)
        if ending != "complete":
            self._give_up(ending, relay)

    def _give_up(self, ending: str, relay: Relay) -> None:
        """The client gets an error if its answer had not begun, else a cut."""
        if self._client.gone:
            return
        if relay.begun or ending in ("client_cut", "shutdown"):
            self._client.cut()
            return
        why = relay.why or "the provider closed the connection"
        raise Answer(504 if ending == "timeout" else 502, why, self._route.protocol, retry=True)

    def _passed(self, status: int | None, begun: float) -> None:
        route = self._route
        if route.provider is None:
            return
        path = "".join(char if char.isprintable() else "?" for char in route.path[:_PATH])
        self._parts.desk.passed(
            RequestPassed(
                agent=route.caller.agent,
                run=route.caller.run,
                provider=route.provider.name,
                method=self._request.method,
                path=path,
                status=status,
                seconds=self._parts.clock.monotonic() - begun,
            )
        )
