"""How a screen or a command reaches its kernel: find it, or start it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping

import anyio
import anyio.to_thread

from . import uds
from .client import KernelClient
from .errors import AgentTopError, KernelUnreachable, from_dict
from .paths import Paths
from .remote import SocketClient

START = 30.0
"""Seconds a kernel may take to answer (a long journal is folded first)."""

PATIENCE = 5.0
"""Seconds an agent's command waits for a kernel that is away; it never starts one."""


async def connect(
    paths: Paths, *, start: bool = True, embedded: bool = False, any_version: bool = False
) -> KernelClient:
    """A client of this state directory's kernel.

    Args:
        start: Start the kernel if none runs; never done from inside an agent.
        embedded: Run the kernel in this process instead; closing the client ends it.
        any_version: Speak to a kernel of another version too.

    Raises:
        KernelUnreachable: No kernel runs, and none may be started.
        AgentTopError: It cannot start; its own words.
    """
    if embedded:
        _refuse_inside_agent(paths)
        from .embedded import EmbeddedClient

        return await EmbeddedClient.start(paths)
    client = SocketClient(paths.socket, any_version=any_version)
    try:
        await _reach(client, paths, start)
    except BaseException:
        await client.close()
        raise
    return client


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


def inside_agent(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this process belongs to an agent: ``AGENTTOP_URL`` is set."""
    return bool((os.environ if environ is None else environ).get("AGENTTOP_URL"))


def _refuse_inside_agent(paths: Paths) -> None:
    if inside_agent():
        raise KernelUnreachable(
            f"no kernel is started for {paths.state}",
            "This is inside an agent (AGENTTOP_URL is set), and its end would be the kernel's",
            "Start agenttop from a terminal that is not inside an agent",
        )


async def _await_kernel(client: SocketClient, paths: Paths) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            await _greet(client)
        except KernelUnreachable:
            if time.monotonic() > deadline:
                _refuse_inside_agent(paths)
            await anyio.sleep(0.1)
        else:
            return


def start_kernel(paths: Paths, timeout: float = START) -> None:
    """Start a kernel as a process of its own; returns when it, or one started meanwhile, answers. Blocks.

    Raises:
        AgentTopError: It cannot start; what it reported.
        KernelUnreachable: It ended without a word, or is silent for ``timeout`` seconds.
    """
    _refuse_inside_agent(paths)
    paths.make_state()
    reading, writing = os.pipe()
    try:
        try:
            command = [sys.executable, "-P", "-m", "agenttop.core.daemon", "--report", str(writing)]
            command += ["--state", str(paths.state), "--config", str(paths.config)]
            # The process forks and ends at once; its grandchild is the kernel.
            subprocess.run(
                command,
                # The kernel has no use for pydantic's plug-ins; looking for them reads every
                # installed package's metadata, a tenth of its start.
                env={**os.environ, "PYDANTIC_DISABLE_PLUGINS": "__all__"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(writing,),
                start_new_session=True,
                check=False,
            )
        finally:
            os.close(writing)
        _await_report(paths, reading, time.monotonic() + timeout)
    finally:
        os.close(reading)


def _await_report(paths: Paths, reading: int, deadline: float) -> None:
    told = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            raise KernelUnreachable(
                "the kernel does not answer",
                f"It was started, and is silent at {paths.socket}",
                f"See {paths.log}",
            )
        piece = os.read(reading, 65_536)
        if not piece:
            break
        told += piece
    if told == b"already":
        if not uds.answers(paths.socket):
            raise KernelUnreachable(
                "the kernel went away", "Another one ran, and has just ended", "Try again"
            )
    elif told != b"ready":
        raise _told(paths, told)


def _told(paths: Paths, told: bytes) -> AgentTopError:
    if not told:
        return KernelUnreachable("the kernel did not start", "It ended without a word", f"See {paths.log}")
    return from_dict(json.loads(told))
