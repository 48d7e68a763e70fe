"""Finding agents by name, id and prefix; new ids and names."""

from __future__ import annotations

import pytest

from agenttop.core.agents import registry
from agenttop.core.agents.agent import Fleet
from agenttop.core.agents.spec import NAME, AgentSpec
from agenttop.core.errors import AmbiguousAgent, NoSuchAgent
from agenttop.core.journal import events as ev
from agenttop.core.journal import fold


def fleet(*agents: tuple[str, str, str | None]) -> Fleet:
    made = Fleet()
    for seq, (key, name, parent) in enumerate(agents, 1):
        spec = AgentSpec(name=name, command=["true"], parent=parent)
        fold.apply(made, seq, ev.AgentCreated(agent=key, spec=spec, owner="ana"), 0.0)
    return made


FLEET = fleet(
    ("a1f3", "lead", None), ("a1c0", "api", "a1f3"), ("b7e4", "tests", "a1c0"), ("c913", "a1", None)
)


def test_a_name_wins_over_a_prefix() -> None:
    assert registry.resolve(FLEET, "a1").id == "c913"


def test_id_and_prefix_find_one() -> None:
    assert registry.resolve(FLEET, "b7e4").name == "tests"
    assert registry.resolve(FLEET, "b").name == "tests"


def test_an_ambiguous_prefix_names_the_candidates() -> None:
    ambiguous = fleet(("a1f3", "lead", None), ("a1c0", "api", None))
    with pytest.raises(AmbiguousAgent, match="a1f3 lead, a1c0 api"):
        registry.resolve(ambiguous, "a1")


@pytest.mark.parametrize("ref", ["nobody", "", "x\ny", "\x1b[31m"])
def test_nothing_found_says_so_on_one_printable_line(ref: str) -> None:
    with pytest.raises(NoSuchAgent) as caught:
        registry.resolve(FLEET, ref)
    assert str(caught.value).isprintable()
    assert "no agent ." not in str(caught.value)


def test_select_keeps_order_and_errors_and_takes_nobody_twice() -> None:
    chosen = registry.select(FLEET, ["tests", "nobody", "lead"], children=True)
    assert isinstance(chosen[1][1], NoSuchAgent)
    assert [ref for ref, _ in chosen] == ["tests", "nobody", "lead", "api"]


def test_descendants_survive_a_circle_of_parents() -> None:
    circle = fleet(("a1f3", "x", "b7e4"), ("b7e4", "y", "a1f3"))
    assert [agent.name for agent in registry.descendants(circle, "a1f3")] == ["y"]


def test_new_ids_never_read_as_numbers() -> None:
    ids = [registry.new_id([]) for _ in range(500)]
    assert all(len(key) == 4 and not key.replace("e", "").isdecimal() for key in ids)


def test_names_are_numbered_from_two() -> None:
    assert registry.free_name(FLEET, "new") == "new"
    assert registry.free_name(FLEET, "lead") == "lead-2"
    assert NAME.fullmatch(registry.free_name(fleet(("a", "x" * 63, None)), "x" * 63))


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/bin/python3", "x"], "python3"),
        (["./we ird.sh"], "we-ird.sh"),
        (["///"], "agent"),
        ([], "agent"),
    ],
)
def test_an_agent_without_a_name_is_called_after_its_program(command: list[str], name: str) -> None:
    assert registry.proposed_name(command, None) == name
