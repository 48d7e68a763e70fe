"""A real kernel on a state directory of the test's own, with real processes under it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest

from agenttop.core import config
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import AgentInfo, RunRequest, StopRequest
from agenttop.core.client import KernelClient
from agenttop.core.embedded import EmbeddedClient
from agenttop.core.hosts.client import HostsClient
from agenttop.core.http.serve import ControlServer
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths
from agenttop.core.remote import SocketClient

ENVIRON = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}

KernelMaker: TypeAlias = Callable[..., AbstractAsyncContextManager[Kernel]]


def sh(script: str, name: str = "hello", **spec: Any) -> RunRequest:
    """A request for an agent that is a shell script."""
    return RunRequest(
        spec=AgentSpec(name=name, command=["/bin/sh", "-c", script], **{"cwd": "/tmp", **spec}),
        environ=ENVIRON,
    )


async def until(
    condition: Callable[[], Awaitable[Any]], what: str = "the condition", seconds: float = 15.0
) -> Any:
    """Ask until the answer is true; fail with what was waited for."""
    with anyio.move_on_after(seconds):
        while True:
            if found := await condition():
                return found
            await anyio.sleep(0.01)
    pytest.fail(f"{what} did not come true within {seconds} s")


async def until_state(client: KernelClient, ref: str, *states: str) -> AgentInfo:
    """Wait for an agent to be shown in one of ``states``."""

    async def look() -> AgentInfo | None:
        info = (await client.inspect(ref)).info
        return info if info.state in states else None

    found: AgentInfo = await until(look, f"{ref} being {' or '.join(states)}")
    return found


async def until_processes(client: KernelClient, ref: str, count: int) -> None:
    """Wait for an agent's tree to have so many processes (the wrapper included)."""

    async def look() -> bool:
        return len((await client.inspect(ref)).processes) >= count

    await until(look, f"{ref} having {count} processes")


@pytest.fixture
def paths(home: Path) -> Paths:
    """Paths below the test's own AGENTTOP_HOME."""
    return Paths.from_environ()


@pytest.fixture
def kernels(paths: Paths) -> KernelMaker:
    """Makes kernels on one state directory, one after the other; agents are killed when one is left,
    unless it is asked to leave them."""

    @asynccontextmanager
    async def make(*, leave: bool = False, **options: Any) -> AsyncIterator[Kernel]:
        kernel = Kernel(paths, config.load(paths), environ={}, **options)
        async with kernel.running():
            try:
                yield kernel
            finally:
                if not leave:
                    with anyio.CancelScope(shield=True):
                        await kernel.client().stop(StopRequest(all=True, how="kill"))
                        await kernel.doors.dismiss()

    return make


@asynccontextmanager
async def reached(way: str, kernels: KernelMaker, paths: Paths) -> AsyncIterator[KernelClient]:
    """A kernel of the test's own: in its loop, over the control socket, from another thread, as a host."""
    if way == "embedded":
        async with await EmbeddedClient.start(paths) as embedded:
            yield embedded
            await embedded.stop(StopRequest(all=True, how="kill"))
        return
    async with kernels() as kernel:
        if way == "local":
            yield kernel.client("ana")
            return
        async with ControlServer(kernel.client("ana"), paths.socket).running():
            if way == "host":
                from ..support.lines import hosts

                async with HostsClient(hosts(paths, {"box": Path(os.environ["AGENTTOP_HOME"])})) as one:
                    yield one
                return
            async with SocketClient(paths.socket) as remote:
                yield remote


@pytest.fixture
async def kernel(kernels: KernelMaker) -> AsyncIterator[Kernel]:
    """One running kernel."""
    async with kernels() as made:
        yield made


@pytest.fixture
def client(kernel: Kernel) -> KernelClient:
    """A client in the kernel's own process."""
    return kernel.client("ana")
