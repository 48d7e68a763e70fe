"""The kill switch against everything that starts, thaws or comes back while it is on."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from agenttop.core.agents.states import Pause
from agenttop.core.api import SignalRequest
from agenttop.core.client import KernelClient
from agenttop.core.journal import events as ev
from agenttop.core.kernel import Kernel

from .conftest import KernelMaker, sh, until, until_state

pytestmark = pytest.mark.anyio

LOOP = "while :; do sleep 60; done"


async def until_frozen(kernel: Kernel, agent: str, by: str) -> None:
    async def look() -> bool:
        freeze = kernel.books.pending.agents[agent].freeze
        return freeze is not None and freeze.total > 0 and freeze.by == by

    await until(look, f"{agent} frozen by {by}")


async def test_an_agent_that_starts_while_the_fleet_is_halted_is_frozen_with_it(
    kernel: Kernel, client: KernelClient
) -> None:
    await client.halt()
    hello = await client.run(sh(LOOP))
    await until_frozen(kernel, hello.id, "halt")
    await client.unhalt()
    await until_state(client, "hello", "executing", "initializing")


async def test_a_restart_by_policy_waits_for_the_end_of_a_halt(kernel: Kernel, client: KernelClient) -> None:
    policy: dict[str, Any] = {"policy": "always", "backoff": 0.05, "backoff_max": 0.05}
    hello = await client.run(sh("exec sleep 60", restart=policy))
    await kernel.books.commit(ev.FleetHalted(by="ana"))
    await client.signal(SignalRequest(refs=["hello"], signal=9))

    async def scheduled() -> bool:
        return kernel.books.committed.agents[hello.id].restart_at is not None

    await until(scheduled, "a restart that is due")
    due = kernel.books.committed.agents[hello.id].restart_at
    assert due is not None
    await until(lambda: _past(kernel, due + 0.3), "the time of the restart")
    record = kernel.books.pending.agents[hello.id]
    assert (record.run.number if record.run else 0, record.restart_at) == (1, due)
    await client.unhalt()

    async def again() -> bool:
        run = kernel.books.committed.agents[hello.id].run
        return run is not None and run.number == 2

    await until(again, "the restart")


async def _past(kernel: Kernel, moment: float) -> bool:
    return kernel.clock.time() > moment


async def test_a_kernel_that_was_killed_before_it_froze_anybody_comes_back_and_freezes(
    kernels: KernelMaker,
) -> None:
    async with kernels(leave=True) as kernel:
        hello = await kernel.client().run(sh(LOOP))
        await kernel.books.commit(ev.FleetHalted(by="ana"))
    async with kernels() as kernel:
        await until_frozen(kernel, hello.id, "halt")
        await kernel.client().unhalt()
        assert kernel.books.pending.agents[hello.id].freeze is None


async def test_a_freeze_that_was_cut_is_still_its_makers_when_the_next_kernel_finishes_it(
    kernels: KernelMaker,
) -> None:
    async with kernels(leave=True) as kernel:
        hello = await kernel.client().run(sh(LOOP))
        await kernel.books.commit(ev.FleetHalted(by="ana"))
        await kernel.books.commit(ev.AgentPaused(agent=hello.id, how=Pause.FREEZE, by="halt"))
    async with kernels() as kernel:
        await until_frozen(kernel, hello.id, "halt")
        await kernel.client().unhalt()
        assert kernel.books.pending.agents[hello.id].freeze is None


async def test_a_kernel_that_was_killed_before_it_thawed_everybody_comes_back_and_thaws(
    kernels: KernelMaker,
) -> None:
    async with kernels(leave=True) as kernel:
        hello = await kernel.client().run(sh(LOOP))
        await kernel.client().halt()
        await kernel.books.commit(ev.FleetUnhalted(by="ana"))
    async with kernels() as kernel:
        await until_state(kernel.client(), hello.id, "executing", "initializing")


async def test_what_a_budget_froze_is_not_thawed_by_an_answer_while_the_fleet_is_halted(
    kernel: Kernel, client: KernelClient
) -> None:
    hello = await client.run(sh(LOOP))
    kernel.desk.jobs.do("freeze", hello.id, "budget day")
    await until_frozen(kernel, hello.id, "budget day")
    await client.halt()
    kernel.desk.jobs.do("thaw", hello.id, "budget day")
    await until_frozen(kernel, hello.id, "halt")
    assert (await client.inspect("hello")).info.state == "paused"
    await client.unhalt()
    await until_state(client, "hello", "executing", "initializing")


async def test_a_thaw_that_is_asked_for_before_its_freeze_was_begun_follows_it(
    kernel: Kernel, client: KernelClient
) -> None:
    hello = await client.run(sh(LOOP))
    async with kernel.supervisor.lock(hello.id):  # as a start or another freeze has it
        kernel.desk.jobs.do("freeze", hello.id, "budget day")
        await anyio.wait_all_tasks_blocked()
        kernel.desk.jobs.do("thaw", hello.id, "budget day")
        await anyio.wait_all_tasks_blocked()

    async def done() -> bool:
        return not kernel.desk.jobs._doing

    await until(done, "the jobs being done")
    assert kernel.books.pending.agents[hello.id].freeze is None
