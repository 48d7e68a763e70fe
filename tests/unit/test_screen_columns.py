from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.tui.columns import COLUMNS, dropped, layout


def names(width: int, chosen: tuple[str, ...] = ()) -> list[str]:
    return [place.column.title for place in layout(width, chosen)]


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (40, "NAME S WHY TOK/m"),
        (80, "ID NAME S WHY CTX% TOK/m $ BUD% TASK"),
        (120, "ID NAME S WHY MODEL CTX% TOK/m IN CACHE OUT $ BUD% MBOX TASK"),
        (
            200,
            "ID NAME S WHY NI BACKEND MODEL CTX% TOK/m LAST_20m IN C-RD C-WR OUT $ BUD% MBOX WRK/REC/ARC "
            "CPU% MEM TIME+ PIDS TASK",
        ),
    ],
)
def test_columns_appear_at_their_width(width: int, titles: str) -> None:
    assert names(width) == [title.replace("_", " ") for title in titles.split()]


@given(st.integers(8, 400), st.lists(st.sampled_from([c.id for c in COLUMNS]), unique=True))
def test_columns_never_overlap_or_leave_the_line(width: int, chosen: list[str]) -> None:
    end = 0
    for place in layout(width, tuple(chosen)):
        assert place.x > end
        assert place.cells >= 1
        end = place.x + place.cells
    assert end <= width


def test_a_persons_choice_keeps_its_order() -> None:
    assert names(80, ("task", "name", "pids")) == ["TASK", "NAME", "PIDS"]


def test_what_does_not_fit_is_dropped_from_the_widest_screens_column_down() -> None:
    every = tuple(column.id for column in COLUMNS)
    kept = names(60, every)
    assert kept[:1] == ["ID"]
    assert "PIDS" not in kept
    assert {"NAME", "S", "WHY", "$"} <= set(kept)


def test_what_is_dropped_can_be_told() -> None:
    assert {column.title for column in dropped(layout(80))} >= {"MODEL", "PIDS", "MEM"}
