from __future__ import annotations

import random
from collections import Counter

import anyio
import pytest

from agenttop.core.agents.states import Waiting
from agenttop.core.gateway.providers import CallLimits
from agenttop.core.nice import weight

from ..support.lanes_stage import Asked, Stage, provider

pytestmark = pytest.mark.anyio


async def warm(stage: Stage, **waiter: object) -> None:
    """One call answered, so that the lane is no longer cold."""
    first = stage.ask("warm", **waiter)
    await stage.settled()
    assert stage.answer(first) == "pass"
    stage.lanes.leave(first.call, 0)


async def test_without_limits_calls_go_at_once(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    await warm(stage)
    asked = [stage.ask(f"a{number}") for number in range(100)]
    await stage.settled()
    assert all(one.provider == "anthropic" and not one.whys for one in asked)
    assert stage.lanes.waiting() == 0


async def test_only_so_many_run_at_a_time(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(limits=CallLimits(concurrency=2)))
    await warm(stage)
    asked = [stage.ask() for _ in range(4)]
    await stage.settled()
    assert [one.provider is not None for one in asked] == [True, True, False, False]
    assert asked[2].whys == [(Waiting.RATE_LIMIT, "anthropic: 2 at a time")]
    stage.lanes.leave(asked[0].call, 10)
    await stage.settled()
    assert [one.provider is not None for one in asked] == [True, True, True, False]


async def test_a_cancelled_call_leaves_the_queue(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(limits=CallLimits(concurrency=1)))
    await warm(stage)
    running, gone, third = stage.ask(), stage.ask(), stage.ask()
    await stage.settled()
    gone.scope.cancel()
    await stage.settled()
    assert stage.lanes.waiting() == 1
    stage.lanes.leave(running.call, 0)
    await stage.settled()
    assert (gone.provider, third.provider) == (None, "anthropic")


async def test_a_call_cancelled_as_it_gets_its_turn_gives_it_on(
    tasks: anyio.abc.TaskGroup,
) -> None:
    stage = Stage(tasks, provider(limits=CallLimits(concurrency=1)))
    await warm(stage)
    running, unlucky, third = stage.ask(), stage.ask(), stage.ask()
    await stage.settled()
    stage.lanes.leave(running.call, 0)
    unlucky.scope.cancel()
    await stage.settled()
    stage.lanes.leave(unlucky.call, None)  # as its desk does, whether it heard of its turn or not
    await stage.settled()
    assert third.provider == "anthropic"
    assert stage.lanes.providers()[0].running == 1


async def test_requests_a_minute_are_paced(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(limits=CallLimits(requests=30)))
    asked = [stage.ask() for _ in range(40)]
    await stage.settled()
    stage.answer(asked[0])
    await stage.pass_time(0)
    assert sum(one.provider is not None for one in asked) == 3  # six seconds' worth
    assert asked[-1].why == "anthropic: 30 requests a minute"
    await stage.pass_time(60.0)
    assert sum(one.provider is not None for one in asked) == 33


async def test_tokens_a_minute_are_paced_by_what_calls_really_used(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(limits=CallLimits(tokens=60_000)))
    await warm(stage)
    done = 0

    async def client(number: int) -> None:
        nonlocal done
        while True:
            asked = stage.ask(f"a{number}", tokens=30_000)
            while asked.provider is None:
                await anyio.lowlevel.checkpoint()
            stage.answer(asked)
            stage.lanes.leave(asked.call, 3_000)
            done += 1
            await anyio.lowlevel.checkpoint()

    for number in range(3):
        tasks.start_soon(client, number)
    await stage.pass_time(600.0)
    assert 195 <= done <= 210  # 20 a minute, not the 2 of the estimates


async def test_a_model_has_limits_of_its_own(tasks: anyio.abc.TaskGroup) -> None:
    models = {"claude-*": CallLimits(concurrency=3), "claude-opus-*": CallLimits(concurrency=1)}
    stage = Stage(tasks, provider(models=models))
    await warm(stage)
    opus = [stage.ask(model="claude-opus-5") for _ in range(3)]
    sonnet = [stage.ask(model="claude-sonnet-5") for _ in range(4)]
    other = [stage.ask(model="other") for _ in range(5)]
    await stage.settled()
    assert [sum(one.provider is not None for one in group) for group in (opus, sonnet, other)] == [1, 3, 5]
    stage.lanes.leave(opus[0].call, 0)
    await stage.settled()
    assert [one.provider is not None for one in opus] == [True, True, False]
    info = stage.lanes.providers()[0]
    assert {name: found[0].left for name, found in info.models.items()} == {"claude-*": 0, "claude-opus-*": 0}
    assert (info.running, info.waiting) == (9, 2)


@pytest.mark.parametrize("seconds", [0.5, 1.0])
async def test_three_agents_share_thirty_calls_a_minute_by_their_nice(
    tasks: anyio.abc.TaskGroup, seconds: float
) -> None:
    stage = Stage(tasks, provider(limits=CallLimits(requests=30)))
    await warm(stage)
    await stage.pass_time(60.0)
    nices = {"minus": -5, "zero": 0, "plus": 5}
    got: Counter[str] = Counter()
    jitter = random.Random(4)

    def begin(agent: str) -> None:
        tasks.start_soon(one_call, agent)

    async def one_call(agent: str) -> None:
        """A closed loop: call, reply, think, call again."""
        asked = stage.ask(agent, nice=nices[agent], tokens=8000)
        while asked.provider is None:
            await anyio.lowlevel.checkpoint()
        stage.answer(asked)
        got[agent] += 1
        stage.after(seconds, lambda: stage.lanes.leave(asked.call, 2000 + jitter.randrange(500)))
        stage.after(seconds + 0.3, lambda: begin(agent))

    for agent in nices:
        begin(agent)
    await stage.pass_time(600.0)
    total, weights = sum(got.values()), sum(weight(nice) for nice in nices.values())
    assert total >= 298
    for agent, nice in nices.items():
        assert got[agent] / total == pytest.approx(weight(nice) / weights, rel=0.1), got


async def test_nice_can_change_while_calls_wait(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(limits=CallLimits(concurrency=1)))
    await warm(stage)
    order: list[str] = []

    async def finish_next(asked: list[Asked]) -> None:
        await stage.settled()
        (one,) = [one for one in asked if one.provider is not None]
        order.append(one.agent)
        asked.remove(one)
        stage.lanes.leave(one.call, 1000)

    asked = [stage.ask(agent, nice=10) for agent in ("x", "y") for _ in range(20)]
    for _ in range(4):
        await finish_next(asked)
    assert Counter(order) == {"x": 2, "y": 2}
    stage.lanes.renice("y", -10)
    order.clear()
    for _ in range(10):
        await finish_next(asked)
    assert order.count("y") >= 9


async def test_a_jump_of_the_wall_clock_changes_no_pace(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(limits=CallLimits(requests=60)))
    await warm(stage)
    asked = [stage.ask() for _ in range(200)]
    await stage.pass_time(10.0)
    before = sum(one.provider is not None for one in asked)
    for jump in (-86_400.0, 400 * 86_400.0):
        stage.clock.now += jump
        await stage.pass_time(10.0)
        after = sum(one.provider is not None for one in asked)
        assert after - before == 10
        before = after


async def test_load_is_what_is_asked_over_the_tightest_limit(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(limits=CallLimits(tokens=10_000)), provider("free"))
    assert stage.lanes.demand() == 0.0
    await warm(stage)
    for _ in range(10):
        stage.ask(tokens=2500)
    stage.ask(provider="free", tokens=10**9)
    await stage.settled()
    assert stage.lanes.demand() == 2.5
    assert stage.lanes.limit("anthropic") == 10_000
    assert stage.lanes.limit("free") is None
    assert Stage(tasks, provider("free")).lanes.demand() is None


async def test_the_timers_run_by_themselves(tasks: anyio.abc.TaskGroup) -> None:
    from agenttop.core.clock import SystemClock
    from agenttop.core.gateway.lanes import Lanes, Waiter

    one = provider(limits=CallLimits(requests=1200))
    lanes = Lanes({one.name: one}, SystemClock(), moved=lambda *_: None)
    tasks.start_soon(lanes.run)
    with anyio.fail_after(20):
        for number in range(130):  # six seconds' worth is 120
            call = f"c{number}"
            await lanes.enter(Waiter(call, "a", one.name, None, 0, "interactive", 10), lambda *_: None)
            lanes.answered(call, one.name, 200, {})
            lanes.leave(call, 10)


async def test_entering_twice_is_refused(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    stage.ask(call="same")
    await stage.settled()
    second = stage.ask(call="same")
    await stage.settled()
    assert isinstance(second.error, ValueError)
