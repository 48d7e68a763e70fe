from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.api import UsageRow
from agenttop.tui.budgets import amounts
from agenttop.tui.widgets import burn_down as burn

from ..support.sample_budgets import HOUR, MIDNIGHT, NOW, budget


def said(rows: list[list[tuple[str, str]]]) -> str:
    return "\n".join("".join(piece for piece, _ in row) for row in rows)


def used(when: float, usd: float) -> UsageRow:
    return UsageRow(keys=[time.strftime("%Y-%m-%d %H:%M", time.localtime(when))], cost_usd=usd)


def test_what_was_left_is_what_is_left_and_what_was_spent_since() -> None:
    spent = burn.spending([used(NOW - 600, 2.0), used(NOW - 1200, 1.0)], usd=True)
    assert [amount for _, amount in spent] == [1.0, 2.0]
    assert burn.left_at(NOW, 5.0, spent, NOW) == 5.0
    assert burn.left_at(NOW - 7200, 5.0, spent, NOW) == 8.0
    middle = (spent[1][0] + NOW) / 2
    assert burn.left_at(middle, 5.0, spent, NOW) == pytest.approx(6.0)


def test_tokens_are_counted_in_all_buckets_and_what_is_no_time_is_left_out() -> None:
    rows = [
        UsageRow(keys=["2026-11-21 14:06"], input=1, cache_read=2, cache_write=3, output=4, cost_usd=9.0),
        UsageRow(keys=["claude"], input=100), UsageRow(keys=[], input=100),
    ]  # fmt: skip
    assert [amount for _, amount in burn.spending(rows, usd=False)] == [10.0]


def test_the_chart_ends_with_the_window_or_where_the_budget_does() -> None:
    day = budget("d", "fleet", "", 10, spent_usd=4.0, burn_usd_hour=1.0)
    assert burn.span(day, NOW) == burn.Span(MIDNIGHT, MIDNIGHT + 24 * HOUR)
    total = budget("t", "fleet", "", 10, "total", spent_usd=4.0, burn_usd_hour=6.0)
    assert burn.span(total, NOW).end == pytest.approx(NOW + 1.1 * HOUR)
    assert (
        burn.span(total.model_copy(update={"window_start": NOW - 90 * 24 * HOUR}), NOW).start
        == NOW - 24 * HOUR
    )


@given(
    spent=st.floats(0, 30), burn_rate=st.none() | st.floats(0, 1e6), width=st.integers(5, 200),
    height=st.integers(1, 40), held=st.integers(0, 2), ascii=st.booleans(),
)  # fmt: skip
def test_it_fits_its_place_whatever_the_figures(
    spent: float, burn_rate: float | None, width: int, height: int, held: int, ascii: bool
) -> None:
    info = budget("d", "fleet", "", 10, spent_usd=spent, burn_usd_hour=burn_rate, held=held)
    rows = burn.rows(info, [used(NOW - HOUR, spent)], NOW, width, height, ascii=ascii)
    assert len(rows) <= height
    assert amounts(info).limit == 10


def test_it_says_when_it_is_empty_at_this_pace_and_at_the_mean() -> None:
    info = budget("d", "fleet", "", 10, spent_usd=4.0, reserved_usd=0.5, burn_usd_hour=5.5)
    text = said(burn.rows(info, [used(NOW - HOUR, 4.0)], NOW, 100, 14))
    empty = time.strftime("%H:%M", time.localtime(NOW + HOUR))
    for part in (
        "5.50 left",
        "0.50 reserved",
        "at 5.50/h now:",
        f"empty at {empty}",
        "the mean",
        "not today",
    ):
        assert part in text, part


def test_what_is_held_is_said_instead_of_a_time() -> None:
    info = budget("d", "fleet", "", 10, spent_usd=9.9, burn_usd_hour=5.5, held=2)
    text = said(burn.rows(info, [], NOW, 100, 14))
    assert "2 calls held" in text
    assert "empty at" not in text
    assert "nothing was spent in it yet" in text
