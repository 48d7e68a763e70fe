"""The fold: what the journal's events make of a fleet."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.agents.agent import Agent, Fleet
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.agents.states import ENDED, LIVE, Pause, State, Waiting, may
from agenttop.core.journal import events as ev
from agenttop.core.journal import fold

SPEC = AgentSpec(name="hello", command=["/bin/sh", "-c", "true"])


def run(*events: ev.Event) -> Fleet:
    fleet = Fleet()
    for seq, event in enumerate(events, 1):
        fold.apply(fleet, seq, event, float(seq))
    return fleet


def started(*more: ev.Event) -> Agent:
    return run(
        ev.AgentCreated(agent="a1", spec=SPEC, owner="ana"),
        ev.RunStarting(agent="a1", run=1),
        ev.RunStarted(agent="a1", run=1, ref={"pid": 7}),
        *more,
    ).agents["a1"]


def call(name: str = "c1") -> ev.CallStarted:
    return ev.CallStarted(
        agent="a1", call=name, run=1, provider="anthropic", protocol="anthropic", model="claude-opus-4-5"
    )


def settled(name: str = "c1", **fields: Any) -> ev.CallSettled:
    return ev.CallSettled(**{"agent": "a1", "call": name, "run": 1, "provider": "anthropic", **fields})


def test_a_program_without_calls_executes_once_its_start_counts() -> None:
    assert started().state is State.INITIALIZING
    agent = started(ev.RunReady(agent="a1", run=1))
    assert (agent.state, agent.detail) == (State.EXECUTING, "sh")


def test_a_call_in_flight_is_planning_and_its_end_decides_what_follows() -> None:
    assert started(call()).state is State.PLANNING
    tool = started(call(), settled(stop_reason="tool_use", tools=["Read", "Bash"]))
    assert (tool.state, tool.detail) == (State.EXECUTING, "Bash")
    assert started(call(), settled(stop_reason="end_turn")).state is State.IDLE
    assert started(call(), settled(outcome="error", status=529)).state is State.EXECUTING


def at_a_terminal(*more: ev.Event, waits: bool = False) -> Agent:
    return started(ev.RunStarted(agent="a1", run=1, ref={}, keyboard=True, waits=waits), *more)


def test_whoever_has_a_keyboard_waits_for_its_person_when_its_turn_is_over() -> None:
    over = (call(), settled(stop_reason="end_turn"))
    waits = (State.WAITING, Waiting.INPUT)
    assert (at_a_terminal(*over).state, at_a_terminal(*over).reason) == waits
    assert started(*over).state is State.IDLE
    assert at_a_terminal(*over, call("c2")).state is State.PLANNING
    tool = at_a_terminal(call(), settled(stop_reason="tool_use", tools=["Bash"]))
    assert tool.state is State.EXECUTING
    cut = at_a_terminal(call(), settled(outcome="client_cut"))
    assert (cut.state, cut.reason) == waits
    assert at_a_terminal(call(), settled(outcome="error", status=529)).state is State.EXECUTING


def test_who_was_given_nothing_to_do_at_a_terminal_waits_from_the_start_on() -> None:
    ready = ev.RunReady(agent="a1", run=1)
    agent = at_a_terminal(ready, waits=True)
    assert (agent.state, agent.reason) == (State.WAITING, Waiting.INPUT)
    assert at_a_terminal(ready).state is State.EXECUTING


def test_the_end_of_a_side_call_ends_nobodys_turn() -> None:
    usage = ev.Usage(input=10, output=3)
    side = (call("s"), settled("s", stop_reason="end_turn", usage=usage))
    main = settled(stop_reason="end_turn", usage=usage, context_used=13)
    tool = settled(stop_reason="tool_use", tools=["Task"], usage=usage, context_used=13)
    assert at_a_terminal(*side).state is State.EXECUTING
    working = at_a_terminal(call(), tool, *side)
    assert (working.state, working.detail) == (State.EXECUTING, "Task")
    over = at_a_terminal(call(), main, *side)
    assert (over.state, over.reason) == (State.WAITING, Waiting.INPUT)
    assert started(call(), main, *side).state is State.IDLE


def test_one_of_two_calls_ending_leaves_it_planning() -> None:
    agent = started(call("c1"), call("c2"), settled("c1", stop_reason="end_turn"))
    assert agent.state is State.PLANNING
    assert list(agent.calls) == ["c2"]


def test_a_held_call_waits_with_its_reason_and_planning_comes_back() -> None:
    held = ev.CallHeld(agent="a1", call="c1", reason=Waiting.DEPENDENCY, detail="key X")
    agent = started(call(), held)
    assert (agent.state, agent.reason, agent.detail) == (State.WAITING, Waiting.DEPENDENCY, "key X")
    agent = started(call(), held, ev.CallReleased(agent="a1", call="c1"))
    assert (agent.state, agent.reason) == (State.PLANNING, None)


def test_a_pause_lies_over_the_state_beneath_which_moves_on() -> None:
    freeze = ev.AgentPaused(agent="a1", how=Pause.FREEZE, frozen=2, total=2)
    agent = started(call(), freeze)
    assert (agent.shown, agent.state) == (State.PAUSED, State.PLANNING)
    agent = started(call(), freeze, settled(stop_reason="end_turn"), ev.AgentResumed(agent="a1"))
    assert (agent.shown, agent.state) == (State.IDLE, State.IDLE)


def test_a_freeze_covers_a_hold_and_resume_undoes_both() -> None:
    hold = ev.AgentPaused(agent="a1", how=Pause.HOLD)
    freeze = ev.AgentPaused(agent="a1", how=Pause.FREEZE)
    assert started(hold, freeze).pause is Pause.FREEZE
    assert started(hold, freeze, ev.AgentResumed(agent="a1", how=Pause.FREEZE)).pause is Pause.HOLD
    assert started(hold, freeze, ev.AgentResumed(agent="a1")).pause is None


def test_a_freeze_ends_with_its_run_and_a_hold_does_not() -> None:
    agent = started(
        ev.AgentPaused(agent="a1", how=Pause.FREEZE, frozen=1, total=1),
        ev.AgentPaused(agent="a1", how=Pause.HOLD),
        ev.RunExited(agent="a1", run=1, code=0),
    )
    assert agent.freeze is None
    assert agent.hold is not None
    assert agent.shown is State.TERMINATED


def test_exit_codes_signals_and_causes_are_told_apart() -> None:
    assert started(ev.RunExited(agent="a1", run=1, code=0)).state is State.TERMINATED
    failed = started(ev.RunExited(agent="a1", run=1, code=137, failed=True))
    assert (failed.state, failed.detail, failed.failures) == (State.ERROR, "exit 137", 1)
    assert started(ev.RunExited(agent="a1", run=1, signal=9, failed=True)).detail == "signal 9"
    killed = started(
        ev.StopRequested(agent="a1", how="kill"), ev.RunExited(agent="a1", run=1, code=137, cause="killed")
    )
    assert (killed.state, killed.detail) == (State.TERMINATED, "killed")


def test_an_exit_of_another_run_changes_nothing() -> None:
    agent = started(ev.RunExited(agent="a1", run=2, code=0))
    assert agent.live


def test_tokens_and_money_add_up_per_agent_and_per_run() -> None:
    usage = ev.Usage(input=10, cache_read=5, cache_write_5m=2, output=3)
    agent = started(
        call(),
        settled(usage=usage, cost_usd=0.5),
        call("c2"),
        settled("c2", usage=usage, cost_usd=None),
        ev.RunExited(agent="a1", run=1, code=0),
        ev.RunStarting(agent="a1", run=2),
        settled("late", usage=usage, cost_usd=0.25, exact=False),
    )
    assert agent.total.usage == ev.Usage(30, 15, 6, 0, 9, 0)
    assert (agent.total.cost, agent.total.calls, agent.total.estimated, agent.total.unpriced) == (
        0.75,
        3,
        1,
        1,
    )
    assert agent.last.calls == 0


def test_events_of_agents_that_are_gone_are_ignored() -> None:
    fleet = run(
        ev.AgentCreated(agent="a1", spec=SPEC, owner="ana"), ev.AgentRemoved(agent="a1"), settled(), call()
    )
    assert fleet.agents == {}
    assert fleet.names == {}
    assert fleet.seq == 4


def _events() -> st.SearchStrategy[ev.Event]:
    agents = st.sampled_from(["a1", "b2"])
    calls = st.sampled_from(["c1", "c2", "c3"])
    runs = st.integers(1, 3)
    usage = st.builds(ev.Usage, *[st.integers(0, 1000)] * 6)
    return st.one_of(
        st.builds(ev.AgentCreated, agent=agents, spec=st.just(SPEC), owner=st.just("ana")),
        st.builds(ev.AgentRemoved, agent=agents),
        st.builds(ev.RunStarting, agent=agents, run=runs, reason=st.sampled_from(["start", "policy"])),
        st.builds(ev.RunStarted, agent=agents, run=runs, ref=st.just({"pid": 1})),
        st.builds(ev.RunReady, agent=agents, run=runs),
        st.builds(
            ev.RunExited,
            agent=agents,
            run=runs,
            code=st.none() | st.integers(0, 255),
            failed=st.booleans(),
            cause=st.sampled_from(["exit", "killed", "reboot", "lost"]),
        ),
        st.builds(ev.RestartScheduled, agent=agents, at=st.floats(0, 100), failures=st.integers(1, 5)),
        st.builds(ev.RestartGivenUp, agent=agents, failures=st.integers(1, 5)),
        st.builds(ev.StopRequested, agent=agents, how=st.sampled_from(["stop", "kill"])),
        st.builds(ev.AgentPaused, agent=agents, how=st.sampled_from(list(Pause)), total=st.integers(0, 3)),
        st.builds(ev.AgentResumed, agent=agents, how=st.none() | st.sampled_from(list(Pause))),
        st.builds(
            ev.CallStarted, agent=agents, call=calls, run=runs, provider=st.just("p"), protocol=st.just("x")
        ),
        st.builds(ev.CallProgressed, agent=agents, call=calls, usage=usage),
        st.builds(ev.CallHeld, agent=agents, call=calls, reason=st.none() | st.sampled_from(list(Waiting))),
        st.builds(ev.CallReleased, agent=agents, call=calls),
        st.builds(
            ev.CallSettled,
            agent=agents,
            call=calls,
            run=runs,
            provider=st.just("p"),
            usage=usage,
            cost_usd=st.none() | st.floats(0, 10),
            exact=st.booleans(),
            stop_reason=st.none() | st.sampled_from(["tool_use", "end_turn"]),
        ),
    )


@given(st.lists(_events(), max_size=40))
def test_any_order_of_events_keeps_the_invariants(events: list[ev.Event]) -> None:
    fleet = Fleet()
    for seq, event in enumerate(events, 1):
        before = {key: agent.state for key, agent in fleet.agents.items()}
        fold.apply(fleet, seq, event, float(seq))
        for key, agent in fleet.agents.items():
            if key in before and not isinstance(event, ev.AgentCreated):
                assert may(before[key], agent.state), (before[key], agent.state, event)
            assert agent.reason is None or agent.state is State.WAITING
            assert agent.state is not State.PAUSED
            assert not (agent.live and agent.state in ENDED)
            assert agent.run is None or agent.live or agent.state in ENDED | {State.INITIALIZING}
            assert agent.freeze is None or agent.live
    assert set(fleet.names.values()) <= fleet.agents.keys()


@given(st.lists(_events(), max_size=30), st.integers(0, 30))
def test_a_checkpoint_in_the_middle_changes_nothing(events: list[ev.Event], at: int) -> None:
    whole, halves = Fleet(), Fleet()
    for seq, event in enumerate(events, 1):
        fold.apply(whole, seq, event, float(seq))
        if seq == at:
            restored = fold.load(fold.dump(halves))
            assert restored is not None
            halves = restored
        fold.apply(halves, seq, event, float(seq))
    assert whole == halves


def test_a_checkpoint_of_another_form_is_not_used() -> None:
    assert fold.load(b"999\n{}") is None


def test_every_kind_of_event_survives_being_stored() -> None:
    assert set(ev.EVENTS) >= {"KernelStarted", "CallSettled", "KillProven"}
    usage = ev.Usage(1, 2, 3, 4, 5, 6)
    record = ev.Record(1, 0.0, "CallSettled", "a1", settled(usage=usage).model_dump_json().encode(), b"")
    event = record.event()
    assert isinstance(event, ev.CallSettled)
    assert event.usage == usage
    assert isinstance(event.usage, ev.Usage)


def test_live_and_ended_states_are_all_states_beneath() -> None:
    assert set(State) - {State.PAUSED} == LIVE | ENDED
