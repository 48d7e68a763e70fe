"""Idle agents: frozen after a while, woken by whoever needs them, with nothing lost."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from agenttop.core.api import Outcome, PauseRequest, SignalRequest, Target
from agenttop.core.client import KernelClient
from agenttop.core.journal import events as ev
from agenttop.core.kernel import Kernel

from .conftest import KernelMaker, sh, until, until_state

pytestmark = pytest.mark.anyio

#: Says what it reads, line by line.
ECHO = 'while read -r line; do echo "got $line"; done'

QUICK: dict[str, Any] = {"stdin": True, "restart": {"start_seconds": 0.05}}
SOON: dict[str, Any] = {"idle": {"freeze_after": 0.2}, **QUICK}


async def idle(kernel: Kernel, agent: str) -> None:
    """Let its turn end as a call does that asks for nothing more."""
    call = {"agent": agent, "call": "c1", "run": 1, "provider": "anthropic"}
    await kernel.books.commit(ev.CallStarted(**call, protocol="anthropic"))
    await kernel.books.commit(ev.CallSettled(**call, stop_reason="end_turn"))


async def until_frozen(kernel: Kernel, agent: str, by: str = "idle") -> None:
    async def look() -> bool:
        freeze = kernel.books.committed.agents[agent].freeze
        return freeze is not None and freeze.total > 0 and freeze.by == by

    await until(look, f"{agent} frozen by {by}", 30)


async def until_thawed(kernel: Kernel, agent: str) -> None:
    async def look() -> bool:
        return kernel.books.committed.agents[agent].freeze is None

    await until(look, f"{agent} thawed", 30)


async def said(client: KernelClient, ref: str) -> bytes:
    return b"".join([chunk.data async for chunk in client.output(ref)])


async def until_said(client: KernelClient, ref: str, text: bytes) -> None:
    async def look() -> bool:
        return text in await said(client, ref)

    await until(look, f"{text!r}", 30)


async def test_an_agent_idle_for_its_time_is_frozen_and_what_is_typed_wakes_it(
    kernel: Kernel, client: KernelClient
) -> None:
    hello = await client.run(sh(ECHO, **SOON))
    await until_state(client, "hello", "executing")
    await idle(kernel, hello.id)
    await until_frozen(kernel, hello.id)
    row = kernel.feed.row(hello.id, "run", kernel.clock.time())
    assert row is not None
    assert (row.pause, row.detail) == ("freeze", "frozen (idle)")
    await client.write("hello", b"first\n")
    await until_said(client, "hello", b"got first")
    await until_frozen(kernel, hello.id)  # its time begins anew, and passes again
    await client.write("hello", b"second\n")
    await until_said(client, "hello", b"got second")


async def test_a_working_agent_and_one_without_the_wish_are_never_frozen(
    kernel: Kernel, client: KernelClient
) -> None:
    works = await client.run(sh(ECHO, "works", **SOON))
    never = await client.run(sh(ECHO, "never", idle={"freeze_after": "never"}, **QUICK))
    hello = await client.run(sh(ECHO, **SOON))
    for agent in (never, hello):
        await until_state(client, agent.id, "executing")
        await idle(kernel, agent.id)
    await until_frozen(kernel, hello.id)
    for agent in (works, never):
        assert kernel.books.committed.agents[agent.id].freeze is None


async def test_an_idle_freeze_outlives_the_kernel_and_is_woken_by_the_next(kernels: KernelMaker) -> None:
    async with kernels(leave=True) as kernel:
        hello = await kernel.client().run(sh(ECHO, **SOON))
        await until_state(kernel.client(), "hello", "executing")
        await idle(kernel, hello.id)
        await until_frozen(kernel, hello.id)
    async with kernels() as kernel:
        client = kernel.client()
        await until_frozen(kernel, hello.id)

        async def found() -> bool:
            return hello.id in kernel.supervisor.runs

        await until(found, "the run")
        await client.write("hello", b"again\n")
        await until_said(client, "hello", b"got again")


async def test_who_is_not_found_again_yet_is_not_said_to_be_thawed(
    kernel: Kernel, client: KernelClient
) -> None:
    hello = await client.run(sh(ECHO, **SOON))
    await until_state(client, "hello", "executing")
    await idle(kernel, hello.id)
    await until_frozen(kernel, hello.id)
    run = kernel.supervisor.runs.pop(hello.id)  # as while a new kernel looks for it
    [outcome] = await client.resume(Target(refs=["hello"]))
    assert outcome.error is not None
    assert "not found its run again" in outcome.error["why"]
    call = {"agent": hello.id, "call": "c2", "run": 1, "provider": "anthropic"}
    await kernel.books.commit(ev.CallStarted(**call, protocol="anthropic"))

    async def missed() -> bool:
        return hello.id in kernel.idling._missed

    await until(missed, "it being needed", 30)
    assert kernel.books.committed.agents[hello.id].freeze is not None
    kernel.supervisor.runs[hello.id] = run
    kernel.supervisor.watched(hello.id)
    await until_thawed(kernel, hello.id)


async def test_what_a_killed_kernel_had_thawed_and_not_written_down_is_as_the_journal_says(
    kernels: KernelMaker,
) -> None:
    async with kernels(leave=True) as kernel:
        client = kernel.client()
        hello = await client.run(sh("while :; do :; done", **QUICK))
        await until_state(client, "hello", "executing")
        done(await client.pause(PauseRequest(refs=["hello"])))
        run = kernel.supervisor.runs[hello.id]
        await run.backend.thaw(run.ref)
    async with kernels() as kernel:

        async def frozen() -> bool:
            run = kernel.supervisor.runs.get(hello.id)
            if run is None:
                return False
            before = await run.backend.sample({"": run.ref})
            await anyio.sleep(0.1)
            after = await run.backend.sample({"": run.ref})
            return before[""].cpu_seconds == after[""].cpu_seconds

        await until(frozen, "its processes being stopped", 30)


async def test_one_that_began_something_as_its_kernel_was_killed_is_woken_by_the_next(
    kernels: KernelMaker,
) -> None:
    async with kernels(leave=True) as kernel:
        hello = await kernel.client().run(sh(ECHO, **SOON))
        await until_state(kernel.client(), "hello", "executing")
        await idle(kernel, hello.id)
        await until_frozen(kernel, hello.id)
        kernel.supervisor.runs.pop(hello.id)  # nobody wakes it in time
        call = {"agent": hello.id, "call": "c2", "run": 1, "provider": "anthropic"}
        await kernel.books.commit(ev.CallStarted(**call, protocol="anthropic"))
        assert kernel.books.committed.agents[hello.id].freeze is not None
    async with kernels() as kernel:
        await until_thawed(kernel, hello.id)


async def test_the_time_of_idleness_goes_on_over_a_restart_of_the_kernel(kernels: KernelMaker) -> None:
    async with kernels(leave=True) as kernel:
        hello = await kernel.client().run(sh(ECHO, idle={"freeze_after": 1.0}, **QUICK))
        await until_state(kernel.client(), "hello", "executing")
        await idle(kernel, hello.id)
    async with kernels() as kernel:
        await until_frozen(kernel, hello.id)


async def test_what_a_person_froze_is_not_woken_by_input(kernel: Kernel, client: KernelClient) -> None:
    hello = await client.run(sh(ECHO, **SOON))
    await until_state(client, "hello", "executing")
    await idle(kernel, hello.id)
    await until_frozen(kernel, hello.id)
    done(await client.pause(PauseRequest(refs=["hello"])))
    await client.write("hello", b"later\n")
    freeze = kernel.books.pending.agents[hello.id].freeze
    assert freeze is not None
    assert freeze.by == "ana"
    done(await client.resume(Target(refs=["hello"])))
    await until_said(client, "hello", b"got later")


async def test_what_a_person_froze_before_its_time_is_not_taken_over(
    kernel: Kernel, client: KernelClient
) -> None:
    hello = await client.run(sh(ECHO, **SOON))
    other = await client.run(sh(ECHO, "other", **SOON))
    for agent in (hello, other):
        await until_state(client, agent.id, "executing")
    done(await client.pause(PauseRequest(refs=["hello"])))
    for agent in (hello, other):
        await idle(kernel, agent.id)
    await until_frozen(kernel, other.id)
    freeze = kernel.books.committed.agents[hello.id].freeze
    assert freeze is not None
    assert freeze.by == "ana"


async def test_resume_undoes_an_idle_freeze(kernel: Kernel, client: KernelClient) -> None:
    hello = await client.run(sh(ECHO, **SOON))
    await until_state(client, "hello", "executing")
    await idle(kernel, hello.id)
    await until_frozen(kernel, hello.id)
    first = kernel.books.committed.agents[hello.id].resumed
    done(await client.resume(Target(refs=["hello"])))
    assert kernel.books.committed.agents[hello.id].resumed > first


async def test_a_call_of_its_own_wakes_it(kernel: Kernel, client: KernelClient) -> None:
    hello = await client.run(sh(ECHO, **SOON))
    await until_state(client, "hello", "executing")
    await idle(kernel, hello.id)
    await until_frozen(kernel, hello.id)
    await kernel.books.commit(
        ev.CallStarted(agent=hello.id, call="c2", run=1, provider="anthropic", protocol="anthropic")
    )
    await until_thawed(kernel, hello.id)


async def test_a_parent_is_not_frozen_while_a_child_works_and_woken_when_it_ends(
    kernel: Kernel, client: KernelClient
) -> None:
    parent = await client.run(sh(ECHO, "parent", **SOON))
    await until_state(client, "parent", "executing")
    child = await client.run(sh("exec sleep 600", "child", parent="parent"))
    other = await client.run(sh(ECHO, "other", **SOON))
    await until_state(client, "other", "executing")
    for agent in (parent, other):
        await idle(kernel, agent.id)
    await until_frozen(kernel, other.id)
    assert kernel.books.committed.agents[parent.id].freeze is None
    await idle(kernel, child.id)
    await until_frozen(kernel, parent.id)
    done(await client.signal(SignalRequest(refs=["child"], signal=15)))
    await until_thawed(kernel, parent.id)


async def test_a_halted_fleet_is_woken_by_nobody_but_the_end_of_the_halt(
    kernel: Kernel, client: KernelClient
) -> None:
    hello = await client.run(sh(ECHO, **SOON))
    await until_state(client, "hello", "executing")
    await idle(kernel, hello.id)
    await until_frozen(kernel, hello.id)
    await client.halt()
    await client.write("hello", b"now\n")
    await until_frozen(kernel, hello.id, "halt")
    await client.unhalt()
    await until_said(client, "hello", b"got now")


async def test_a_budget_takes_an_idle_freeze_over(kernel: Kernel, client: KernelClient) -> None:
    hello = await client.run(sh(ECHO, **SOON))
    await until_state(client, "hello", "executing")
    await idle(kernel, hello.id)
    await until_frozen(kernel, hello.id)
    kernel.desk.jobs.do("freeze", hello.id, "budget day")
    await until_frozen(kernel, hello.id, "budget day")
    await client.write("hello", b"now\n")
    kernel.desk.jobs.do("thaw", hello.id, "budget day")
    await until_said(client, "hello", b"got now")


async def test_many_writers_at_once_lose_nothing_to_its_freezing_and_waking(
    kernel: Kernel, client: KernelClient
) -> None:
    hello = await client.run(sh(ECHO, idle={"freeze_after": 0.01}, **QUICK))
    await until_state(client, "hello", "executing")
    await idle(kernel, hello.id)
    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(client.write, "hello", b"line %d\n" % number)
            await anyio.sleep(0.01)
    await client.write("hello", b"the end\n")
    await until_said(client, "hello", b"got the end")
    lines = (await said(client, "hello")).splitlines()
    assert sorted(lines) == sorted([b"got line %d" % number for number in range(40)] + [b"got the end"])


async def test_the_configuration_freezes_all_that_say_nothing_else(kernels: KernelMaker, paths: Any) -> None:
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text('[idle]\nfreeze_after = "200ms"\n')
    async with kernels() as kernel:
        client = kernel.client()
        never = await client.run(sh(ECHO, "never", idle={"freeze_after": "never"}, **QUICK))
        hello = await client.run(sh(ECHO, **QUICK))
        for agent in (never, hello):
            await until_state(client, agent.id, "executing")
            await idle(kernel, agent.id)
        await until_frozen(kernel, hello.id)
        assert kernel.books.committed.agents[never.id].freeze is None


def done(outcomes: list[Outcome]) -> None:
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
