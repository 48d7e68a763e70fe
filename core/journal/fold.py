"""The fold: current state as a function of the journal, event by event.

``apply`` is pure in its arguments: no clock, no disk, no configuration. The same events give the
same ``Fleet`` wherever they are replayed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..agents.agent import PAST_RUNS, Agent, Call, Fleet, Freeze, Meter, Run
from ..agents.states import ENDED, Pause, State, Waiting, may
from ..agents.worktree import Worktree
from . import events as ev
from . import fold_budgets, fold_mail, fold_observed
from .handlers import Handlers

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: Version of the checkpoint's form; another one is ignored and the journal folded from the start.
FORMAT = 2

_agents = Handlers()
_on = _agents.on


def apply(fleet: Fleet, seq: int, event: ev.Event, ts: float) -> None:
    """Fold one event in. Events of agents that are gone are ignored: facts about them come late."""
    fleet.seq = seq
    # Money first: what an agent used counts where it stood before this event moved or removed it.
    fold_budgets.handle(fleet, event, ts)
    _agents.handle(fleet, event, ts)
    fold_observed.handle(fleet, event, ts)
    fold_mail.handle(fleet, event, ts)


def _move(agent: Agent, state: State, ts: float, detail: str = "", reason: Waiting | None = None) -> None:
    """Change the state beneath if the table allows it; ``since`` moves only on a visible change."""
    if not may(agent.state, state):
        return
    if (agent.state, agent.detail, agent.reason) != (state, detail, reason):
        agent.state, agent.detail, agent.reason, agent.since = state, detail, reason, ts


def _program(agent: Agent) -> str:
    """What an agent that makes no calls is shown to execute: its program's own name."""
    return agent.spec.command[0].rsplit("/", 1)[-1] if agent.spec.command else ""


@_on(ev.KernelStarted)
def _kernel_started(fleet: Fleet, event: ev.KernelStarted, ts: float) -> None:
    fleet.boot_id = event.boot_id
    fleet.kernels += 1


@_on(ev.AgentCreated)
def _created(fleet: Fleet, event: ev.AgentCreated, ts: float) -> None:
    fleet.agents[event.agent] = Agent(
        id=event.agent,
        spec=event.spec,
        owner=event.owner,
        created=ts,
        fleet=event.fleet,
        nice=event.spec.nice,
        since=ts,
        model=event.spec.model,
        origin=event.origin,
    )
    fleet.names[event.spec.name] = event.agent


@_on(ev.AgentChanged)
def _changed(fleet: Fleet, event: ev.AgentChanged, ts: float) -> None:
    if agent := fleet.agents.get(event.agent):
        agent.spec, agent.nice = event.spec, event.spec.nice
        fold_budgets.moved(fleet, ts)


@_on(ev.AgentRemoved)
def _removed(fleet: Fleet, event: ev.AgentRemoved, ts: float) -> None:
    if agent := fleet.agents.pop(event.agent, None):
        fleet.names.pop(agent.name, None)


@_on(ev.WorktreePlanned)
def _planned(fleet: Fleet, event: ev.WorktreePlanned, ts: float) -> None:
    if agent := fleet.agents.get(event.agent):
        agent.worktree = Worktree(
            path=event.path,
            folder=event.folder,
            repository=event.repository,
            branch=event.branch,
            base=event.base,
            ours=event.ours,
        )


@_on(ev.WorktreeMade)
def _made(fleet: Fleet, event: ev.WorktreeMade, ts: float) -> None:
    if (agent := fleet.agents.get(event.agent)) and agent.worktree is not None:
        agent.worktree.made = True


@_on(ev.NiceChanged)
def _nice(fleet: Fleet, event: ev.NiceChanged, ts: float) -> None:
    if agent := fleet.agents.get(event.agent):
        agent.nice = event.nice


@_on(ev.RunStarting)
def _starting(fleet: Fleet, event: ev.RunStarting, ts: float) -> None:
    if agent := fleet.agents.get(event.agent):
        if agent.run is not None:
            agent.past = [*agent.past, agent.run][-PAST_RUNS:]
        if event.reason in ("start", "restart"):
            agent.failures = 0
            agent.task, agent.task_since = Meter(), ts
        agent.run = Run(event.run, ts, resume=event.resume)
        agent.last = Meter()
        agent.restart_at = agent.stopping = agent.freeze = None
        agent.turn = ""
        _move(agent, State.INITIALIZING, ts)


@_on(ev.RunStarted)
def _started(fleet: Fleet, event: ev.RunStarted, ts: float) -> None:
    if (agent := fleet.agents.get(event.agent)) and agent.run and agent.run.number == event.run:
        agent.run.ref = event.ref
        agent.run.keyboard, agent.run.waits = event.keyboard, event.waits


@_on(ev.RunReady)
def _ready(fleet: Fleet, event: ev.RunReady, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    # One that came after the end (the disk was full meanwhile) must not forget that the run failed.
    if agent is not None and agent.run and agent.run.number == event.run and agent.run.live:
        agent.run.ready = True
        agent.failures = 0
        if agent.state is State.INITIALIZING:
            if agent.run.waits:
                _turn_over(agent, ts)
            else:
                _move(agent, State.EXECUTING, ts, _program(agent))


#: What a backend says of an end that tells a person more than the exit code beside it.
_TELLING = frozenset({"dockerd stopped", "the container was removed"})


def _ending(event: ev.RunExited) -> str:
    if event.cause in ("reboot", "lost", "start_failed", "backend"):
        return event.cause.replace("_", " ")
    if event.cause == "exit" and event.detail in _TELLING:
        return event.detail
    if event.signal is not None:
        return f"signal {event.signal}"
    return "exit ?" if event.code is None else f"exit {event.code}"


@_on(ev.RunExited)
def _exited(fleet: Fleet, event: ev.RunExited, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    if agent is None or agent.run is None or agent.run.number != event.run or not agent.run.live:
        return
    run = agent.run
    run.ended, run.code, run.signal = ts, event.code, event.signal
    run.cause, run.detail = event.cause, event.detail
    agent.freeze = None
    if event.failed:
        agent.failures += 1
    ended = event.cause in ("stopped", "killed") or not event.failed
    detail = event.cause if event.cause in ("stopped", "killed") else _ending(event)
    _move(agent, State.TERMINATED if ended else State.ERROR, ts, detail)


@_on(ev.RestartScheduled)
def _scheduled(fleet: Fleet, event: ev.RestartScheduled, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    if agent is not None and not agent.live:
        agent.restart_at = event.at
        agent.failures = event.failures


@_on(ev.RestartGivenUp)
def _given_up(fleet: Fleet, event: ev.RestartGivenUp, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    if agent is not None and not agent.live:
        agent.restart_at = None
        agent.failures = event.failures
        if agent.state is State.TERMINATED:  # policy "always": it kept ending, if without an error
            agent.state, agent.since = State.ERROR, ts


@_on(ev.StopRequested)
def _stop(fleet: Fleet, event: ev.StopRequested, ts: float) -> None:
    if agent := fleet.agents.get(event.agent):
        agent.restart_at = None
        if agent.live:
            agent.stopping = event.how


@_on(ev.AgentPaused)
def _paused(fleet: Fleet, event: ev.AgentPaused, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    if agent is None:
        return
    if event.how is Pause.HOLD:
        agent.hold = agent.hold or ts
    elif agent.live:
        since = agent.freeze.since if agent.freeze else ts
        agent.freeze = Freeze(since, event.frozen, event.total, event.mechanism, event.by)


@_on(ev.AgentResumed)
def _resumed(fleet: Fleet, event: ev.AgentResumed, ts: float) -> None:
    if agent := fleet.agents.get(event.agent):
        if event.how in (None, Pause.FREEZE):
            agent.freeze, agent.resumed = None, ts
        if event.how in (None, Pause.HOLD):
            agent.hold = None


@_on(ev.FleetHalted)
def _halted(fleet: Fleet, event: ev.FleetHalted, ts: float) -> None:
    fleet.halted = True


@_on(ev.FleetUnhalted)
def _unhalted(fleet: Fleet, event: ev.FleetUnhalted, ts: float) -> None:
    fleet.halted = False


@_on(ev.CallHeld)
def _held(fleet: Fleet, event: ev.CallHeld, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    if agent is None or agent.run is None:
        return
    call = agent.calls.get(event.call)
    if call is None:
        call = agent.calls[event.call] = Call(event.call, agent.run.number, "", None, ts)
    call.state, call.reason, call.detail = "held", event.reason, event.detail
    if event.reason is not None and agent.live:
        _move(agent, State.WAITING, ts, event.detail, event.reason)


@_on(ev.CallReleased)
def _released(fleet: Fleet, event: ev.CallReleased, ts: float) -> None:
    if (agent := fleet.agents.get(event.agent)) and (call := agent.calls.get(event.call)):
        call.state, call.reason = "running", None
        _settle_state(agent, ts)


@_on(ev.CallStarted)
def _call_started(fleet: Fleet, event: ev.CallStarted, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    if agent is None:
        return
    agent.calls[event.call] = Call(event.call, event.run, event.provider, event.model, ts)
    agent.provider = event.provider
    if not event.client.get("subagent"):
        agent.model = event.model or agent.model
        agent.session = ev.conversation(event) or agent.session
    if agent.live:
        _move(agent, State.PLANNING, ts, "call")


@_on(ev.CallProgressed)
def _progressed(fleet: Fleet, event: ev.CallProgressed, ts: float) -> None:
    if (agent := fleet.agents.get(event.agent)) and (call := agent.calls.get(event.call)):
        call.usage = event.usage


@_on(ev.CallSettled)
def _settled(fleet: Fleet, event: ev.CallSettled, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    if agent is None:
        return
    agent.calls.pop(event.call, None)
    agent.total.add(event.usage, event.cost_usd, exact=event.exact)
    if agent.run is not None and agent.run.number == event.run:
        agent.last.add(event.usage, event.cost_usd, exact=event.exact)
    agent.task.add(event.usage, event.cost_usd, exact=event.exact)
    if event.context_used:
        agent.context = event.context_used
        agent.context_cached = event.usage.cache_read
        agent.context_limit = event.context_limit or agent.context_limit
    if agent.live:
        _settle_state(agent, ts, event)


@_on(ev.InputAwaited)
def _asked(fleet: Fleet, event: ev.InputAwaited, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    if agent is not None and agent.live and agent.run and agent.run.number == event.run and not agent.calls:
        _move(agent, State.WAITING, ts, event.detail, Waiting.INPUT)


@_on(ev.InputGiven)
def _answered(fleet: Fleet, event: ev.InputGiven, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    if agent is None or not agent.live or agent.run is None or agent.run.number != event.run:
        return
    if agent.state is State.WAITING and agent.reason is Waiting.INPUT:
        if event.state == "idle":  # with a keyboard that is waiting again, for what comes next
            _turn_over(agent, ts)
        else:
            _move(agent, State(event.state), ts, event.detail)


def _settle_state(agent: Agent, ts: float, settled: ev.CallSettled | None = None) -> None:
    """The state between calls: what is still in flight, else what the last reply asked for."""
    if agent.state in ENDED:
        return
    waiting = next((c for c in agent.calls.values() if c.state == "held" and c.reason), None)
    if waiting is not None:
        _move(agent, State.WAITING, ts, waiting.detail, waiting.reason)
    elif any(call.state == "running" for call in agent.calls.values()):
        _move(agent, State.PLANNING, ts, "call")
    elif settled is None or (settled.outcome != "ok" and not _interrupted(agent, settled)):
        # Clients retry or give up by themselves; until they do, the program runs.
        _move(agent, State.EXECUTING, ts, _program(agent))
    elif settled.stop_reason in ("tool_use", "tool_calls", "pause_turn"):
        tool = settled.tools[-1] if settled.tools else "tool"
        agent.turn = agent.turn if _aside(settled) else tool
        _move(agent, State.EXECUTING, ts, tool)
    elif not _aside(settled):
        agent.turn = _OVER
        _turn_over(agent, ts)
    elif agent.turn == _OVER:
        _turn_over(agent, ts)
    else:
        _move(agent, State.EXECUTING, ts, agent.turn or _program(agent))


_OVER = "over"


def _aside(settled: ev.CallSettled) -> bool:
    """Whether a call was a subagent's or a side call (a title, a check): its end ends nobody's turn."""
    return settled.context_used is None and settled.usage.total > 0


def _interrupted(agent: Agent, settled: ev.CallSettled) -> bool:
    """Whether a person cut a reply short at the keyboard: then the turn is theirs."""
    return settled.outcome == "client_cut" and agent.run is not None and agent.run.keyboard


def _turn_over(agent: Agent, ts: float) -> None:
    if agent.run is not None and agent.run.keyboard:
        _move(agent, State.WAITING, ts, reason=Waiting.INPUT)
    else:
        _move(agent, State.IDLE, ts)


_adapter: TypeAdapter[Fleet] | None = None


def _fleet_adapter() -> TypeAdapter[Fleet]:
    global _adapter
    if _adapter is None:
        from pydantic import TypeAdapter

        _adapter = TypeAdapter(Fleet)
    return _adapter


def dump(fleet: Fleet) -> bytes:
    """A checkpoint of the fold (JSON, prefixed with its form's version)."""
    return b"%d\n" % FORMAT + _fleet_adapter().dump_json(fleet)


def load(blob: bytes) -> Fleet | None:
    """The fold of a checkpoint, or ``None`` where its form is another version's."""
    version, _, body = blob.partition(b"\n")
    if version != b"%d" % FORMAT:
        return None
    return _fleet_adapter().validate_json(body)
