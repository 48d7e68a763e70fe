"""How a screen or a command reaches its kernel: find it, or start it."""

from __future__ import annotations

import os
import time

import anyio
import anyio.to_thread

from .client import KernelClient
from .errors import KernelUnreachable
from .paths import Paths
from .remote import SocketClient
from .starting import START, Starting, inside_agent, refuse_inside_agent

PATIENCE = 5.0
"""Seconds an agent's command waits for a kernel that is away; it never starts one."""


async def connect(
    paths: Paths,
    *,
    start: bool = True,
    starting: Starting | None = None,
    embedded: bool = False,
    any_version: bool = False,
) -> KernelClient:
    """A client of this state directory's kernel.

    Args:
        start: Start the kernel if none runs; never done from inside an agent.
        starting: A start that was begun already; it is waited for first.
        embedded: Run the kernel in this process instead; closing the client ends it.
        any_version: Speak to a kernel of another version too.

    Raises:
        KernelUnreachable: No kernel runs, and none may be started.
        AgentTopError: It cannot start; its own words.
    """
    if embedded:
        refuse_inside_agent(paths)
        # A kernel is a second of imports; the caller's loop goes on meanwhile.
        await anyio.to_thread.run_sync(_import_embedded)
        from .embedded import EmbeddedClient

        return await EmbeddedClient.start(paths)
    client = SocketClient(paths.socket, any_version=any_version)
    try:
        if starting is not None:
            await anyio.to_thread.run_sync(starting.wait)
        await _reach(client, paths, start)
    except BaseException:
        await client.close()
        raise
    return client


def _import_embedded() -> None:
    import agenttop.core.embedded
    import agenttop.core.service  # noqa: F401 (the kernel that is started next needs it)


async def _reach(client: SocketClient, paths: Paths, start: bool) -> None:
    try:
        await _greet(client)
    except KernelUnreachable:
        if inside_agent():
            await _await_kernel(client, paths)
        elif start:
            await anyio.to_thread.run_sync(start_kernel, paths)
            await _greet(client)
        else:
            raise


async def _greet(client: SocketClient) -> None:
    """Ask whether it answers, and hand over provider keys that calls wait for and this environment has."""
    missing = await client.missing_keys()
    if missing and not inside_agent():
        keys = {name: os.environ[name] for name in missing if os.environ.get(name)}
        if keys:
            await client.supply(keys)


async def _await_kernel(client: SocketClient, paths: Paths) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            await _greet(client)
        except KernelUnreachable:
            if time.monotonic() > deadline:
                refuse_inside_agent(paths)
            await anyio.sleep(0.1)
        else:
            return


def start_kernel(paths: Paths, timeout: float = START) -> None:
    """Start a kernel as a process of its own; returns when it, or one started meanwhile, answers. Blocks.

    Raises:
        AgentTopError: It cannot start; what it reported.
        KernelUnreachable: It ended without a word, or is silent for ``timeout`` seconds.
    """
    Starting(paths).wait(timeout)
