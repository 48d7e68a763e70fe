"""Sums of a transcript's calls by time, against adding all of them up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.journal.events import Usage
from agenttop.core.observe.timeline import Noted, Timeline

MODELS = {1: "one", 2: "two"}

_calls = st.tuples(
    st.integers(0, 20), st.integers(0, 3 * 86_400_000), st.sampled_from([1, 2]), st.integers(0, 9)
)


def call(key: int, time: int, model: int, tokens: int) -> tuple[int, ...]:
    return (key, 0, time, model, tokens, 2 * tokens, 3, 4, 5, 1)


def added(calls: Noted, since: float) -> dict[str, Usage]:
    """The same, the long way."""
    sums: dict[str, Usage] = {}
    for one in calls.values():
        if one[2] // 60_000 >= int(since // 60):
            name = MODELS[one[3]]
            sums[name] = sums.get(name, Usage()).plus(Usage(*one[4:10]))
    return sums


@given(st.lists(st.lists(_calls, max_size=8), max_size=6), st.floats(0, 3 * 86_400), st.booleans())
def test_however_calls_come_and_are_replaced_the_sums_are_those_of_all(
    rounds: list[list[tuple[int, int, int, int]]], since: float, forget: bool
) -> None:
    calls, timeline = Noted(), Timeline()
    for number, found in enumerate(rounds):
        if forget and number == 2:
            calls.clear()
        for one in found:
            calls[one[0], 0] = call(*one)
        timeline.follow(calls, MODELS)
    everything = {name: usage for name, usage in timeline.by_model().items() if usage.total}
    assert everything == added(calls, 0)
    found = {name: usage for name, usage in timeline.since(since).items() if usage.total}
    assert found == added(calls, since)


def test_minutes_are_those_of_the_half_hour_before_the_last_call() -> None:
    calls, timeline = Noted(), Timeline()
    for minute in (10, 60, 89):
        calls[minute, 0] = call(minute, minute * 60_000, 1, 1)
    timeline.follow(calls, MODELS)
    assert timeline.minutes() == {60: 15, 89: 15}


def test_nothing_new_is_said_to_be_nothing_new() -> None:
    calls, timeline = Noted(), Timeline()
    assert not timeline.follow(calls, MODELS)
    calls[1, 0] = call(1, 5, 1, 1)
    assert timeline.follow(calls, MODELS)
    assert not timeline.follow(calls, MODELS)
