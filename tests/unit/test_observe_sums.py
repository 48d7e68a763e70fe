"""Sums of what transcripts tell: by local days, projects and the like, and what they cost."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttop.core.api import TranscriptRequest
from agenttop.core.budget.prices import OwnPrice, Prices
from agenttop.core.errors import UsageError
from agenttop.core.journal.events import Usage
from agenttop.core.observe.index.calls import BANDS, band
from agenttop.core.observe.index.costs import cost
from agenttop.core.observe.index.reporting import report
from agenttop.core.observe.index.scan_index import Sum
from agenttop.core.observe.index.summing import Group, Wish, groups
from agenttop.core.observe.pricing import Pricing

FACTS: dict[int, dict[str, Any]] = {
    1: {"session": "one", "cwd": "/home/ana/shop"},
    2: {"session": "two", "cwd": "/home/ana/shop/api"},
    3: {"session": None, "cwd": None},
    4: {"session": "four", "cwd": "/home/ana/shopping"},
}
KINDS = {1: "claude", 2: "codex", 3: "claude", 4: "claude"}
PATHS = {file: f"/transcripts/file{file}.jsonl" for file in KINDS}


def quarter(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) // 900


def one(file: int = 1, at: str = "2026-11-21T12:00Z", model: str = "m", calls: int = 1) -> Sum:
    return Sum(file, model, quarter(at), 0, calls, 10, 20, 30, 40, 50, 5)


def counted(sums: list[Sum], **wish: Any) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for group in groups(sums, KINDS, FACTS, PATHS, Wish(**wish)):
        found[tuple(group.keys)] = found.get(tuple(group.keys), 0) + group.calls
    return found


def test_a_day_ends_at_local_midnight_on_the_days_that_have_23_and_25_hours_too() -> None:
    sums = [
        one(at=moment)
        for moment in (
            "2026-10-24T21:45Z", "2026-10-24T22:00Z",  # Berlin goes back on the 25th: 25 hours
            "2026-10-25T22:45Z", "2026-10-25T23:00Z",
            "2027-03-27T22:45Z", "2027-03-27T23:00Z",  # and on on the 28th: 23 hours
            "2027-03-28T21:45Z", "2027-03-28T22:00Z",
        )
    ]  # fmt: skip
    assert counted(sums, timezone="Europe/Berlin") == {
        ("2026-10-24",): 1, ("2026-10-25",): 2, ("2026-10-26",): 1,
        ("2027-03-27",): 1, ("2027-03-28",): 2, ("2027-03-29",): 1,
    }  # fmt: skip


def test_zones_that_are_off_by_quarters_of_an_hour_have_their_own_midnight() -> None:
    sums = [one(at="2026-11-21T18:00Z"), one(at="2026-11-21T18:15Z"), one(at="2026-11-21T18:30Z")]
    assert counted(sums, timezone="Asia/Kathmandu") == {("2026-11-21",): 1, ("2026-11-22",): 2}
    assert counted(sums, timezone="Asia/Kolkata") == {("2026-11-21",): 2, ("2026-11-22",): 1}


@given(st.integers(0, 2_400_000), st.sampled_from(["Pacific/Chatham", "America/St_Johns", "Asia/Gaza"]))
def test_the_day_of_a_quarter_is_the_day_of_each_of_its_seconds(number: int, zone: str) -> None:
    (keys,) = counted([Sum(1, "m", number, 0, 1, 1, 1, 1, 1, 1, 1)], timezone=zone)
    for second in (0, 450, 899):
        shown = datetime.fromtimestamp(number * 900 + second, ZoneInfo(zone))
        assert keys == (shown.strftime("%Y-%m-%d"),)


def test_a_week_is_named_by_its_monday_and_a_month_by_year_and_number() -> None:
    sums = [one(at="2026-11-22T23:45Z"), one(at="2026-11-23T00:00Z"), one(at="2026-12-31T12:00Z")]
    weeks = {("2026-11-16",): 1, ("2026-11-23",): 1, ("2026-12-28",): 1}
    assert counted(sums, by=["week"], timezone="UTC") == weeks
    assert counted(sums, by=["month"], timezone="UTC") == {("2026-11",): 2, ("2026-12",): 1}


def test_keys_come_in_the_order_they_were_asked_for() -> None:
    sums = [one(1), one(2, model="n"), one(3)]
    assert counted(sums, by=["session", "agent", "model", "project"], timezone="UTC") == {
        ("one", "claude", "m", "/home/ana/shop"): 1,
        ("two", "codex", "n", "/home/ana/shop/api"): 1,
        ("file3", "claude", "m", ""): 1,
    }


@pytest.mark.parametrize(
    ("wish", "files"),
    [
        ({"agents": ["codex"]}, {2}),
        ({"projects": ["/home/ana/shop"]}, {1, 2}),
        ({"projects": ["/home/ana/shop/"]}, {1, 2}),
        ({"projects": ["/home/ana/shop/api", "shopping"]}, {2, 4}),
        ({"projects": ["shop"]}, {1}),
        ({"projects": ["/"]}, {1, 2, 4}),
        ({"agents": ["claude"], "projects": ["/home/ana/shop"]}, {1}),
        ({"agents": ["nobody"]}, set()),
    ],
)
def test_only_what_is_wished_for_is_counted(wish: dict[str, Any], files: set[int]) -> None:
    found = counted([one(file) for file in KINDS], by=["session"], timezone="UTC", **wish)
    names = {1: "one", 2: "two", 3: "file3", 4: "four"}
    assert found == {(names[file],): 1 for file in files}


def test_a_span_begins_with_its_first_moment_and_ends_before_its_last() -> None:
    sums = [one(at=f"2026-11-{day}T{hour}Z") for day in (20, 21, 22) for hour in ("00:00", "23:45")]
    first, last = (datetime.fromisoformat(f"2026-11-{day}T00:00Z").timestamp() for day in (21, 22))
    assert counted(sums, timezone="UTC", since=first, until=last) == {("2026-11-21",): 2}


def test_a_zone_that_nobody_knows_is_an_error_with_advice() -> None:
    with pytest.raises(UsageError, match="IANA"):
        counted([one()], timezone="Mars/Olympus_Mons")


# --- costs ---------------------------------------------------------------------------------------

#: Models whose price depends on the size of a call, at 200,000 and 272,000 tokens, and one whose does not.
MODELS = [("claude", "claude-sonnet-4-5"), ("codex", "gpt-5.5"), ("claude", "claude-haiku-4-5")]
_size = st.integers(0, 400_000)
_calls = st.lists(st.builds(Usage, _size, _size, _size, _size, st.integers(0, 60_000)), max_size=12)


@pytest.fixture(scope="module")
def pricing() -> Pricing:
    return Pricing(Prices())


@pytest.mark.parametrize(("agent", "model"), MODELS)
@settings(max_examples=60, deadline=None)
@given(calls=_calls)
def test_a_sum_costs_what_its_calls_cost(
    pricing: Pricing, agent: str, model: str, calls: list[Usage]
) -> None:
    sums: dict[int, list[int]] = {}
    for call in calls:
        place = sums.setdefault(band(call.input + call.cache_read + call.cache_write), [0] * 6)
        for number, count in enumerate(call):
            place[number] += count
    whole = [cost(pricing, agent, model, Usage(*counts), size) for size, counts in sums.items()]
    single = [pricing(agent, model, call).cost for call in calls]
    assert None not in single
    assert sum(filter(None, whole)) == pytest.approx(sum(filter(None, single)), rel=1e-9, abs=1e-9)


def test_a_large_call_has_another_price_where_the_list_says_so(pricing: Pricing) -> None:
    usage = Usage(input=300_000)
    small = cost(pricing, "claude", "claude-sonnet-4-5", usage, band(100_000))
    large = cost(pricing, "claude", "claude-sonnet-4-5", usage, band(300_000))
    assert small is not None
    assert large == pytest.approx(2 * small)


def test_bands_begin_above_their_limits() -> None:
    for number, limit in enumerate(BANDS):
        assert (band(limit), band(limit + 1)) == (number, number + 1)


def test_ones_own_price_counts_here_too() -> None:
    pricing = Pricing(Prices({"my-*": OwnPrice(input=10, output=20)}))  # type: ignore[arg-type]
    assert cost(pricing, "claude", "my-model", Usage(input=500_000, output=100_000), 6) == pytest.approx(7.0)


# --- the answer ----------------------------------------------------------------------------------


def answered(made: list[Group], *by: str, pricing: Pricing) -> Any:
    told = {"groups": [[*group] for group in made], "files": 3, "problems": 1}
    return report(told, TranscriptRequest(by=list(by)), pricing)  # type: ignore[arg-type]


def group(*keys: str, model: str = "claude-haiku-4-5", calls: int = 1, fresh: int = 1_000_000) -> Group:
    return Group([*keys], "claude", model, 0, calls, fresh, 0, 0, 0, 0, 0)


def test_what_has_no_price_is_counted_and_never_free(pricing: Pricing) -> None:
    told = answered([group("a"), group("a", model="nobody-knows", calls=2)], "project", pricing=pricing)
    (row,) = told.rows
    assert (row.calls, row.unpriced, row.cost_usd) == (3, 2, pytest.approx(1.0))
    assert told.total.cost_usd == row.cost_usd
    alone = answered([group("a", model="nobody-knows")], "project", pricing=pricing)
    assert (alone.rows[0].cost_usd, alone.total.cost_usd, alone.total.unpriced) == (None, None, 1)
    nothing = answered([], "project", pricing=pricing)
    assert (nothing.rows, nothing.total.cost_usd) == ([], 0.0)


def test_days_come_in_their_order_and_in_each_the_most_expensive_first(pricing: Pricing) -> None:
    made = [group("2026-11-02", "a"), group("2026-11-01", "b"), group("2026-11-01", "c", fresh=5_000_000)]
    rows = answered(made, "day", "project", pricing=pricing).rows
    assert [row.keys for row in rows] == [["2026-11-01", "c"], ["2026-11-01", "b"], ["2026-11-02", "a"]]
    rows = answered(made, "session", "project", pricing=pricing).rows
    assert [row.keys[1] for row in rows] == ["c", "b", "a"]
