"""The gateway: every model call of every managed agent passes here, and is metered here."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import anyio.lowlevel

from ..budget.prices import Prices
from ..clock import Clock, SystemClock
from ..errors import AgentTopError
from .desk import Desk
from .dial import Dialer
from .exchange import Exchange
from .http1 import Request
from .limits import Limits
from .parts import Parts, Vouch
from .pool import Pool
from .providers import KeyRing, Provider, check_providers
from .routes import KernelApp
from .server import ClientConnection
from .syscalls import SyscallDoor

log = logging.getLogger("agenttop.gateway")
_SPARE_WORKERS = 64
_AT_ONCE = 16
"""Exchanges that are looked at in one go."""


class Gateway:
    """A pass-through proxy for model calls.

    Args:
        desk: The kernel's books.
        providers: By name; the names are the path segments agents use.
        keys: Provider keys.
        apps: Parts of the kernel that agents reach as ``/a/<secret>/<name>``.
        environ: For ``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``; default: the process's own.
        vouch: Whether a connection may show an agent's secret (see ``Peers``); asked once for each.
        syscalls: Answers ``/a/<secret>/sys/<name>``.

    ``async with gateway.running():`` owns every task; ``serve`` works inside it only.
    """

    def __init__(
        self,
        desk: Desk,
        providers: Mapping[str, Provider],
        keys: KeyRing,
        clock: Clock | None = None,
        limits: Limits | None = None,
        *,
        prices: Prices | None = None,
        apps: Mapping[str, KernelApp] | None = None,
        environ: Mapping[str, str] | None = None,
        vouch: Vouch | None = None,
        syscalls: SyscallDoor | None = None,
    ) -> None:
        check_providers(providers)
        self.clock = clock or SystemClock()
        self.limits = limits or Limits()
        self._dialer = Dialer(os.environ if environ is None else environ, self.limits.connect_seconds)
        self._pool = Pool(self._dialer, self.limits, self.clock)
        self._parts = Parts(
            desk,
            dict(providers),
            dict(apps or {}),
            keys,
            prices or Prices(),
            self.clock,
            self.limits,
            self._pool,
            vouch,
            syscalls,
        )
        self._servers: dict[str, asyncio.AbstractServer] = {}
        self._connections: set[ClientConnection] = set()
        self._exchanges: set[Exchange] = set()
        self._arrived: asyncio.Queue[Exchange] | None = None
        self._short = asyncio.Event()
        self._free = 0
        """Workers that wait for an exchange, or are about to."""
        self._running = False
        self._closing = False
        self._quiet = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Gateway]:
        """Run the gateway's tasks. On the way out calls still running are cut and settled as such."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._parts.prices.ready)
            tasks.start_soon(self._tick)
            self._arrived = asyncio.Queue()
            tasks.start_soon(self._hire, tasks, self._arrived)
            self._running = True
            try:
                yield self
            finally:
                with anyio.CancelScope(shield=True):
                    await self.close(0)
                tasks.cancel_scope.cancel()

    async def serve(self, listener: socket.socket, key: str) -> None:
        """Accept agents on ``listener`` from now on; it belongs to the gateway (hand in a duplicate).

        Raises:
            AgentTopError: The key is in use, or the gateway is not running.
        """
        if not self._running or self._closing:
            raise AgentTopError("the gateway does not take listeners", "It is not running")
        if key in self._servers:
            raise AgentTopError(f"the gateway serves {key} already")
        listener.setblocking(False)
        loop = asyncio.get_running_loop()

        def factory() -> ClientConnection:
            return ClientConnection(self, key)

        if listener.family == socket.AF_UNIX:
            self._servers[key] = await loop.create_unix_server(factory, sock=listener)
        else:
            self._servers[key] = await loop.create_server(factory, sock=listener, backlog=1024)

    async def stop_serving(self, key: str) -> None:
        """Close a listener and cut what came through it (a container has ended); unknown keys are ignored."""
        server = self._servers.pop(key, None)
        if server is None:
            return
        server.close()
        for connection in [c for c in self._connections if c.key == key]:
            connection.abort()

    @property
    def in_flight(self) -> int:
        """Model calls that are held or running."""
        return sum(exchange.metered for exchange in self._exchanges)

    def update(self, providers: Mapping[str, Provider]) -> None:
        """Use these providers for calls that come from now on."""
        check_providers(providers)
        self._parts.providers = dict(providers)
        self._parts.unaltered.clear()

    async def close(self, grace: float) -> None:
        """Stop accepting; let running calls end for ``grace`` seconds, then cut and settle them."""
        self._closing = True
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        for connection in list(self._connections):
            connection.shut()
        with anyio.move_on_after(grace):
            await self._until_quiet()
        for exchange in list(self._exchanges):
            exchange.shut_down()
        for connection in list(self._connections):
            connection.drop_short()
        await self._until_quiet()
        for connection in list(self._connections):
            connection.abort()
        self._pool.close()

    # --- Acceptor

    def opened(self, connection: ClientConnection) -> bool:
        """A client connected."""
        if self._closing or len(self._connections) >= self.limits.connections:
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: ClientConnection) -> None:
        """A client's connection ended."""
        self._connections.discard(connection)
        if self._closing:
            self._quiet.set()

    def accept(self, connection: ClientConnection, request: Request) -> Exchange:
        """Begin to work on a request."""
        exchange = Exchange(self._parts, connection, request)
        if self._arrived is None:
            connection.abort()
        else:
            self._exchanges.add(exchange)
            self._arrived.put_nowait(exchange)
            if self._arrived.qsize() > self._free:
                self._short.set()
        return exchange

    # --- inside

    async def _hire(self, tasks: anyio.abc.TaskGroup, arrived: asyncio.Queue[Exchange]) -> None:
        """See that nobody waits for a worker. Connections cannot start exchanges themselves: their
        callbacks run outside of any task, where anyio does not know its loop. The queue holds one
        exchange per connection at most."""
        try:
            while True:
                await self._short.wait()
                self._short.clear()
                while arrived.qsize() > self._free:
                    self._free += 1
                    tasks.start_soon(self._work, arrived)
        finally:
            self._arrived = None
            while not arrived.empty():
                self._ended(arrived.get_nowait())

    async def _work(self, arrived: asyncio.Queue[Exchange]) -> None:
        """Run exchanges one after the other: a new task for each would cost more than the metering."""

        def wanted() -> bool:
            # Not counting those that what has come already is for: a burst hires more than stay.
            return self._free - arrived.qsize() <= _SPARE_WORKERS

        while wanted():
            # One scope for many, too: only the exchange that runs in it may cancel it.
            with anyio.CancelScope() as scope:
                while wanted() and not scope.cancel_called:
                    exchange = await arrived.get()
                    self._free -= 1
                    try:
                        await exchange.run(scope)
                    finally:
                        self._ended(exchange)
                        self._free += 1
        self._free -= 1

    def _ended(self, exchange: Exchange) -> None:
        self._exchanges.discard(exchange)
        if not self._exchanges:
            self._quiet.set()

    async def _until_quiet(self) -> None:
        while self._exchanges or any(connection.short for connection in self._connections):
            self._quiet = anyio.Event()
            await self._quiet.wait()

    async def _tick(self) -> None:
        before = self.clock.monotonic()
        while True:
            await anyio.sleep(self.limits.tick_seconds)
            now = self.clock.monotonic()
            for number, _ in enumerate(self._look(now, now - before), 1):
                if number % _AT_ONCE == 0:  # hundreds of notes in one go would be a stall on every stream
                    await anyio.lowlevel.checkpoint()
            before = now

    def look(self, now: float, passed: float) -> None:
        """Act on what takes long. The time in which an agent was frozen does not count for it."""
        for _ in self._look(now, passed):
            pass

    def _look(self, now: float, passed: float) -> Iterator[None]:
        """The same, with a pause after each exchange, in which others may end."""
        frozen: dict[str | None, float] = {None: 0.0}
        for connection in list(self._connections):
            agent = connection.agent
            if agent not in frozen:
                assert agent is not None
                frozen[agent] = passed if self._parts.desk.frozen(agent) else 0.0
            connection.sweep(now, frozen[agent])
        for exchange in list(self._exchanges):
            if exchange in self._exchanges:
                exchange.tick(now, frozen.get(exchange.agent, 0.0))
                yield
        self._pool.sweep()
