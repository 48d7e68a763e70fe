"""Model calls one by one, as people see them: those that run or are held, and those the journal has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from .agents.agent import Agent, Call, Fleet
from .api import CallInfo
from .budget.amount import dollars
from .journal.events import CallSettled, CallStarted, Record

Opened = Callable[[str], CallStarted | None]
"""What a call that is not settled asked for, by its id; ``None`` where this kernel does not know it."""


def open_call(call: Call, agent: Agent, fleet: Fleet, opened: Opened) -> CallInfo:
    """A call that runs, or is held."""
    asked = opened(call.id)
    held = fleet.reservations.get(call.id)
    return CallInfo(
        call=call.id,
        started=call.started,
        provider=call.provider or (asked.provider if asked is not None else ""),
        model=call.model or (asked.model if asked is not None else None),
        input=call.usage.input,
        cache_read=call.usage.cache_read,
        cache_write=call.usage.cache_write,
        output=call.usage.output,
        exact=False,
        state=call.state,
        agent=agent.id,
        name=agent.name,
        run=call.run,
        reason=_reason(call),
        detail=call.detail if call.state == "held" else "",
        reserved_usd=None if held is None or held.usd is None else dollars(held.usd),
    )


def _reason(call: Call) -> str:
    if call.state != "held":
        return ""
    return "hold" if call.reason is None else call.reason.value


def settled_call(event: CallSettled, started: float, name: str) -> CallInfo:
    """A call that has ended.

    Args:
        name: Of its agent.
    """
    return CallInfo(
        call=event.call,
        started=started,
        provider=event.provider,
        model=event.model,
        input=event.usage.input,
        cache_read=event.usage.cache_read,
        cache_write=event.usage.cache_write,
        output=event.usage.output,
        seconds=event.seconds,
        first_token_seconds=event.first_token_seconds,
        queued_seconds=event.queued_seconds,
        cost_usd=event.cost_usd,
        exact=event.exact,
        outcome=event.outcome,
        status=event.status,
        ended_in=event.tools[-1] if event.tools else event.stop_reason or event.outcome,
        error=event.error,
        agent=event.agent,
        name=name,
        run=event.run,
        attempts=event.attempts,
        request_id=event.request_id,
    )


def settled_calls(records: Iterable[Record], agents: Mapping[str, Agent]) -> list[CallInfo]:
    """The settled calls among journal rows (``CallStarted`` and ``CallSettled``), in their order."""
    started: dict[str, float] = {}
    found = []
    for record in records:
        event = record.event()
        if isinstance(event, CallStarted):
            started[event.call] = record.ts
        elif isinstance(event, CallSettled):
            name = agents[event.agent].name if event.agent in agents else event.agent
            found.append(settled_call(event, started.pop(event.call, record.ts - event.seconds), name))
    return found


def open_calls(fleet: Fleet, wanted: Collection[str] | None, opened: Opened) -> list[CallInfo]:
    """The calls of these agents (``None``: of all) that are not settled."""
    agents = fleet.agents.values() if wanted is None else (fleet.agents[key] for key in wanted)
    return [open_call(call, agent, fleet, opened) for agent in agents for call in agent.calls.values()]
