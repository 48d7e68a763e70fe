"""Windows of budgets: when they begin and end, what comes back when, and what time zones do to them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.budget.amount import dollars, nanos, said
from agenttop.core.budget.budget import Budget
from agenttop.core.budget.state import Account, BudgetState
from agenttop.core.budget.window import bounds, local_zone

BERLIN = ZoneInfo("Europe/Berlin")


def budget(**fields: Any) -> Budget:
    return Budget(**{"name": "cap", "usd": Decimal(1), **fields})


def state(**fields: Any) -> tuple[BudgetState, Account]:
    made = BudgetState(budget(**fields), "person", 0.0)
    return made, made.account("a", 0.0)


def at(*moment: int) -> float:
    return datetime(*moment, tzinfo=BERLIN).timestamp()  # type: ignore[arg-type]


def test_a_calendar_day_is_that_of_its_zone_and_has_23_or_25_hours_twice_a_year() -> None:
    day = budget(window="day", zone="Europe/Berlin")
    assert bounds(day, at(2026, 7, 1, 12)) == (at(2026, 7, 1), at(2026, 7, 2))
    for short_or_long, hours in ((at(2026, 3, 29, 12), 23), (at(2026, 10, 25, 12), 25)):
        start, end = bounds(day, short_or_long)
        assert start is not None
        assert end is not None
        assert end - start == hours * 3_600


def test_a_calendar_hour_begins_with_the_hour_of_its_zone() -> None:
    hour = budget(window="hour", zone="Asia/Kolkata")  # half an hour off
    start, end = bounds(hour, 1_800.0 + 30 * 60 + 5)
    assert (start, end) == (1_800.0, 5_400.0)


@given(
    ts=st.floats(0, 4e9),
    window=st.sampled_from(["hour", "day"]),
    zone=st.sampled_from(
        ["", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata"]
    ),
)
def test_every_moment_lies_in_its_own_window(ts: float, window: str, zone: str) -> None:
    start, end = bounds(budget(window=window, zone=zone), ts)
    assert start is not None
    assert end is not None
    assert start <= ts < end


def test_a_window_that_ended_gives_its_money_back_once_and_keeps_what_is_reserved() -> None:
    cap, account = state(window="hour")
    cap.add(account, 10.0, 400, 4)
    account.reserved_usd = 50
    assert cap.spent(account, 3_599.0).usd == 400
    assert cap.spent(account, 3_600.0).usd == 0
    assert account.usd == 400, "a look changes nothing"
    assert cap.roll(account, 3_600.0)
    assert not cap.roll(account, 3_600.0)
    assert (account.usd, account.reserved_usd, account.start) == (0, 50, 3_600.0)


def test_a_clock_that_jumps_over_many_windows_ends_up_in_the_present_one() -> None:
    cap, account = state(window="day")
    cap.add(account, 10.0, 400, 4)
    cap.roll(account, 86_400 * 1_000 + 5.0)
    assert (account.start, account.end, account.usd) == (86_400 * 1_000, 86_400 * 1_001, 0)


def test_money_comes_back_to_a_rolling_hour_when_the_last_of_its_minute_is_an_hour_old() -> None:
    cap, account = state(window="hour", rolling=True)
    cap.roll(account, 59.0)
    cap.add(account, 59.0, 400, 4)
    assert cap.next_return(account, 60.0) == 3_660.0
    assert cap.spent(account, 3_659.0).usd == 400
    assert cap.spent(account, 3_660.0).usd == 0
    cap.roll(account, 3_660.0)
    assert (account.usd, account.tokens, account.slots) == (0, 0, [])


@given(st.lists(st.tuples(st.floats(0, 500), st.integers(0, 1_000)), max_size=300))
def test_a_rolling_window_keeps_few_slots_and_never_forgets_what_is_inside_it(
    steps: list[tuple[float, int]],
) -> None:
    cap, account = state(window="hour", rolling=True)
    spent: list[tuple[float, int]] = []
    ts = 0.0
    for pause, amount in steps:
        ts += pause
        cap.roll(account, ts)
        cap.add(account, ts, amount, amount)
        spent.append((ts, amount))
        least = sum(a for t, a in spent if t > ts - 3_600)
        most = sum(a for t, a in spent if t > ts - 3_600 - 60)
        assert least <= cap.spent(account, ts).usd <= most
        assert cap.spent(account, ts).usd == account.usd == sum(slot.usd for slot in account.slots)
        assert len(account.slots) <= 62


def test_money_is_whole_billionths_that_sum_up_whatever_their_order() -> None:
    costs = [0.1, 0.2, 0.3, 1e-9, 0.000123456]
    assert sum(map(nanos, costs)) == sum(map(nanos, reversed(costs))) == 600_123_457
    assert dollars(nanos(123_456.789_012_345)) == 123_456.789_012_345
    assert nanos(Decimal("0.1")) == 100_000_000


@pytest.mark.parametrize(
    ("usd", "text"), [(5, "$5.00"), (1234.5, "$1,234.50"), (0, "$0.00"), (0.0031, "$0.0031"), (0.01, "$0.01")]
)
def test_small_money_is_never_shown_as_nothing(usd: float, text: str) -> None:
    assert said(usd) == text


def test_the_machines_own_zone_has_a_name_that_can_be_written_down() -> None:
    zone = local_zone()
    offset = datetime.now().astimezone().utcoffset()
    assert datetime.now(ZoneInfo(zone or "UTC")).utcoffset() == offset
    assert Budget(name="x", usd=Decimal(1), window="day", zone=zone).zone == zone
