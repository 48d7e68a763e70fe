"""A clock that is set back: the journal's times increase, nothing is of negative age or hours late."""

from __future__ import annotations

import time

import anyio
import pytest

from agenttop.core.agents.spec import Restart, RestartMode
from agenttop.core.clock import ManualClock, SteadyClock

from .conftest import KernelMaker, sh, until_state

pytestmark = pytest.mark.anyio

HOUR = 3600.0


class MovedClock:
    """The machine's clocks with an administrator at the wall clock."""

    def __init__(self) -> None:
        self.offset = 0.0

    def time(self) -> float:
        return time.time() + self.offset

    def monotonic(self) -> float:
        return time.monotonic()


def test_a_steady_clock_goes_on_at_the_monotonic_pace_while_the_other_is_behind() -> None:
    manual = ManualClock(now=1_000.0)
    clock = SteadyClock(manual)
    manual.advance(5)
    assert clock.time() == 1_005
    manual.now -= HOUR
    assert clock.time() == 1_005
    manual.advance(7)
    assert clock.time() == 1_012
    manual.now += 2 * HOUR
    assert clock.time() == manual.now
    clock.not_before(manual.now + 50)
    manual.advance(1)
    assert clock.time() == manual.now + 50


async def test_a_clock_set_back_an_hour_delays_and_confuses_nothing(kernels: KernelMaker) -> None:
    clock = MovedClock()
    policy = Restart(policy=RestartMode.ON_FAILURE, backoff=0.1, max_restarts=3)
    async with kernels(clock=clock) as kernel:
        client = kernel.client()
        await client.run(sh("exec sleep 600", "before"))
        clock.offset = -HOUR
        with anyio.fail_after(15):
            await client.run(sh("exit 1", "flaky", restart=policy))
            [ended] = await client.wait(["flaky"])
        assert ended.run == 4
        now = kernel.clock.time()
        for agent in await client.agents(all=True):
            assert agent.since is not None
            assert agent.started_at is not None
            assert 0 <= now - agent.since < 60
            assert 0 <= now - agent.started_at < 60
        times = [record.ts for record in await kernel.journal.read(0)]
        assert times == sorted(times)
        assert len(set(times)) > len(times) / 3  # they go on, and do not stand still for an hour
    async with kernels(clock=clock) as kernel:  # the next kernel goes on where the journal is
        assert kernel.clock.time() >= times[-1]
        await kernel.client().run(sh("exec sleep 600", "after"))
        info = await until_state(kernel.client(), "after", "executing", "initializing")
        assert info.since is not None
        assert 0 <= kernel.clock.time() - info.since < 60
