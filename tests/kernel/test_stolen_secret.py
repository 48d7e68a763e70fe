"""An agent's secret is good for the agent's own processes and for nobody else."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request

import anyio.to_thread
import pytest

from agenttop.core.gateway.identity import Identity
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths

from .conftest import KernelMaker, sh, until, until_state

pytestmark = pytest.mark.anyio

ASK = """
import os, sys, urllib.error, urllib.request
try:
    own = os.environ["AGENTTOP_URL"] + "/anthropic/v1/models"
    urllib.request.urlopen(sys.argv[1] if len(sys.argv) > 1 else own)
except urllib.error.HTTPError as error:
    print("status", error.code, flush=True)
"""
NO_KEY = 503
STRANGER = 403


def url(kernel: Kernel, agent: str) -> str:
    identity: Identity = kernel.identity
    return f"http://127.0.0.1:{kernel.doors.port}/a/{identity.secret(agent)}/anthropic/v1/models"


def ask(target: str) -> int:
    try:
        with urllib.request.urlopen(target, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def output(kernel: Kernel, name: str) -> str:
    return b"".join([c.data async for c in kernel.client().output(name, follow=True)]).decode()


@pytest.mark.parametrize("freeze", ["auto", "signal"])
async def test_a_secret_is_worth_nothing_to_a_stranger(
    kernels: KernelMaker, paths: Paths, freeze: str
) -> None:
    if freeze != "auto":
        paths.config_file.parent.mkdir(parents=True, exist_ok=True)
        paths.config_file.write_text(f'[backends.subprocess]\nfreeze = "{freeze}"\n')
    async with kernels() as kernel:
        client = kernel.client()
        victim = await client.run(sh("sleep 600", "victim"))
        await until_state(client, "victim", "executing")
        assert await anyio.to_thread.run_sync(ask, url(kernel, victim.id)) == STRANGER
        program = f'{sys.executable} -c "$ASK"'
        thief = await client.run(
            sh(f"{program} {url(kernel, victim.id)}; {program}; ({program})", "thief", env={"ASK": ASK})
        )
        await until(lambda: _over(kernel, thief.id), "the thief's end")
        said = (await output(kernel, "thief")).split("\n")
        assert said == [f"status {STRANGER}", f"status {NO_KEY}", f"status {NO_KEY}", ""]


async def _over(kernel: Kernel, agent: str) -> bool:
    return kernel.books.committed.agents[agent].over


async def test_who_wants_to_can_turn_it_off(kernels: KernelMaker, paths: Paths) -> None:
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text("[gateway]\ncheck_peers = false\n")
    async with kernels() as kernel:
        victim = await kernel.client().run(sh("sleep 600", "victim"))
        assert await anyio.to_thread.run_sync(ask, url(kernel, victim.id)) == NO_KEY
