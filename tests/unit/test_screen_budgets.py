from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.api import ApprovalInfo, BudgetInfo
from agenttop.tui import budgets as b

from ..support.sample_budgets import HOUR, approvals, budget, budgets


def named(order: str = "tree", infos: list[BudgetInfo] | None = None) -> list[str]:
    return [line.tree + line.info.budget.name for line in b.lines(infos or budgets(), order)]


def test_a_budget_stands_below_the_one_that_covers_it() -> None:
    assert named() == [
        "fleet", "├checkout", "│└lead", "│ ├api", "│ │└api-tests", "│ ├ui", "│ ├docs", "│ └review", "├db",
        "│└migrate", "├nightly", "├triage", "├scrape", "└embed",
    ]  # fmt: skip


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_every_budget_is_shown_once_whatever_the_kernel_says_of_parents(parents: list[int]) -> None:
    infos = [
        budget(f"b{n}", "fleet", "", 10, spent_usd=1.0, parent=f"b{above}")
        for n, above in enumerate(parents)
    ]  # fmt: skip
    names = sorted(line.info.budget.name for line in b.lines(infos))
    assert names == sorted(info.budget.name for info in infos)


def test_who_is_stopped_next_is_who_holds_a_call_and_then_who_runs_out_first() -> None:
    soon = [info.budget.name for info in b.next_stopped(budgets())]
    assert soon[:3] == ["migrate", "lead", "api"]
    assert soon[-1] == "triage"
    assert "docs" not in soon, "nothing is spent of it now"
    assert named("stops")[: len(soon)] == soon
    assert len(named("stops")) == len(budgets())


def test_the_tighter_limit_is_the_one_that_is_shown() -> None:
    both = budget("x", "fleet", "", 10, spent_usd=1.0)
    both = both.model_copy(update={"limit_tokens": 1000, "spent_tokens": 900})
    assert b.amounts(both) == b.Amounts(False, 900, 0, 1000, None)
    assert b.amounts(both).used == 90
    assert b.amounts(both).say(b.amounts(both).left) == "100"


def test_what_is_over_its_limit_stops_now() -> None:
    over = budget("x", "fleet", "", 1, spent_usd=1.02)
    assert b.lasts(over) == "now"
    assert b.amounts(over).say(b.amounts(over).left) == "-0.02"


@given(st.floats(1e-6, 1e9))
def test_rounding_up_never_gives_less_and_not_much_more(value: float) -> None:
    found = b.rounded_up(value)
    assert value * 0.999999 <= found <= value * 2.5001


@pytest.mark.parametrize(
    ("value", "found"), [(0.19, 0.2), (0.2, 0.2), (0.21, 0.5), (5, 5.0), (7, 10.0), (0, 0.0)]
)
def test_rounding_up_goes_by_one_two_five(value: float, found: float) -> None:
    assert b.rounded_up(value) == found


def test_amounts_go_up_and_down_the_same_way() -> None:
    up = [0.2]
    for _ in range(5):
        up.append(b.beside(up[-1], 1, 0.01))
    assert up == [0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
    down = [up[-1]]
    for _ in range(7):
        down.append(b.beside(down[-1], -1, 0.05))
    assert down == [10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05]


def test_the_suggestion_is_what_the_call_lacks_rounded_up() -> None:
    (question,) = approvals()
    assert b.need(question) == b.Need(0.2, 0)
    tokens = ApprovalInfo(
        approval="a", agent="x", name="x", about="budget", question="", since=0, call="c",
        needed_tokens=3_400, left_tokens=-200,
    )  # fmt: skip
    assert b.need(tokens) == b.Need(0.0, 5000)


def test_the_budgets_of_an_agent_are_all_that_cover_it_the_tightest_first() -> None:
    assert [info.budget.name for info in b.covering(budgets(), "b7e4")] == [
        "lead", "api", "checkout", "fleet", "api-tests",
    ]  # fmt: skip


def test_the_pace_is_said_in_the_limits_own_unit() -> None:
    by_name = {info.budget.name: info for info in budgets()}
    assert b.amounts(by_name["fleet"]).pace() == "15.55"
    assert b.amounts(by_name["embed"]).pace() == "27k/m"
    assert b.amounts(by_name["docs"]).pace() == "-"
    assert b.lasts(by_name["fleet"]) == "1h39"
    assert by_name["fleet"].seconds_left == pytest.approx(25.72 / 15.55 * HOUR)
