"""The two folds of the books share nothing that an event may change."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from agenttop.core.agents.agent import Agent, Call, Fleet, Freeze, Run
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.journal import books


def changeable(value: Any) -> list[Any]:
    """Everything below ``value`` that can be changed in place, but the handles of backends."""
    if is_dataclass(value) and not isinstance(value, type):
        below = [getattr(value, f.name) for f in fields(value) if f.name != "ref"]
        return [value, *(found for part in below for found in changeable(part))]
    if isinstance(value, dict):
        return [value, *(found for part in value.values() for found in changeable(part))]
    if isinstance(value, list):
        return [value, *(found for part in value for found in changeable(part))]
    return []


def test_a_copy_is_equal_and_shares_nothing_that_changes() -> None:
    agent = Agent("a1", AgentSpec(name="one", command=["true"]), "ana", 1.0)
    agent.run, agent.past, agent.freeze = Run(2, 2.0, {"pid": 1}), [Run(1, 1.0)], Freeze(3.0, 4, 4, "signal")
    agent.calls = {"c": Call("c", 2, "anthropic", None, 3.0)}
    fleet = Fleet(7, {"a1": agent}, {"one": "a1"}, "boot", 1)
    copy = books._copy(fleet)
    assert copy == fleet
    ours = {id(part) for part in changeable(fleet)}
    assert len(ours) == 12
    assert not ours & {id(part) for part in changeable(copy)}
