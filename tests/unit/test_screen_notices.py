"""Notifications: one for each agent and wait, many at once as one, and nothing an agent says acts."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.tui.notices import osc, sentence
from agenttop.tui.waits import GAP, GATHER, Waits

from ..support.sample import row

AGENTS = ("a", "b", "c", "d")

#: Seconds that pass, and then who waits.
Steps = list[tuple[float, frozenset[str]]]
steps = st.lists(
    st.tuples(st.sampled_from((0.0, 0.25, 0.5, 1.0, 3.0, 12.0)), st.frozensets(st.sampled_from(AGENTS))),
    max_size=60,
)


def play(moves: Steps) -> tuple[list[tuple[float, list[str]]], list[tuple[float, frozenset[str]]]]:
    """What was told when, and who waited from when on; looked at as the screen does: at each change and
    whenever it is due."""
    waits, now = Waits(), 0.0
    told: list[tuple[float, list[str]]] = []
    waiting: frozenset[str] = frozenset()
    story = []
    for pause, then in [*moves, (GAP + GATHER, frozenset())]:
        end = now + pause
        while (due := waits.due()) is not None and due <= end:
            now = max(now, due)
            told += [(now, names)] if (names := waits.look(waiting, now)) else []
        now, waiting = end, then
        story.append((now, waiting))
        told += [(now, names)] if (names := waits.look(waiting, now)) else []
    return told, story


def spells(story: list[tuple[float, frozenset[str]]], agent: str) -> list[tuple[float, float]]:
    """When an agent began to wait and ceased to."""
    found: list[tuple[float, float]] = []
    since: float | None = None
    for now, waiting in story:
        if agent in waiting and since is None:
            since = now
        elif agent not in waiting and since is not None:
            found.append((since, now))
            since = None
    return found


@given(steps)
def test_nobody_is_told_of_twice_in_a_wait_nor_of_one_that_is_over(moves: Steps) -> None:
    told, story = play(moves)
    for agent in AGENTS:
        times = [now for now, names in told if agent in names]
        for now in times:
            assert any(since <= now <= end for since, end in spells(story, agent))
        for since, end in spells(story, agent):
            assert sum(since + GATHER <= now < end for now in times) <= 1


@given(steps)
def test_there_are_never_two_words_within_the_gap(moves: Steps) -> None:
    told, _ = play(moves)
    assert all(later >= earlier + GAP for (earlier, _), (later, _) in pairwise(told))


@given(steps)
def test_a_wait_that_lasts_is_told_at_the_latest_after_the_gap(moves: Steps) -> None:
    told, story = play(moves)
    for agent in AGENTS:
        for since, end in spells(story, agent):
            if end - since > GAP + GATHER:
                assert any(since <= now <= since + GAP + GATHER for now, names in told if agent in names)


def test_a_storm_is_one_word_and_who_waited_before_is_not_told() -> None:
    waits = Waits()
    waits.known(frozenset("a"))
    storm = frozenset(AGENTS)
    assert waits.look(storm, 100.0) == []
    assert waits.due() == 101.0
    assert waits.look(storm, 101.0) == ["b", "c", "d"]
    assert waits.look(storm, 1_000.0) == []
    assert waits.look(frozenset("a"), 1_001.0) == []
    assert waits.look(storm, 1_002.0) == []
    assert waits.look(storm, 1_003.0) == ["b", "c", "d"]


def named(name: str, reason: str = "input") -> object:
    return row(name, name, state="waiting", reason=reason, needs=True)


def test_one_is_named_with_what_it_waits_for_and_many_are_counted() -> None:
    assert sentence([named("api")]) == "api waits for input"  # type: ignore[list-item]
    assert sentence([named("api", "budget")]) == "api asks for money"  # type: ignore[list-item]
    many = [named(name) for name in ("api", "ui", "docs", "lead", "etl")]
    assert sentence(many) == "5 agents wait for you: api, ui, docs and 2 more"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environ", "sent"),
    [
        ({"TERM": "xterm-256color"}, "\x1b]9;agenttop: hi\a\x1b]777;notify;agenttop;hi\a"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "\x1b]9;agenttop: hi\a"),
        ({"TERM": "foot"}, "\x1b]777;notify;agenttop;hi\a"),
        ({"TERM": "linux"}, ""),
        ({"TERM": "dumb"}, ""),
        (
            {"TERM": "tmux-256color", "TMUX": "/tmp/x,1,0", "TERM_PROGRAM": "tmux"},
            "\x1bPtmux;\x1b\x1b]9;agenttop: hi\a\x1b\x1b]777;notify;agenttop;hi\a\x1b\\",
        ),
        ({"TERM": "screen", "STY": "1.x"}, "\x1bP\x1b]9;agenttop: hi\a\x1b]777;notify;agenttop;hi\a\x1b\\"),
    ],
)
def test_each_terminal_gets_what_it_takes(environ: dict[str, str], sent: str) -> None:
    assert osc("hi", environ) == sent


@given(st.text(max_size=60))
def test_whatever_a_name_is_the_notification_ends_where_it_ends(name: str) -> None:
    whole = osc(name, {"TERM": "xterm"})
    harmless = r"([^\x00-\x1f\x7f-\x9f;]*)"
    found = re.fullmatch(rf"\x1b\]9;agenttop: {harmless}\x07\x1b\]777;notify;agenttop;{harmless}\x07", whole)
    assert found is not None, repr(whole)
    assert found[1] == found[2]
