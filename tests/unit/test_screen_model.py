from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from agenttop.core.api import Delta, Row, Snapshot
from agenttop.tui.model import GLOW, HOLD, FleetModel

from ..support.sample import NOW, ROWS, header, row


class Clock:
    """Seconds that move when told."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def fleet(rows: tuple[Row, ...] = ROWS) -> tuple[FleetModel, Clock]:
    clock = Clock()
    model = FleetModel(clock)
    model.apply(Snapshot(1, NOW, "today", header(rows), rows))
    model.refresh()
    return model, clock


def change(model: FleetModel, *rows: Row, gone: tuple[str, ...] = ()) -> None:
    model.apply(Delta(model.seq + 1, NOW, None, rows, gone))
    model.refresh()


def order(model: FleetModel) -> list[str]:
    return [model.rows[line.id].name for line in model.lines if line.id in model.rows]


def by_name(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


def test_children_stand_below_their_parent_and_siblings_by_cost() -> None:
    model, _ = fleet()
    assert order(model)[:6] == ["lead", "api", "api-tests", "ui", "docs", "review"]
    assert [line.tree for line in model.lines[:6]] == ["", "├", "│└", "├", "├", "└"]


def test_what_is_not_known_sorts_last_in_both_directions() -> None:
    model, _ = fleet()
    assert order(model)[-1] == "embed"
    model.largest = False
    model.reorder()
    assert order(model)[-1] == "embed"


def test_the_cursor_follows_its_agent_when_rows_move() -> None:
    model, _ = fleet()
    model.find("triage")
    before = model.place
    change(model, by_name("triage")._replace(cost=99.0))
    assert model.current is not None
    assert model.current.name == "triage"
    assert model.place == 0 != before


def test_the_order_stands_still_for_some_seconds_after_a_key() -> None:
    model, clock = fleet()
    before = order(model)
    model.touch()
    change(model, by_name("triage")._replace(cost=99.0))
    assert order(model) == before
    clock.now += HOLD + 0.1
    model.refresh()
    assert order(model)[0] == "triage"


def test_a_new_row_is_seen_even_while_the_order_stands_still() -> None:
    model, _ = fleet()
    model.touch()
    change(model, row("ffff", "late", "initializing"))
    assert order(model)[-1] == "late"
    assert model.glow("ffff") == "new"


def test_a_row_that_went_stays_for_some_seconds_and_glows() -> None:
    model, clock = fleet()
    change(model, gone=("4d15",))
    assert "4d15" in [line.id for line in model.lines]
    assert model.glow("4d15") == "gone"
    assert model.row("4d15") is not None
    clock.now += GLOW + 0.1
    model.refresh()
    assert "4d15" not in [line.id for line in model.lines]
    assert model.row("4d15") is None


def test_the_cursor_stays_near_its_place_when_its_agent_goes() -> None:
    model, clock = fleet()
    model.find("nightly")
    place = model.place
    change(model, gone=("2b9a",))
    clock.now += GLOW + 0.1
    model.refresh()
    assert model.place == place
    assert model.current is not None


def test_a_display_that_stands_still_shows_what_it_showed() -> None:
    model, _ = fleet()
    model.stand(True)
    change(model, by_name("lead")._replace(rate=1), gone=("4d15",))
    assert model.row("a1f3") == by_name("lead")
    assert model.row("4d15") == by_name("scrape")
    model.stand(False)
    assert model.row("a1f3") == by_name("lead")._replace(rate=1)


def test_filter_and_needs_only_select_rows() -> None:
    model, _ = fleet()
    model.filter = "sonnet orders"
    model.reorder()
    assert order(model) == ["api", "api-tests"]
    model.filter, model.needs_only = "", True
    model.reorder()
    assert sorted(order(model)) == ["flaky-hunt", "migrate", "scrape"]


def test_tagged_rows_are_what_a_verb_acts_on() -> None:
    model, _ = fleet()
    assert [row.name for row in model.targets()] == ["lead"]
    model.toggle_tags(model.children("b20c"))
    assert [row.name for row in model.targets()] == ["api", "api-tests"]
    model.toggle_tags(["b20c", "b7e4"])
    assert model.tags == set()


def test_parents_in_a_circle_are_shown_and_not_lost() -> None:
    model, _ = fleet(
        (row("a", "a", "idle", parent="b"), row("b", "b", "idle", parent="a"), row("c", "c", "idle"))
    )
    assert sorted(order(model)) == ["a", "b", "c"]


ids = st.sampled_from([f"{n:04x}" for n in range(12)])
rows = st.builds(
    lambda key, parent, cost, state, needs: row(
        key, f"agent-{key}", state, parent=parent, cost=cost, needs=needs, since=NOW
    ),
    ids,
    st.none() | ids,
    st.none() | st.floats(0, 100),
    st.sampled_from(["idle", "planning", "error", "terminated"]),
    st.booleans(),
)
steps = st.lists(
    st.tuples(st.lists(rows, max_size=5, unique_by=lambda r: r.id), st.sets(ids, max_size=2)), max_size=12
)


@settings(max_examples=150, deadline=None)
@given(steps, st.booleans())
def test_after_any_deltas_the_table_equals_one_made_from_a_fresh_snapshot(
    changes: list[tuple[list[Row], set[str]]], tree: bool
) -> None:
    model, clock = fleet(())
    model.tree = tree
    for fresh, gone in changes:
        change(model, *fresh, gone=tuple(gone - {row.id for row in fresh}))
        clock.now += 1
    clock.now += GLOW + 1
    model.refresh()
    other = FleetModel(clock)
    other.tree = tree
    other.apply(Snapshot(1, NOW, "today", header(()), tuple(model.rows.values())))
    other.refresh()
    assert {line.id for line in model.lines} == set(model.rows) == {line.id for line in other.lines}
    assert Counter(line.tree for line in model.lines) == Counter(line.tree for line in other.lines)
    assert {k: v for k, v in model.counts.items() if v} == other.counts
    assert (model.needing, model.stale) == (other.needing, other.stale)
    costs = [model.rows[line.id].cost for line in model.lines] if not tree else []
    known = [cost for cost in costs if cost is not None]
    assert known == sorted(known, reverse=True)
    assert model.cursor in model.rows or not model.rows


def test_open_questions_are_counted_once_among_what_needs_a_person() -> None:
    model = FleetModel(lambda: NOW)
    model.apply(Snapshot(1, NOW, "today", header(ROWS), ROWS))
    assert model.needing_you == 3, "migrate's question is migrate's row"
    model.apply(Delta(2, NOW, header(ROWS, approvals=4), (), ()))
    assert model.needing_you == 6
    model.apply(Delta(3, NOW, header(ROWS, approvals=0), (), ()))
    assert model.needing_you == 3, "a row that waits needs a person though no question is known"
