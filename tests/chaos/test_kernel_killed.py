"""Kill -9 the kernel under load: no run lost or doubled, no call lost, doubled or billed twice.

Programs and containers alike: the holder keeps the doors of both while the kernel is away.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import anyio
import pytest
from tests.backends.docker_rig import docker_problem
from tests.conftest import REQUIRED, missing
from tests.images import borrowed, busybox

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import FleetRequest, StopRequest
from agenttop.core.client import KernelClient
from agenttop.core.clock import SystemClock
from agenttop.core.connect import connect
from agenttop.core.journal.events import CallSettled, CallStarted, RunStarted, RunStarting
from agenttop.core.journal.journal import Journal
from agenttop.core.paths import Paths
from agenttop.tui.demo.provider import Entry, MockProvider

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

AGENTS = 50

#: Beside them, where a dockerd answers and doors can be opened inside containers.
CONTAINERS = 3

#: What they do: the same call as ``CALLER``, with what an image of busybox has.
WGET = """
while :; do
  wget -q -O - --header 'content-type: application/json' --header 'anthropic-version: 2023-06-01' \
    --header 'x-api-key: none' --header "x-agent: $0" --post-data "$1" "$ANTHROPIC_BASE_URL/v1/messages" \
    | grep -q message_stop && echo ok || { echo cut; sleep 0.05; }
done
"""

#: Makes streamed calls for ever and says how each one ended. A refused or cut call is tried again.
CALLER = Path(__file__).with_name("caller.py")


@pytest.fixture
def image() -> Iterator[str]:
    """The image for containers; empty where there can be none (and none are required)."""
    problem = docker_problem() or ("" if busybox() else "no static busybox to make an image from")
    if problem and "docker" in REQUIRED:
        missing("docker", problem)
    with nullcontext("") if problem or os.geteuid() != 0 else borrowed() as name:
        yield name


def container(number: int, image: str) -> AgentSpec:
    name = f"container-{number}"
    body = {
        "model": "claude-haiku-4-5",
        "max_tokens": 400,
        "stream": True,
        "messages": [{"role": "user", "content": f"[[mock:output=60]] go on, {name}"}],
    }
    command = ["sh", "-c", WGET, name, json.dumps(body)]
    return AgentSpec(name=name, backend="docker", image=image, command=command, stop_grace=0)


async def settled_since(provider: MockProvider, since: int) -> set[str]:
    return {entry.path for entry in provider.truth.entries[since:] if entry.outcome == "complete"}


async def test_a_killed_kernel_loses_and_doubles_nothing(
    paths: Paths, provider: MockProvider, image: str
) -> None:
    specs = [
        AgentSpec(name=f"agent-{n}", command=[sys.executable, "-S", str(CALLER), f"agent-{n}"], cwd="/tmp")
        for n in range(AGENTS)
    ]
    specs += [container(n, image) for n in range(CONTAINERS if image else 0)]
    total = len(specs)
    environ = {"PATH": os.environ["PATH"], "HOME": "/tmp"}
    async with await connect(paths) as client:
        outcomes = await client.up(FleetRequest(fleet="/chaos", specs=specs, environ=environ))
        assert [outcome.done for outcome in outcomes] == ["created"] * total
        await busy(provider, 3 * total)
        await everybody_calls(provider, 0, total)
        before = {info.id: info.pid for info in await client.agents()}
        assert len(before) == total
        kernel = (await client.status()).pid
        os.kill(kernel, signal.SIGKILL)

    await gone(kernel)
    # Calls that are made now wait in the listener that the holder keeps.
    await anyio.sleep(1.0)
    mark = len(provider.truth.entries)
    async with await connect(paths) as client:
        assert (await client.status()).pid != kernel
        after = {info.id: info.pid for info in await client.agents()}
        assert after == before
        await everybody_calls(provider, mark, total)
        await client.stop(StopRequest(all=True, how="kill"))
        refused = await complaints(client, after)
        await client.shutdown()
    assert refused == []
    await check_books(paths, provider, total)


async def busy(provider: MockProvider, calls: int) -> None:
    """Wait until so many calls have ended and some are in flight."""
    with anyio.fail_after(60):
        while True:
            ended = sum(entry.outcome == "complete" for entry in provider.truth.entries)
            running = sum(entry.outcome == "running" for entry in provider.truth.entries)
            if ended >= calls and running >= 5:
                return
            await anyio.sleep(0.02)


async def gone(pid: int) -> None:
    with anyio.fail_after(10):
        while os.path.exists(f"/proc/{pid}"):
            await anyio.sleep(0.01)


async def everybody_calls(provider: MockProvider, mark: int, total: int) -> None:
    """Wait until every agent has had a whole answer since ``mark``."""
    with anyio.fail_after(60):
        while True:
            done = {e.agent for e in provider.truth.entries[mark:] if e.outcome == "complete"}
            if len(done) == total:
                return
            await anyio.sleep(0.05)


async def complaints(client: KernelClient, agents: dict[str, int | None]) -> list[str]:
    """Connections that were refused: there was a moment in which nobody listened."""
    found = []
    for agent in agents:
        text = b"".join([chunk.data async for chunk in client.output(agent)]).decode()
        found += [line for line in text.splitlines() if "refused" in line.lower()]
    return found


async def check_books(paths: Paths, provider: MockProvider, total: int) -> None:
    async with await Journal.open(paths.journal, SystemClock()) as journal:
        verified = await journal.verify()
        assert verified.ok, verified
        records = await journal.read(0, limit=10_000_000)
    events = [record.event() for record in records]
    starting = [event for event in events if isinstance(event, RunStarting)]
    assert Counter(event.run for event in starting) == {1: total}
    assert sum(isinstance(event, RunStarted) for event in events) == total
    started = Counter(event.call for event in events if isinstance(event, CallStarted))
    settled = [event for event in events if isinstance(event, CallSettled)]
    assert set(started.values()) == {1}
    assert Counter(event.call for event in settled) == started
    compare(settled, {entry.request_id: entry for entry in provider.truth.entries})


def compare(settled: list[CallSettled], truth: dict[str, Entry]) -> None:
    """Every call that ended is exact; every one the crash cut is marked; none is counted twice."""
    exact = [event for event in settled if event.exact and event.outcome == "ok"]
    assert len(exact) >= 4 * AGENTS
    assert len({event.request_id for event in exact}) == len(exact)
    for event in exact:
        entry = truth[event.request_id or ""]
        assert event.usage == tuple(entry.usage), entry
        assert event.cost_usd is not None
    cut = [event for event in settled if event.outcome in ("crash", "client_cut", "upstream_cut")]
    # What was cut before it was forwarded cost exactly nothing; the rest is an estimate.
    unsent = [event for event in cut if event.exact]
    assert [event for event in unsent if event.usage.total or event.request_id] == []
    assert len(truth) <= len(settled) - len(unsent)
    assert any(event.outcome == "crash" for event in settled)
