"""The restart policy, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.agents.agent import Agent, Run
from agenttop.core.agents.restarts import Cause, ending
from agenttop.core.agents.spec import AgentSpec, Restart, RestartMode
from agenttop.core.backend import Exit
from agenttop.core.journal.events import RestartGivenUp, RestartScheduled


def agent(policy: str = "never", *, failures: int = 0, stopping: str | None = None) -> Agent:
    restart = Restart(policy=RestartMode(policy), max_restarts=3, backoff=2, backoff_max=10)
    spec = AgentSpec(name="hello", command=["true"], restart=restart)
    return Agent(id="a1", spec=spec, owner="ana", created=0.0, failures=failures, stopping=stopping)  # type: ignore[arg-type]


def follow(made: Agent, code: int | None, *, ready: bool = True, cause: Cause = "exit") -> object:
    events = ending(made, Run(1, 0.0, ready=ready), Exit(code), cause, 100.0)
    return events[1] if len(events) > 1 else None


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("never", 0, False), ("never", 1, False), ("on-failure", 0, False), ("on-failure", 1, True),
     ("on-failure", None, True), ("always", 0, True), ("always", 1, True)],
)  # fmt: skip
def test_who_is_restarted(policy: str, code: int | None, again: bool) -> None:
    assert isinstance(follow(agent(policy), code), RestartScheduled) is again


def test_the_wait_doubles_up_to_its_maximum() -> None:
    waits = [follow(agent("on-failure", failures=n), 1) for n in range(3)]
    assert [event.at - 100 for event in waits if isinstance(event, RestartScheduled)] == [2, 4, 8]
    assert Restart(backoff=2, backoff_max=10).delay(50) == 10


def test_after_max_restarts_it_is_given_up() -> None:
    assert isinstance(follow(agent("on-failure", failures=3), 1), RestartGivenUp)


def test_always_counts_ends_before_the_start_counted() -> None:
    quick = follow(agent("always", failures=1), 0, ready=False)
    assert isinstance(quick, RestartScheduled)
    assert quick.failures == 2
    slow = follow(agent("always"), 0, ready=True)
    assert isinstance(slow, RestartScheduled)
    assert slow.failures == 0


@given(st.sampled_from(["never", "on-failure", "always"]), st.none() | st.integers(0, 255), st.booleans())
def test_nothing_follows_a_stop(policy: str, code: int | None, ready: bool) -> None:
    stopped = agent(policy, stopping="kill")
    events = ending(stopped, Run(1, 0.0, ready=ready), Exit(code), "exit", 1.0)
    assert len(events) == 1
    assert events[0].cause == "killed"
    assert not events[0].failed


def test_a_reboot_is_a_failure_that_policies_answer() -> None:
    events = ending(agent("on-failure"), Run(1, 0.0, ready=True), Exit(), "reboot", 1.0)
    assert events[0].cause == "reboot"
    assert isinstance(events[1], RestartScheduled)
