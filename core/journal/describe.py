"""Journal rows in a person's words: the text of the events pane, ``events`` and toasts."""

from __future__ import annotations

from ..agents.states import Pause
from ..api import EventInfo
from . import events as ev
from .events import Event, Record

#: Kinds that are noise to a person who looks at the fleet; ``events`` shows them all the same.
QUIET = frozenset({"CallProgressed", "RunStarting", "CallReleased"})


def describe(event: Event) -> str:
    """One line, without the agent's name and without a full stop."""
    match event:
        case ev.KernelStarted():
            return f"kernel {event.version} started, pid {event.pid}"
        case ev.KernelStopped():
            return f"kernel stopped{_because(event.reason)}"
        case ev.AgentCreated():
            return f"created, {event.spec.backend}" + (
                f", from {event.spec.template}" if event.spec.template else ""
            )
        case ev.AgentChanged():
            return "declaration changed"
        case ev.AgentRemoved():
            return "removed"
        case ev.NiceChanged():
            return f"nice {event.nice}{_by(event.by)}"
        case ev.RunStarting():
            return f"run {event.run} starting ({event.reason})"
        case ev.RunStarted():
            pid = event.ref.get("pid")
            return f"run {event.run} started" + (f", pid {pid}" if pid else "")
        case ev.RunReady():
            return f"run {event.run} is up"
        case ev.RunExited():
            return _exited(event)
        case ev.RestartScheduled():
            return f"restarts after failure {event.failures}"
        case ev.RestartGivenUp():
            return f"{event.failures} failures in a row, no restart left"
        case ev.StopRequested():
            return f"{event.how} asked for{_by(event.by)}"
        case ev.KillProven():
            proof = f"{event.ended}/{event.processes} processes ended, {len(event.survivors)} survivors"
            return f"{proof}, {event.mechanism}, {event.seconds:.1f} s"
        case ev.AgentPaused():
            return _paused(event)
        case ev.AgentResumed():
            return f"resumed{_by(event.by)}"
        case _:
            return _call(event)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _by(who: str) -> str:
    return f" by {who}" if who else ""


def _exited(event: ev.RunExited) -> str:
    if event.cause in ("stopped", "killed"):
        how: str = event.cause
    elif event.signal is not None:
        how = f"ended by signal {event.signal}"
    elif event.cause == "reboot":
        how = "ended with the machine's reboot"
    elif event.cause == "start_failed":
        how = "could not start"
    else:
        how = "ended, exit status unknown" if event.code is None else f"exited {event.code}"
    return f"run {event.run} {how}{_because(event.detail)}"


def _paused(event: ev.AgentPaused) -> str:
    if event.how is Pause.HOLD:
        return f"held{_by(event.by)}: its next model call waits"
    if not event.total:
        return f"freezing{_by(event.by)}"
    proof = f"{event.frozen}/{event.total} processes, {event.mechanism}, {event.seconds * 1000:.0f} ms"
    return f"frozen{_by(event.by)}: {proof}"


def _call(event: Event) -> str:
    match event:
        case ev.CallStarted():
            return f"call to {event.model or event.provider}"
        case ev.CallProgressed():
            return f"call: {event.usage.output} tokens out so far"
        case ev.CallHeld():
            return "call held" + (f": {event.reason}" if event.reason else "") + _because(event.detail)
        case ev.CallReleased():
            return "call released"
        case ev.CallSettled():
            usage = event.usage
            about = "" if event.exact else "~"
            money = "unpriced" if event.cost_usd is None else f"${about}{event.cost_usd:.3f}"
            tokens = (
                f"{usage.input} in, {usage.cache_read} read, {usage.cache_write} written, {usage.output} out"
            )
            ended = (
                ""
                if event.outcome == "ok"
                else f", {event.outcome.replace('_', ' ')}"
                + (f" {event.status}" if event.status and event.outcome == "error" else "")
            )
            return f"call {event.model or event.provider}: {tokens}, {money}{ended}"
        case _:
            return event.kind


def info(record: Record, name: str | None) -> EventInfo:
    """A record as people's side of the door sees it; kinds of a newer version keep their body."""
    import orjson

    event = record.event()
    text = describe(event) if event is not None else record.kind
    return EventInfo(record.seq, record.ts, record.kind, record.agent, name, orjson.loads(record.body), text)
