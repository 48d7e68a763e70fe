"""The fold of open questions, and of what was done to agents that somebody else started."""

from __future__ import annotations

from typing import Any

from agenttop.core.agents.agent import Agent, Fleet
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.agents.states import State, Waiting
from agenttop.core.journal import describe, fold
from agenttop.core.journal import events as ev


def run(*events: ev.Event) -> Fleet:
    fleet = Fleet()
    for seq, event in enumerate(events, 1):
        fold.apply(fleet, seq, event, float(seq))
    return fleet


def at_a_terminal(*more: ev.Event) -> Agent:
    spec = AgentSpec(name="asks", command=["claude"])
    return run(
        ev.AgentCreated(agent="a1", spec=spec, owner="ana"),
        ev.RunStarting(agent="a1", run=1),
        ev.RunStarted(agent="a1", run=1, ref={}, keyboard=True),
        ev.RunReady(agent="a1", run=1),
        *more,
    ).agents["a1"]


CALL = ev.CallStarted(agent="a1", call="c1", run=1, provider="anthropic", protocol="anthropic")
ASKED = ev.InputAwaited(agent="a1", run=1, detail="Bash?")


def shown(agent: Agent) -> tuple[State, Waiting | None, str]:
    return agent.state, agent.reason, agent.detail


def test_an_open_question_is_a_wait_for_input_until_it_is_answered() -> None:
    assert shown(at_a_terminal(ASKED)) == (State.WAITING, Waiting.INPUT, "Bash?")
    goes_on = ev.InputGiven(agent="a1", run=1, state="executing", detail="Bash")
    assert shown(at_a_terminal(ASKED, goes_on)) == (State.EXECUTING, None, "Bash")
    over = ev.InputGiven(agent="a1", run=1, state="idle")
    assert shown(at_a_terminal(ASKED, over)) == (State.WAITING, Waiting.INPUT, "")
    assert at_a_terminal(ASKED, CALL).state is State.PLANNING


def test_what_the_gateway_sees_goes_before_what_a_transcript_says() -> None:
    assert at_a_terminal(CALL, ASKED).state is State.PLANNING
    assert at_a_terminal(ev.InputAwaited(agent="a1", run=2, detail="old")).state is State.EXECUTING
    late = ev.InputGiven(agent="a1", run=1, state="executing")
    assert at_a_terminal(CALL, late).state is State.PLANNING


def frozen(total: int = 2, **more: Any) -> ev.ObservedPaused:
    values = {"agent": "o1", "name": "claude@7", "observer": "claude", "boot_id": "b", "total": total}
    return ev.ObservedPaused(**values, processes=[(7, 8), (9, 10)], frozen=total, **more)  # type: ignore[arg-type]


def test_a_frozen_observed_agent_is_remembered_until_it_is_let_go_ended_or_the_machine_rebooted() -> None:
    fleet = run(frozen(0), frozen(2))
    kept = fleet.observed["o1"]
    assert (kept.processes, kept.since, kept.total) == (((7, 8), (9, 10)), 1.0, 2)
    restored = fold.load(fold.dump(fleet))
    assert restored is not None
    assert restored.observed == fleet.observed
    assert fleet.agents == {}
    same = ev.KernelStarted(version="1", pid=1, boot_id="b")
    assert run(frozen(), same).observed
    ends: tuple[ev.Event, ...] = (
        ev.ObservedResumed(agent="o1", name="claude@7"),
        ev.ObservedKillProven(agent="o1", name="claude@7", processes=2, ended=2),
        ev.KernelStarted(version="1", pid=1, boot_id="another"),
    )
    for end in ends:
        assert run(frozen(), end).observed == {}
    survived = ev.ObservedKillProven(agent="o1", name="claude@7", processes=2, ended=1, survivors=[9])
    assert run(frozen(), survived).observed


def test_a_row_of_the_journal_names_an_observed_agent_that_is_gone() -> None:
    body = frozen().model_dump_json().encode()
    told = describe.info(ev.Record(1, 0.0, "ObservedPaused", "o1", body, b""), None)
    assert (told.name, told.text) == ("claude@7", "observed: frozen 2/2, ")
