"""Providers that cannot be reached: breakers, fallbacks, and calls that wait it out."""

from __future__ import annotations

import itertools
from typing import Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttop.core.agents.states import Waiting
from agenttop.core.gateway.lanes import breaker as rules
from agenttop.core.gateway.lanes import times
from agenttop.core.gateway.lanes.breaker import Breaker
from agenttop.core.gateway.providers import CallLimits

from ..support.lanes_stage import Asked, Stage, provider

pytestmark = pytest.mark.anyio


async def lose(stage: Stage, *calls: Asked) -> list[Asked]:
    """None of them is answered; their clients try on."""
    for one in calls:
        stage.lose(one)
    again = [stage.ask(one.agent, call=one.call) for one in calls]
    await stage.settled()
    return again


async def broken(stage: Stage) -> list[Asked]:
    """Five calls that were lost, one after the other."""
    waiting: list[Asked] = []
    for number in range(5):
        asked = stage.ask(f"lost{number}")
        await stage.settled()
        waiting += await lose(stage, asked)
    return waiting


async def test_one_lost_call_tries_again_and_its_client_hears_nothing(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    asked = stage.ask()
    await stage.settled()
    (again,) = await lose(stage, asked)
    assert again.provider is None
    assert again.whys[0][0] is Waiting.DEPENDENCY
    assert again.why.startswith("anthropic unreachable, next try ")
    await stage.pass_time(0.7)
    assert again.provider == "anthropic"
    assert stage.moves == []


async def test_five_failures_in_a_row_open_the_breaker(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    waiting = await broken(stage)
    assert stage.moves == [("anthropic", "open", "connection refused")]
    late = stage.ask("late")
    await stage.pass_time(4.9)
    assert not any(one.provider for one in (*waiting, late))
    moment = times.until(stage.clock.time() + 0.1, stage.clock.time())
    assert late.whys == [(Waiting.DEPENDENCY, f"anthropic unreachable, next try {moment}")]
    await stage.pass_time(0.2)
    assert sum(one.provider is not None for one in (*waiting, late)) == 1
    assert stage.moves[-1] == ("anthropic", "half-open", "connection refused")


async def test_an_answer_to_the_one_that_tries_lets_all_go_on(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    waiting = await broken(stage)
    await stage.pass_time(5.1)
    (tried,) = [one for one in waiting if one.provider]
    stage.answer(tried)
    await stage.settled()
    assert all(one.provider == "anthropic" for one in waiting)
    assert stage.moves[-1] == ("anthropic", "closed", "")
    assert stage.lanes.providers()[0].breaker == "closed"


async def test_when_the_client_of_the_one_that_tries_leaves_another_tries(
    tasks: anyio.abc.TaskGroup,
) -> None:
    stage = Stage(tasks, provider())
    waiting = await broken(stage)
    await stage.pass_time(5.1)
    (tried,) = [one for one in waiting if one.provider]
    stage.lanes.leave(tried.call, None)
    await stage.settled()
    assert sum(one.provider is not None for one in waiting if one is not tried) == 1


async def test_with_no_upstream_the_calls_wait_and_the_tries_get_rarer(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    waiting = await broken(stage)
    tries: list[float] = []
    while stage.now < 3600:
        await stage.pass_time(1.0)
        for number, one in enumerate(waiting):
            if one.provider is not None:
                tries.append(stage.now)
                waiting[number] = (await lose(stage, one))[0]
    pauses = [round(after - before) for before, after in itertools.pairwise(tries)]
    assert pauses[:6] == [10, 20, 40, 80, 160, 300]
    assert set(pauses[6:]) == {300}
    assert stage.lanes.waiting() == 5
    info = stage.lanes.providers()[0]
    assert (info.breaker, info.breaker_why) == ("open", "connection refused")


async def test_a_broken_providers_errors_count_but_reach_the_client(
    tasks: anyio.abc.TaskGroup,
) -> None:
    stage = Stage(tasks, provider())
    for _ in range(5):
        asked = stage.ask()
        await stage.settled()
        assert stage.answer(asked, 503) == "pass"
        stage.lanes.leave(asked.call, 0)
    assert stage.moves == [("anthropic", "open", "it answered 503")]


async def test_too_much_is_no_failure(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    for _ in range(10):
        asked = stage.ask()
        await stage.pass_time(61)
        stage.answer(asked, 529)
        stage.lanes.leave(asked.call, None)
    assert stage.moves == []


async def test_an_answer_cut_in_the_middle_is_no_failure(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    for _ in range(10):
        asked = stage.ask()
        await stage.settled()
        stage.answer(asked)
        stage.lose(asked, "it cut the answer")
        stage.lanes.leave(asked.call, 50)
    assert stage.moves == []
    assert stage.lanes.providers()[0].running == 0


async def test_calls_go_to_the_fallback_meanwhile_and_back_after(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(fallback="spare"), provider("spare", limits=CallLimits(concurrency=1)))
    waiting = await broken(stage)
    assert [one.provider for one in waiting].count("spare") == 1
    assert stage.lanes.waiting() == 4
    (going,) = [one for one in waiting if one.provider]
    stage.answer(going)
    new = stage.ask("new")
    await stage.settled()
    assert new.provider is None
    # After the pause the next call tries the provider itself, and the rest come home.
    await stage.pass_time(5.1)
    tried = stage.ask("tried")
    await stage.settled()
    assert tried.provider == "anthropic"
    stage.answer(tried)
    await stage.settled()
    assert [one.provider for one in (*waiting, new)].count("anthropic") == 5


async def test_an_agent_that_may_not_use_the_fallback_waits(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(fallback="spare"), provider("spare"))
    await broken(stage)
    bound, free = stage.ask("bound", may_use=["anthropic"]), stage.ask("free", may_use=["anthropic", "spare"])
    stage.answer(await first_of(stage, "spare"))
    await stage.settled()
    assert (bound.provider, free.provider) == (None, "spare")


async def first_of(stage: Stage, name: str) -> Asked:
    """A call that warms a provider up."""
    await stage.pass_time(2.1)
    asked = stage.ask("warm", provider=name)
    await stage.settled()
    assert asked.provider == name
    return asked


async def test_a_fallback_that_breaks_as_well_gives_the_calls_back(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(fallback="spare"), provider("spare", fallback="anthropic"))
    waiting = await broken(stage)
    for _ in range(10):
        going = [one for one in waiting if one.provider == "spare"]
        if not going:
            break
        await lose(stage, *going)
        waiting = [one for one in waiting if one not in going]
        await stage.pass_time(0.2)
    assert {name for name, state, _ in stage.moves if state == "open"} == {"anthropic", "spare"}
    asked = stage.ask("late")
    await stage.settled()
    assert asked.provider is None
    assert asked.whys[0][0] is Waiting.DEPENDENCY


async def test_a_fallback_that_has_had_too_much_is_left_alone(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(fallback="spare"), provider("spare"))
    full = stage.ask("x", provider="spare")
    await stage.settled()
    stage.answer(full, 429, {"retry-after": "600"})
    stage.lanes.leave(full.call, None)
    waiting = await broken(stage)
    assert not any(one.provider for one in waiting)


async def test_a_provider_that_says_nothing_is_tried_by_few(
    tasks: anyio.abc.TaskGroup,
) -> None:
    stage = Stage(tasks, provider())
    waiting = await broken(stage)
    waiting += [stage.ask(f"more{number}") for number in range(20)]
    await stage.pass_time(5.1 + 3 * rules.PATIENCE - 1)
    assert sum(one.provider is not None for one in waiting) == 3


def test_more_than_half_of_the_last_failing_opens_it_too() -> None:
    one = Breaker()
    moved = []
    for number in range(12):
        for failed in (True, True, False):
            call = f"{number}{failed}"
            moved.append(one.failed(call, "cut", 0.0) if failed else one.succeeded(call))
        if any(moved):
            break
    assert moved.index(True) == rules.AT_LEAST - 1 or moved.index(True) == rules.AT_LEAST
    assert one.state == "open"


Event = tuple[Literal["grant", "succeed", "fail", "leave", "wait"], int]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["grant", "succeed", "fail", "leave", "wait"]), st.integers(0, 400)),
        max_size=200,
    )
)
def test_a_breaker_never_locks_itself_up(events: list[Event]) -> None:
    """Whatever happened, somebody may try again within five minutes, and a success of theirs closes it."""
    one, now, out, number = Breaker(), 0.0, [], 0
    for what, size in events:
        if what == "wait":
            now += size
        elif what == "grant":
            if one.blocked_until(now) is None:
                number += 1
                out.append(f"c{number}")
                one.granted(out[-1], now)
        elif out:
            call = out.pop(size % len(out))
            if what == "succeed":
                one.succeeded(call)
            elif what == "fail":
                one.failed(call, "why", now)
            else:
                one.given_up(call, now)
        until = one.blocked_until(now)
        assert until is None or now < until <= now + rules.LONGEST
    now = one.blocked_until(now) or now
    assert one.blocked_until(now) is None
    one.granted("last", now)
    one.succeeded("last")
    assert one.state == "closed"
    assert one.blocked_until(now) is None
