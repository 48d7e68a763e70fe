"""Connections to providers that are kept for the next call."""

from __future__ import annotations

from ..clock import Clock
from .dial import Dialer
from .limits import Limits
from .providers import Origin
from .upstream import UpstreamConnection


class Pool:
    """Idle connections per origin, the youngest first."""

    def __init__(self, dialer: Dialer, limits: Limits, clock: Clock) -> None:
        self.limits = limits
        self._dialer = dialer
        self._clock = clock
        self._idle: dict[Origin, list[UpstreamConnection]] = {}
        self._draining: set[UpstreamConnection] = set()

    async def acquire(self, origin: Origin, *, fresh: bool = False) -> UpstreamConnection:
        """A connection nobody else uses.

        Args:
            fresh: Not one that was used before.

        Raises:
            Unreachable, ConfigError: See ``Dialer.dial``.
        """
        idle = self._idle.get(origin)
        while idle and not fresh:
            connection = idle.pop()
            if not connection.closing:
                return connection
        return await self._dialer.dial(origin, lambda: UpstreamConnection(origin, self))

    def give_back(self, connection: UpstreamConnection, reusable: bool) -> None:
        """The answer was received; keep the connection if another request may follow."""
        self._draining.discard(connection)
        idle = self._idle.setdefault(connection.origin, [])
        if reusable and not connection.closing and len(idle) < self.limits.upstream_idle_connections:
            connection.resume()
            connection._reset()
            connection.idle_since = self._clock.monotonic()
            idle.append(connection)
        else:
            connection.abort()

    def remove(self, connection: UpstreamConnection) -> None:
        """The connection ended."""
        self._draining.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    def drained(self, connection: UpstreamConnection) -> None:
        """The rest of its answer is being thrown away; not for long."""
        connection.idle_since = self._clock.monotonic()
        self._draining.add(connection)

    def sweep(self) -> None:
        """Close what was idle for too long."""
        now = self._clock.monotonic()
        for connection in [c for c in self._draining if now - c.idle_since > self.limits.linger_seconds]:
            connection.abort()
        oldest = now - self.limits.upstream_idle_seconds
        for idle in self._idle.values():
            for connection in [c for c in idle if c.idle_since < oldest]:
                idle.remove(connection)
                connection.abort()

    def close(self) -> None:
        """Close all idle connections."""
        for connection in list(self._draining):
            connection.abort()
        self._draining.clear()
        for idle in self._idle.values():
            for connection in list(idle):
                connection.abort()
            idle.clear()

    @property
    def idle(self) -> int:
        """How many connections are kept."""
        return sum(map(len, self._idle.values()))
