"""One request of an agent, from its head to the end of its answer."""

from __future__ import annotations

import logging

import anyio

from ..errors import AgentTopError
from .http1 import ClientGone, Request
from .metered import MeteredCall
from .parts import Parts
from .passage import Passage, Stop
from .plain import PlainRequest
from .routes import Answer, Route, Stranger, find
from .server import ClientConnection
from .syscalls import Syscall

log = logging.getLogger("agenttop.gateway")


class Exchange:
    """Takes one request through. ``run`` is its task; the rest is called by connections and the tick."""

    def __init__(self, parts: Parts, client: ClientConnection, request: Request) -> None:
        self._parts = parts
        self._client = client
        self._request = request
        self._passage: Passage | None = None
        self._scope: anyio.CancelScope | None = None
        self._stopped: Stop | None = None

    # --- Handler

    def client_gone(self) -> None:
        """The client left: stop whatever is going on for it."""
        self._stop("client_cut")

    def client_room(self, room: bool) -> None:
        """The client takes more of its answer, or not."""
        if self._passage is not None and self._passage.relay is not None:
            self._passage.relay.client_room(room)

    # --- the gateway

    @property
    def metered(self) -> bool:
        """Whether this is a model call that was admitted or asks to be."""
        return isinstance(self._passage, MeteredCall) and self._passage.running

    @property
    def agent(self) -> str | None:
        """Whose request this is, once that is known."""
        return self._client.agent

    def shut_down(self) -> None:
        """The kernel leaves and waits no longer."""
        self._stop("shutdown")

    def tick(self, now: float, frozen: float) -> None:
        """Look at what takes long; ``frozen`` seconds since the last tick do not count."""
        if self._passage is not None:
            self._passage.tick(now, frozen)

    async def run(self, scope: anyio.CancelScope) -> None:
        """From the request to the end of its answer. Never raises, except when cancelled.

        Args:
            scope: The task's own; giving the request up cancels it.
        """
        self._scope = scope
        if self._stopped is not None:
            scope.cancel()
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
        finally:
            self._scope = None
            if not self._client.gone and self._client.busy_with(self):
                self._client.cut()

    # --- inside

    def _stop(self, how: Stop) -> None:
        if self._stopped is None:
            self._stopped = how
        if self._passage is not None:
            self._passage.stop(how)
        else:
            self._cancel()

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def _serve(self) -> None:
        parts, client, request = self._parts, self._client, self._request
        route = find(request, parts.desk, parts.providers, parts.apps)
        await self._vouched(route)
        log.debug("%s %s %s", route.caller.agent, request.method, route.path)
        kind: type[Passage] = PlainRequest if route.operation is None else MeteredCall
        if route.syscall is not None:
            kind = Syscall
        self._passage = kind(parts, client, request, route, self._cancel)
        await self._passage.run()

    async def _vouched(self, route: Route) -> None:
        """Hold the connection to its agent.

        Raises:
            Answer: The secret is somebody else's.
        """
        agent, client, vouch = route.caller.agent, self._client, self._parts.vouch
        if client.agent == agent:
            return
        if vouch is not None and not await vouch(agent, client.key, *client.ends):
            log.warning("a connection that is not %s's showed its secret", agent)
            raise Stranger("this address is another agent's", route.protocol, route.syscall is not None)
        client.agent = agent

    def _answer(self, answer: Answer) -> None:
        if self._client.gone or not self._client.busy_with(self):
            return
        if self._client.started:
            self._client.cut()
        else:
            self._client.reply(answer.status, answer.body, answer.headers)
