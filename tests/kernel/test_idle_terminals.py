"""Agents in terminals wait for their person, are frozen while nobody is there, and woken by whoever comes."""

from __future__ import annotations

import os
import pty
import shutil
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import AgentInfo, PressRequest, RunRequest
from agenttop.core.client import KernelClient
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths

from ..backends.terminal_rig import servers
from ..conftest import missing
from .conftest import ENVIRON, KernelMaker, until
from .test_idling import until_frozen

pytestmark = [pytest.mark.anyio, pytest.mark.tmux]

TEMPLATE = """
title = "Echo"
programs = ["sh"]
prompt = "argument"
command = ["{program}", "-c", "echo \\"$0\\""]
prompt_arguments = ["{prompt}"]

[interactive]
command = ["{program}", "-c", 'while read -r line; do echo "got $line"; done']
"""


@pytest.fixture
async def kernel(kernels: KernelMaker, paths: Paths) -> AsyncIterator[Kernel]:
    if shutil.which("tmux") is None:
        missing("tmux", "it is not on the PATH")
    paths.templates.mkdir(parents=True, exist_ok=True)
    (paths.templates / "echo.toml").write_text(TEMPLATE)
    async with kernels() as made:
        yield made
    with anyio.fail_after(30):
        while await anyio.to_thread.run_sync(servers, paths.state):
            await anyio.sleep(0.05)


async def start(client: KernelClient, name: str, **spec: Any) -> AgentInfo:
    whole = AgentSpec(
        name=name,
        template="echo",
        backend="terminal",
        cwd="/tmp",
        restart={"start_seconds": 0.05},
        **spec,
    )
    return await client.run(RunRequest(spec=whole, environ=ENVIRON))


async def until_waiting(kernel: Kernel, agent: str) -> None:
    async def look() -> bool:
        row = kernel.feed.row(agent, "run", kernel.clock.time())
        return row is not None and (row.state, row.reason, row.needs) == ("waiting", "input", True)

    await until(look, f"{agent} waiting for input", 30)


async def until_shown(client: KernelClient, ref: str, text: str) -> None:
    async def look() -> bool:
        return any(text in line for line in (await client.history(ref)).lines)

    await until(look, f"{text!r} on the screen of {ref}", 30)


async def test_who_was_told_nothing_waits_for_its_person_and_who_was_told_something_works(
    kernel: Kernel, client: KernelClient
) -> None:
    quiet = await start(client, "quiet")
    await until_waiting(kernel, quiet.id)
    told = await start(client, "told", prompt="go")

    async def works() -> bool:
        return kernel.books.committed.agents[told.id].state == "executing"

    await until(works, "it working", 30)


async def test_keys_and_text_wake_a_terminal_that_was_frozen_for_being_idle(
    kernel: Kernel, client: KernelClient
) -> None:
    quiet = await start(client, "quiet", idle={"freeze_after": 0.3})
    await until_frozen(kernel, quiet.id)
    await client.press(PressRequest(ref="quiet", keys=["h", "i", "Enter"]))
    await until_shown(client, "quiet", "got hi")
    await until_frozen(kernel, quiet.id)
    await client.write("quiet", b"there\r")
    await until_shown(client, "quiet", "got there")


async def test_who_is_attached_to_is_woken_and_not_frozen_before_the_person_has_left(
    kernel: Kernel, client: KernelClient
) -> None:
    quiet = await start(client, "quiet", idle={"freeze_after": 0.5})
    await until_frozen(kernel, quiet.id)
    info = await client.attach("quiet")
    assert kernel.books.committed.agents[quiet.id].freeze is None
    master, slave = pty.openpty()
    environ = {**ENVIRON, "TERM": "xterm-256color"}
    person = await anyio.open_process(
        info.argv, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True
    )
    os.close(slave)
    try:
        await anyio.to_thread.run_sync(os.read, master, 1)  # it is drawn
        await client.attach("quiet")  # should that have taken so long that it was frozen again
        woken = kernel.idling._not_before.get(quiet.id, 0.0)

        async def looked_after() -> bool:
            return kernel.idling._not_before.get(quiet.id, 0.0) > max(woken, 1.0)

        await until(looked_after, "its time having passed", 30)
        assert kernel.books.committed.agents[quiet.id].freeze is None
    finally:
        person.terminate()
        await person.wait()
        os.close(master)
    await until_frozen(kernel, quiet.id)
