from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttop.core.config import RunawayTable
from agenttop.core.gateway.runaway import MINUTE, Runaway

LOW = RunawayTable(identical=8, near=20, floor=30)
"""Low bars, so that a few calls show the rules."""
PRINT = 0x0123_4567_89AB_CDEF


def flipped(bits: int) -> int:
    return PRINT ^ ((1 << bits) - 1) << 20


def call(watch: Runaway, now: float, fingerprint: int | None = PRINT, agent: str = "a") -> str | None:
    why = watch.asked(agent, fingerprint, now)
    if why is None:
        watch.answered(agent, fingerprint, now)
    return why


def test_the_same_request_again_and_again_is_held() -> None:
    watch = Runaway(LOW)
    assert [call(watch, 10.0 * number) for number in range(8)] == [None] * 8
    assert call(watch, 80.0) == "the same request was answered 8 times in 10 minutes"
    assert call(watch, 81.0, PRINT ^ (1 << 63 | 0xFF)) is None
    assert call(watch, 82.0, agent="b") is None


def test_requests_that_were_not_answered_are_not_counted() -> None:
    watch = Runaway(LOW)
    assert all(watch.asked("a", PRINT, 10.0 * number) is None for number in range(30))


def test_what_is_long_ago_does_not_count() -> None:
    watch = Runaway(LOW)
    assert all(call(watch, 86.0 * number) is None for number in range(50))


@pytest.mark.parametrize(("bits", "held"), [(3, True), (4, False)])
def test_nearly_identical_requests_are_held_later(bits: int, held: bool) -> None:
    near = [PRINT, flipped(bits)]
    watch = Runaway(RunawayTable(identical=1000, near=20, floor=30))
    for number in range(20):
        assert call(watch, 5.0 * number, near[number % 2]) is None
    why = call(watch, 101.0, near[0])
    assert why == ("20 nearly identical requests were answered in 10 minutes" if held else None)


def minutes_of(watch: Runaway, rate: int, minutes: int, begin: float = 0.0) -> list[str | None]:
    jitter = random.Random(3)
    step = MINUTE / rate
    return [
        watch.asked("a", jitter.getrandbits(64), begin + number * step) for number in range(rate * minutes)
    ]


def test_many_more_calls_than_usual_are_held() -> None:
    watch = Runaway(LOW)
    assert set(minutes_of(watch, 6, 20)) == {None}
    held = [why for why in minutes_of(watch, 120, 1, 1200.0) if why is not None]
    assert held[0] == "49 calls in a minute; usual are 6"
    assert len(held) >= 60


def test_few_calls_are_never_too_many() -> None:
    watch = Runaway(LOW)
    assert set(minutes_of(watch, 1, 20)) == {None}
    assert set(minutes_of(watch, 30, 1, 1200.0)) == {None}


def test_one_that_is_always_busy_is_let_be() -> None:
    watch = Runaway(LOW)
    assert set(minutes_of(watch, 200, 30)) == {None}


def test_without_a_history_only_very_many_are_too_many() -> None:
    watch = Runaway(LOW)
    why = [found for found in minutes_of(watch, 600, 1) if found is not None]
    assert why[0] == "241 calls in a minute; it has no history yet"


def test_minutes_without_calls_are_no_history() -> None:
    watch = Runaway(LOW)
    for hour in range(10):
        assert set(minutes_of(watch, 60, 2, hour * 3600.0)) == {None}


def test_time_that_it_was_frozen_does_not_count() -> None:
    watch = Runaway(LOW)
    for number in range(8):
        now = 700.0 * number
        assert call(watch, now) is None
        watch.paused("a", now + 1.0)
        watch.resumed("a", now + 699.0)
    # An hour and a half by the wall, 16 s by its own time.
    assert call(watch, 5600.0) is not None


def test_calls_kept_by_a_freeze_are_no_burst_of_a_minute() -> None:
    frozen, free = Runaway(LOW), Runaway(LOW)
    for watch in (frozen, free):
        minutes_of(watch, 10, 10)
        watch.paused("a", 600.0)
    frozen.resumed("a", 4200.0)
    assert all(frozen.asked("a", None, 4200.0 + number) is None for number in range(60))


def test_a_person_who_allows_it_raises_the_bar() -> None:
    watch = Runaway(LOW)
    for again in (8, 16, 32):
        for number in range(again):
            assert call(watch, float(number)) is None
        assert call(watch, float(again)) is not None
        watch.allow("a")


def test_switched_off_it_sees_nothing() -> None:
    watch = Runaway(RunawayTable(enabled=False))
    assert all(call(watch, 0.001 * number) is None for number in range(2000))
    assert watch._agents == {}


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["call", "allow", "pause", "resume", "forget"]),
            st.sampled_from("ab"),
            st.sampled_from([None, PRINT, flipped(2), flipped(9)]),
            st.floats(0, 100),
        ),
        max_size=300,
    ),
)
def test_no_history_breaks_it_or_makes_it_grow(
    events: list[tuple[str, str, int | None, float]],
) -> None:
    bars = RunawayTable(identical=3, near=5, window=60, rate=2, floor=5)
    watch, now = Runaway(bars), 0.0
    answered: list[tuple[str, int]] = []
    for what, agent, fingerprint, pause in events:
        now += pause
        if what == "call":
            why = call(watch, now, fingerprint, agent)
            if why is not None and "same request" in why:
                assert answered.count((agent, fingerprint or 0)) >= bars.identical
            if why is None and fingerprint is not None:
                answered.append((agent, fingerprint))
        elif what == "allow":
            watch.allow(agent)
        elif what == "pause":
            watch.paused(agent, now)
        elif what == "resume":
            watch.resumed(agent, now)
        else:
            watch.forget(agent)
        for habits in watch._agents.values():
            assert len(habits.slots) <= 13
            assert len(habits.answered) <= 4096
            assert habits.usual >= 0
