"""How much and how long the gateway puts up with. Sizes in bytes, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on everything that an agent or a provider controls."""

    head_bytes: int = 64 << 10
    """Request line and headers; 431 beyond."""
    headers: int = 256
    body_bytes: int = 32 << 20
    """Body of a metered request, which is read whole; 413 beyond. (The Messages API takes 32 MB.)"""
    syscall_bytes: int = 8 << 20
    """Body of a system call, which is read whole; 413 beyond."""
    replay_bytes: int = 1 << 20
    """Other bodies up to this size are read whole, so that a stale connection can be replaced."""
    buffer_bytes: int = 256 << 10
    """What may lie between two sides of different speed before the faster one is paused."""
    event_bytes: int = 8 << 20
    """One event of a stream; a longer one passes but is not read."""
    answer_bytes: int = 32 << 20
    """The part of an unstreamed answer that is kept to read the usage from."""
    connections: int = 10_000
    """Open client connections."""
    pipelined: int = 16
    """Requests a client may send ahead of their answers."""
    head_seconds: float = 30.0
    """From the first byte of a request to the end of its headers."""
    body_seconds: float = 600.0
    """Without a byte of an unfinished request body. Long: the agent may have been frozen."""
    idle_seconds: float = 300.0
    """An idle client connection."""
    linger_seconds: float = 5.0
    """How long the rest of an unwanted body is read, so that the client gets to see the answer."""
    connect_seconds: float = 15.0
    """Name look-up, TCP, proxy and TLS together."""
    upstream_seconds: float = 900.0
    """Without a byte from the provider. Clients give up after 600 by themselves."""
    upstream_idle_seconds: float = 50.0
    """A pooled connection; below the 60 s after which many load balancers close theirs."""
    upstream_idle_connections: int = 256
    """Pooled connections per provider."""
    keep_alive_after: float = 20.0
    """A held call's client, where its protocol has keep-alives, gets the first one after this long."""
    keep_alive_every: float = 10.0
    """And the next ones."""
    patience_seconds: float = 50.0
    """A held call's client, where its protocol has none, is told to come again. (All known clients bear 40 s
    without a byte; most give up after 60 or more.)"""
    retry_after: int = 5
    """Seconds after which it may come again."""
    drain_bytes: int = 64 << 10
    """The rest of an unwanted answer up to this size is read, to keep its connection."""
    skip_bytes: int = 1 << 20
    """The same for the rest of an unwanted request body."""
    tick_seconds: float = 1.0
    """How often progress is noted and the times above are looked at."""
