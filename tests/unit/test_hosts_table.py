"""One table of several: whatever the order in which kernels speak, come and go, it is their union."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.api import Outcome, TranscriptUsage, UsageRow
from agenttop.core.errors import UsageError
from agenttop.core.hosts.address import Reach, parse
from agenttop.core.hosts.host import Host
from agenttop.core.hosts.marks import Marks
from agenttop.core.hosts.naming import Names
from agenttop.core.hosts.routes import Routes, in_order
from agenttop.core.hosts.sums import Merger
from agenttop.core.hosts.totals import costly_first, together
from agenttop.core.paths import Paths
from agenttop.core.table import Delta, Header, HostGauge, ProviderGauge, Row, Snapshot

HOSTS = ("box", "shed", "attic")


def header(**fields: Any) -> Header:
    values: dict[str, Any] = dict.fromkeys(Header._fields, 0) | {
        "providers": (), "cost": 0.0, "cost_exact": True, "load": None, "rates": (0, 0, 0), "problem": "",
        "budget_spent": None, "budget_limit": None, "halted": False, "budget_window": "", "hosts": (),
    }  # fmt: skip
    return Header(**(values | fields))


def row(key: str, cost: float = 0.0, parent: str | None = None) -> Row:
    values: dict[str, Any] = dict.fromkeys(Row._fields) | {
        "id": key, "name": key, "state": "executing", "detail": "", "since": 1.0, "needs": False, "rate": 3,
        "backend": "subprocess", "owner": "ana", "labels": "", "nice": 0, "rate_exact": True, "spark": (),
        "input": 0, "cache_read": 0, "cache_write": 0, "output": 0, "cost": cost, "cost_exact": True,
        "unpriced": False, "dead_letters": 0, "run": 1, "task": "", "observed": False, "parent": parent,
        "attach": True, "host": "",
    }  # fmt: skip
    return Row(**values)


Rows = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9), max_size=4)
Step = st.tuples(st.sampled_from(HOSTS), st.sampled_from(["snapshot", "delta", "away", "take"]), Rows)


@given(st.lists(Step, max_size=60))
def test_any_interleaving_gives_the_union_of_what_each_host_said_last(steps: list[Any]) -> None:
    merger = Merger([Names(host, True) for host in HOSTS], "today")
    truth: dict[str, dict[str, int]] = {}
    away: set[str] = set()
    shown: dict[str, Row] = {}
    told = False

    def take() -> None:
        nonlocal told
        change = merger.take()
        if change is None:
            return
        assert isinstance(change, Delta if told else Snapshot)
        if isinstance(change, Snapshot):
            assert {one.id for one in change.rows} & shown.keys() == set()
        else:
            for gone in change.gone:
                del shown[gone]
            assert not [one for one in change.rows if shown.get(one.id) == one], "unchanged rows are not told"
        told = True
        shown.update({one.id: one for one in change.rows})

    for seq, (host, what, rows) in enumerate(steps):
        if what == "take":
            take()
        elif what == "away":
            away.add(host)
            merger.away(host, HostGauge(host, 5.0, "cut", None))
        elif what == "snapshot" or host not in truth:
            truth[host] = dict(rows)
            away.discard(host)
            merger.apply(host, Snapshot(seq, 0.0, "today", header(), tuple(map(_row, rows.items()))))
        else:
            gone = tuple(key for key, value in rows.items() if value == 0)
            kept = {key: value for key, value in rows.items() if value}
            truth[host] = {key: v for key, v in (truth[host] | kept).items() if key not in gone}
            merger.apply(host, Delta(seq, 0.0, None, tuple(map(_row, kept.items())), gone))
    take()
    expected = {f"{host}/{key}": value for host, rows in truth.items() for key, value in rows.items()}
    assert {key: one.cost for key, one in shown.items()} == expected
    assert {one.host for one in shown.values() if one.stale is not None} == {
        one.host for one in shown.values() if one.host in away
    }


def _row(item: tuple[str, int]) -> Row:
    return row(item[0], float(item[1]))


def test_one_host_keeps_its_ids_and_several_get_their_host() -> None:
    alone, among = Names("box", False), Names("box", True)
    child = row("b1", parent="a1")
    assert alone.row(child, None) == child._replace(host="box")
    told = among.row(child, 7.0)
    assert (told.id, told.parent, told.name, told.host) == ("box/b1", "box/a1", "b1", "box")
    assert (told.stale, told.rate, told.attach) == (7.0, 0, False)
    assert among.bare("box/b1") == "b1"
    assert not among.owns("boxer/b1")
    assert Names("ana@box:22", True).budget_name("daily") == "ana-box-22.daily"


def test_the_header_sums_over_all_and_forgets_the_present_of_those_away() -> None:
    gauge = ProviderGauge("anthropic", "ANT", 1, 2, 3, 4, 100, 10)
    one = header(
        providers=(gauge,), cost=1.5, agents_cpu=50.0, host_cores=4, load=(0.5, 0.4, 0.3), approvals=1
    )
    other = header(
        providers=(gauge._replace(limit=None),), cost=2.0, cost_exact=False, agents_cpu=70.0, host_cores=8,
        load=(0.2, 0.9, 0.1), budget_spent=1.0, budget_limit=5.0, budget_window="day", problem="disk full",
    )  # fmt: skip
    merger = Merger([Names(host, True) for host in HOSTS[:2]], "today")
    merger.apply("box", Snapshot(3, 0.0, "today", one, ()))
    assert not merger.settled
    merger.apply("shed", Snapshot(4, 0.0, "today", other, ()))
    assert merger.settled
    first = merger.take()
    assert isinstance(first, Snapshot)
    sums = first.header
    assert (first.seq, sums.cost, sums.cost_exact, sums.agents_cpu, sums.host_cores) == (
        7,
        3.5,
        False,
        120.0,
        12,
    )
    assert (sums.load, sums.approvals, sums.problem) == ((0.5, 0.9, 0.3), 1, "shed: disk full")
    assert sums.providers == (ProviderGauge("anthropic", "ANT", 2, 4, 6, 8, None, 20),)
    assert (sums.budget_spent, sums.budget_limit, sums.budget_window) == (1.0, 5.0, "day")
    assert [host.away for host in sums.hosts] == [None, None]
    merger.away("shed", HostGauge("shed", 9.0, "cut", 12.0))
    change = merger.take()
    assert isinstance(change, Delta)
    assert change.header is not None
    assert (change.header.cost, change.header.agents_cpu, change.header.host_cores) == (3.5, 50.0, 12)
    assert change.header.problem == ""
    assert change.header.hosts[1] == HostGauge("shed", 9.0, "cut", 12.0)


@pytest.mark.parametrize(
    ("halted", "badge", "problem"), [((True, True), True, ""), ((True, False), False, "box")]
)
def test_halted_is_said_of_all_or_of_the_hosts_that_are(
    halted: tuple[bool, bool], badge: bool, problem: str
) -> None:
    merger = Merger([Names(host, True) for host in HOSTS[:2]], "today")
    for host, on in zip(HOSTS, halted, strict=False):
        merger.apply(host, Snapshot(1, 0.0, "today", header(halted=on), ()))
    change = merger.take()
    assert change is not None
    assert change.header is not None
    assert change.header.halted == badge
    assert change.header.problem.startswith(problem)
    assert bool(change.header.problem) == bool(problem)


@given(st.lists(st.dictionaries(st.sampled_from(HOSTS), st.integers(0, 99)), max_size=20))
def test_numbers_of_events_lead_back_to_their_places(places: list[dict[str, int]]) -> None:
    marks = Marks(list(HOSTS))
    numbers = [marks.of(place) for place in places]
    assert numbers == sorted(set(numbers))
    for number, place in zip(numbers, places, strict=True):
        assert marks.places(number) == {host: place.get(host, 0) for host in HOSTS}
    assert marks.places(0) == dict.fromkeys(HOSTS, 0)
    assert set(marks.places(marks.alone(17)).values()) == {17}
    with pytest.raises(UsageError):
        marks.places(len(places) + 1)


def test_one_host_s_event_numbers_are_its_own() -> None:
    marks = Marks(["box"])
    assert marks.of({"box": 12}) == marks.alone(12) == 12
    assert marks.places(12) == {"box": 12}


def test_outcomes_stand_in_the_order_of_their_references() -> None:
    def of(*refs: str) -> list[Outcome]:
        return [Outcome(ref=ref) for ref in refs]

    done = [("box", of("box/a", "box/child", "box/c")), ("shed", of("shed/b")), ("nobody", of("nobody"))]
    found = in_order(["box/a", "shed/b", "nobody", "box/c"], done)
    assert [outcome.ref for outcome in found] == ["box/a", "box/child", "shed/b", "nobody", "box/c"]


def test_sums_under_equal_keys_become_one() -> None:
    rows = [
        UsageRow(keys=["opus"], calls=2, input=10, cost_usd=1.0),
        UsageRow(keys=["haiku"], calls=1, cost_usd=None),
        UsageRow(keys=["opus"], calls=1, input=5, cost_usd=0.5, exact=False, unpriced=1),
        UsageRow(keys=["haiku"], calls=1, cost_usd=0.25),
    ]
    opus, haiku = together(rows)
    assert (opus.calls, opus.input, opus.cost_usd, opus.exact, opus.unpriced) == (3, 15, 1.5, False, 1)
    assert (haiku.calls, haiku.cost_usd) == (2, 0.25)


def test_budgets_of_hosts_with_like_names_are_told_apart() -> None:
    labels = ["ana@box", "ana-box", "bob@box", "ana-box-2", "10.0.0.1", "10-0-0-1", "_"]
    routes = Routes([Host(one, Paths.from_environ({}), Reach()) for one in parse(labels)])
    names = [one.budget_name("day") for one in routes.names.values()]
    assert len(set(names)) == len(names)
    for label, name in zip(routes.hosts, names, strict=True):
        assert routes.of_budget(name).label == label
        assert routes.names[label].bare_budget(name) == "day"


def test_sums_of_several_hosts_stand_in_the_order_of_one() -> None:
    def used(*keys: str, cost: float | None = None, calls: int = 1) -> TranscriptUsage:
        return TranscriptUsage(keys=list(keys), calls=calls, cost_usd=cost, input=calls)

    here = [used("2026-11-02", "a", cost=1.0), used("2026-11-04", "a", cost=1.0)]
    there = [used("2026-11-01", "b"), used("2026-11-02", "b", cost=3.0), used("2026-11-04", "a", cost=1.0)]
    rows = costly_first(together([*here, *there]), ["day", "model"])
    assert [(*row.keys, row.calls) for row in rows] == [
        ("2026-11-01", "b", 1),
        ("2026-11-02", "b", 1),
        ("2026-11-02", "a", 1),
        ("2026-11-04", "a", 2),
    ]
