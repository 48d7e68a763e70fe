"""A restart by policy goes on with the conversation where the run failed, else it begins anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from agenttop.core.api import SignalRequest
from agenttop.core.client import KernelClient
from agenttop.core.kernel import Kernel

from .conftest import until
from .test_forking import calls, noter, start, until_said

__all__ = ["noter"]

pytestmark = pytest.mark.anyio


async def until_run(kernel: Kernel, agent: str, number: int) -> None:
    async def look() -> bool:
        run = kernel.books.committed.agents[agent].run
        return run is not None and run.number == number and run.ref is not None

    await until(look, f"run {number} of {agent}", 30)


async def test_a_run_that_failed_is_followed_by_one_that_goes_on_with_the_conversation(
    kernel: Kernel, client: KernelClient
) -> None:
    first = await start(client, restart={"policy": "on-failure", "backoff": 0.05})
    await until_said(client, "first", "secret: heron")
    await calls(kernel, first.id)
    await client.signal(SignalRequest(refs=["first"], signal=9))
    await until_run(kernel, first.id, 2)
    assert "args: --resume s-1 --told Go on" in await until_said(client, "first", "knows: ")
    # Also where the run that went on failed.
    await client.signal(SignalRequest(refs=["first"], signal=9))
    await until_run(kernel, first.id, 3)
    assert "args: --resume s-1 --told Go on" in await until_said(client, "first", "knows: ")


async def test_a_run_that_failed_before_its_first_call_is_followed_by_one_that_begins_anew(
    kernel: Kernel, client: KernelClient
) -> None:
    first = await start(client, restart={"policy": "on-failure", "backoff": 0.05}, model="some-model")
    await until_said(client, "first", "secret: heron")
    await client.signal(SignalRequest(refs=["first"], signal=9))
    await until_run(kernel, first.id, 2)
    assert "args: --told one" in await until_said(client, "first", "knows: ")


async def test_one_that_did_what_it_was_told_is_told_it_again_by_always(
    kernel: Kernel, client: KernelClient, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    script = f'echo "args: $*"; until [ -e {done} ]; do sleep 0.05; done; exit 0'
    first = await start(
        client,
        command=["/bin/sh", "-c", script, "sh", "--told", "one"],
        restart={"policy": "always", "backoff": 30},
    )
    await calls(kernel, first.id)
    done.touch()

    async def scheduled() -> bool:
        return kernel.books.committed.agents[first.id].restart_at is not None

    await until(scheduled, "the next run being due", 30)
    ended = kernel.books.committed.agents[first.id]
    assert kernel.supervisor.conversation(ended) is None
    assert ended.run is not None
    ended.run.keyboard = True  # in a terminal the same conversation comes back, in front of its person
    assert kernel.supervisor.conversation(ended) == "s-1"
