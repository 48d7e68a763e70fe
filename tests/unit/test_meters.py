"""Rates and windows over settled and running calls."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.gateway.meters import Meters, Ring, midnight
from agenttop.core.journal.events import Usage

NOON = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))
NOTHING = Usage()
USAGE = Usage(input=10, cache_read=20, cache_write_5m=5, output=1)


def settle(meters: Meters, ts: float, *, seen: Usage = NOTHING, cost: float | None = 0.5) -> None:
    meters.settled("a1", "anthropic", ts, USAGE, cost, exact=True, seen=seen)


def test_tokens_seen_while_a_call_runs_are_not_counted_again_when_it_settles() -> None:
    meters = Meters()
    meters.seen("a1", "anthropic", NOON, (10, 20, 5, 0))
    settle(meters, NOON + 3, seen=USAGE._replace(output=0))
    assert meters.agents["a1"].rate(NOON + 3) == (10, 20, 5, 1)
    assert meters.today("a1", NOON + 3).usage == USAGE


def test_a_rate_falls_to_zero_within_a_minute() -> None:
    meters = Meters()
    settle(meters, NOON)
    assert sum(meters.agents["a1"].rate(NOON + 54)) == 36
    assert sum(meters.agents["a1"].rate(NOON + 61)) == 0
    assert meters.agents["a1"].hour.series(NOON + 61, 20)[-2:] == (36, 0)


def test_today_starts_again_at_midnight_and_the_hour_slides() -> None:
    meters = Meters()
    settle(meters, NOON)
    assert meters.hour("a1", NOON + 3500).calls == 1
    assert meters.hour("a1", NOON + 3700).calls == 0
    assert meters.today("a1", NOON + 7200).calls == 1
    assert meters.today("a1", NOON + 13 * 3600).calls == 0


def test_yesterdays_calls_do_not_count_today_when_gauges_are_rebuilt() -> None:
    meters = Meters()
    meters.today("a1", NOON)
    settle(meters, NOON - 13 * 3600)
    assert meters.today("a1", NOON).calls == 0


def test_money_without_a_price_is_counted_as_unpriced() -> None:
    meters = Meters()
    settle(meters, NOON, cost=None)
    today = meters.today("a1", NOON)
    assert (today.cost, today.unpriced) == (0.0, 1)


def test_midnight_is_local() -> None:
    assert time.localtime(midnight(NOON))[3:6] == (0, 0, 0)
    assert 0 <= NOON - midnight(NOON) <= 25 * 3600


@given(st.lists(st.tuples(st.floats(0, 500), st.integers(0, 100)), max_size=50))
def test_a_ring_never_loses_or_invents_tokens_within_its_span(moments: list[tuple[float, int]]) -> None:
    ring = Ring(5, 1000)
    for at, amount in moments:
        ring.add(at, (amount, 0, 0, 0))
    assert ring.total(501)[0][0] == sum(amount for _, amount in moments)
