"""A lane as people see it: limits, what is left of them, and how much is asked of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...api import LimitInfo, ProviderInfo
from ...clock import Clock
from .gate import Gate
from .lane import Lane


def together(lanes: Sequence[Lane], clock: Clock) -> ProviderInfo:
    """One provider with the accounts of its clients: sums, and the limits of the one that is used most."""
    common, *own = lanes
    if not own:
        return info(common, clock)
    now = clock.monotonic()
    busiest = max(lanes, key=lambda lane: (lane.gate.running + lane.waiting, lane.rates.calls(now)))
    return info(busiest, clock).model_copy(
        update={
            "running": sum(lane.gate.running for lane in lanes),
            "waiting": sum(lane.waiting for lane in lanes),
            "calls_minute": sum(lane.rates.calls(now) for lane in lanes),
            "errors_minute": sum(lane.rates.failures(now) for lane in lanes),
        }
    )


def info(lane: Lane, clock: Clock) -> ProviderInfo:
    """One provider as it stands now."""
    now, wall = clock.monotonic(), clock.time()
    provider, breaker = lane.provider, lane.breaker
    ends = [lane.gate.closed_until(now), breaker.blocked_until(now) if breaker.state == "open" else None]
    retry = max((end for end in ends if end is not None), default=None)
    return ProviderInfo(
        name=provider.name,
        protocol=provider.protocol,
        base_url=provider.base_url,
        auth=provider.auth,
        key="clients" if provider.auth == "passthrough" else "present",
        breaker=breaker.state,
        breaker_why=breaker.why,
        retry_at=wall + retry - now if retry is not None else None,
        running=lane.gate.running,
        waiting=lane.waiting,
        limits=list(_limits(lane.gate, now, wall)),
        models={
            name: found
            for name, gate in lane.gates()
            if name is not None and (found := list(_limits(gate, now, wall)))
        },
        fallback=provider.fallback,
        calls_minute=lane.rates.calls(now),
        errors_minute=lane.rates.failures(now),
    )


def _limits(gate: Gate, now: float, wall: float) -> Iterator[LimitInfo]:
    limits = gate.limits
    if limits.concurrency is not None:
        left = max(0, limits.concurrency - gate.running)
        yield LimitInfo(what="concurrency", limit=limits.concurrency, left=left)
    if gate.window is not None:
        left = max(0, gate.window.size - gate.running)
        yield LimitInfo(what="concurrency", limit=gate.window.size, left=left, source="learned")
    if limits.requests is not None:
        yield LimitInfo(what="requests", limit=limits.requests)
    if limits.tokens is not None:
        yield LimitInfo(what="tokens", limit=limits.tokens)
    for what, told in gate.learned.items():
        resets = wall + told.resets_at - now if told.resets_at is not None else None
        left_now = max(0.0, told.level(now))
        yield LimitInfo(what=what, limit=told.limit, left=left_now, resets_at=resets, source="learned")


def tokens_a_minute(lane: Lane) -> float | None:
    """The tightest of what is configured for the provider and what its models are known to take together."""
    own = _tokens(lane.gate)
    models = [
        found for name, gate in lane.gates() if name is not None and (found := _tokens(gate)) is not None
    ]
    together = sum(models) if models else None
    known = [limit for limit in (own, together) if limit is not None]
    return min(known, default=None)


def _tokens(gate: Gate) -> float | None:
    known = [gate.limits.tokens] if gate.limits.tokens is not None else []
    learned = gate.learned
    if "tokens" in learned:
        known.append(learned["tokens"].limit)
    elif "input_tokens" in learned:
        known.append(learned["input_tokens"].limit)
    return min(known, default=None)


def load(lane: Lane) -> float | None:
    """The calls that run or wait, in minutes of the tightest limit; ``None`` without any limit."""
    loads = []
    for name, gate in lane.gates():
        waiting = lane.queue.count(name) if name is not None else lane.waiting
        tokens = gate.running_tokens + (lane.queue.tokens_of(name) if name is not None else lane.queue.tokens)
        calls = gate.running + waiting
        limits = gate.limits
        requests = [limits.requests] if limits.requests is not None else []
        if "requests" in gate.learned:
            requests.append(gate.learned["requests"].limit)
        loads += [calls / limit for limit in requests if limit > 0]
        if limits.concurrency is not None:
            loads.append(calls / limits.concurrency)
        if (limit := _tokens(gate)) is not None and limit > 0:
            loads.append(tokens / limit)
    return max(loads, default=None)
