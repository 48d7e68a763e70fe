"""The kill menu promises only what can be kept."""

from __future__ import annotations

from agenttop.core.api import AgentInfo, KillPlan
from agenttop.tui.screens.signals import below, choices


def agent(key: str, parent: str | None, *, observed: bool) -> AgentInfo:
    return AgentInfo(
        id=key,
        name=key,
        state="executing",
        backend="observed" if observed else "subprocess",
        owner="ana",
        parent=parent,
        observed=observed,
    )


def plan(*, observed: bool) -> KillPlan:
    agents = [agent("a", None, observed=observed), agent("b", "a", observed=observed)]
    return KillPlan(agents=agents, processes={}, untouched=0)


def only(plan: KillPlan) -> str:
    return next(choice.impossible for choice in choices(plan, True) if choice.id == "only")


def test_an_observed_agent_cannot_be_ended_without_the_agents_in_its_tree() -> None:
    assert only(plan(observed=True)) == "observed: they are in its tree"
    assert only(plan(observed=False)) == ""


def test_what_is_done_to_a_whole_tree_is_not_asked_for_again_of_the_agents_in_it() -> None:
    assert below(plan(observed=True), ["a"], "kill") == []
    assert below(plan(observed=True), ["a"], "int") == ["b"]
    assert below(plan(observed=False), ["a"], "kill") == ["b"]
