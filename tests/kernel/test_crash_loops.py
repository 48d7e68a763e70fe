"""A crash loop ends in ``error`` with what the agent said last, in the row, in ``ps`` and in ``inspect``."""

from __future__ import annotations

import pytest

from agenttop.core.client import KernelClient
from agenttop.core.kernel import Kernel

from .conftest import KernelMaker, sh, until, until_state

pytestmark = pytest.mark.anyio

DIES = "echo working on $0; for n in 1 2 3; do echo step $n; done; echo 'fatal: no such bucket' >&2; exit 3"


async def until_told(client: KernelClient, ref: str) -> None:
    async def look() -> bool:
        return bool((await client.inspect(ref)).info.last_line)

    await until(look, f"the last words of {ref}", 30)


async def is_told(kernel: Kernel, ref: str) -> None:
    client = kernel.client()
    await until_told(client, ref)
    detail = await client.inspect(ref)
    assert (detail.info.state, detail.info.last_line) == ("error", "fatal: no such bucket")
    assert detail.info.reason == "exit 3: fatal: no such bucket"
    assert [(line.stream, line.text) for line in detail.last_lines[-2:]] == [
        ("out", "step 3"),
        ("err", "fatal: no such bucket"),
    ]
    row = kernel.feed.row(detail.info.id, "run", kernel.clock.time())
    assert row is not None
    assert row.detail == "exit 3: fatal: no such bucket"
    assert row.needs


async def test_a_crash_loop_ends_in_error_with_its_last_lines_at_hand_and_they_outlive_the_kernel(
    kernels: KernelMaker,
) -> None:
    restart = {"policy": "on-failure", "max_restarts": 1, "backoff": 0.05}
    async with kernels(leave=True) as kernel:
        await kernel.client().run(sh(DIES, restart=restart))
        await until_state(kernel.client(), "hello", "error")

        async def given_up() -> bool:
            agent = next(iter(kernel.books.committed.agents.values()))
            return agent.over and agent.run is not None and agent.run.number == 2

        await until(given_up, "the end of the loop", 30)
        await is_told(kernel, "hello")
    async with kernels() as kernel:
        await is_told(kernel, "hello")


async def test_a_new_run_forgets_what_the_failed_one_said(kernel: Kernel, client: KernelClient) -> None:
    from agenttop.core.api import Target

    await client.run(sh('test -e "$0.$$" && exit 0; echo gone wrong >&2; exit 1'))
    await until_told(client, "hello")
    await client.restart(Target(refs=["hello"]))
    assert kernel.last_words.of(kernel.books.committed.agents[(await client.inspect("hello")).info.id]) == ""
    await until_told(client, "hello")


async def test_one_that_ended_well_has_no_last_words(client: KernelClient) -> None:
    await client.run(sh("echo all is well"))
    await until_state(client, "hello", "terminated")
    detail = await client.inspect("hello")
    assert (detail.info.last_line, detail.last_lines, detail.info.reason) == ("", [], None)


async def test_hostile_output_is_told_without_what_controls_a_terminal(client: KernelClient) -> None:
    await client.run(sh(r"printf '\033]0;own\007\033[2Jfatal\033[31m: \302\233mred\n' >&2; exit 1"))
    await until_told(client, "hello")
    detail = await client.inspect("hello")
    assert all(line.text.isprintable() for line in detail.last_lines)
    assert detail.info.last_line.startswith("fatal: ")
