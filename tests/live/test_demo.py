"""The demo end to end: a real fleet through the real gateway, and not a trace of it afterwards."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from agenttop.core.api import AgentInfo, bus, memory
from agenttop.core.client import KernelClient
from agenttop.core.connect import connect
from agenttop.core.paths import Paths
from agenttop.tui.demo.box import DockerSaid, build, image_name, remove
from agenttop.tui.demo.sweep import marked

from ..conftest import missing

pytestmark = pytest.mark.anyio

NAMES = {
    "lead",
    "api",
    "api-tests",
    "ui",
    "docs",
    "review",
    "triage",
    "embed",
    "scrape",
    "deploy-watch",
    "nightly",
}


class Demo:
    """A demo without a screen, as a process."""

    def __init__(self, *more: str) -> None:
        command = [sys.executable, "-m", "agenttop.tui.demo.run", "--no-screen", "--speed", "20", *more]
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("AGENTTOP_", "ANTHROPIC_"))}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, start_new_session=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the demo ended before its fleet was up"
        self.facts: dict[str, Any] = json.loads(line)
        self.home = Path(self.facts["home"])
        self.paths = Paths.from_environ({"AGENTTOP_HOME": str(self.home)})
        self.groups = [Path(line) for line in (self.home / "cgroups").read_text().splitlines()]
        # Everything of this demo, the reaper too, by pidfd: their ends can be waited for.
        self.pidfds = [*marked(self.home).values(), os.pidfd_open(self._reaper())]

    def _reaper(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in children:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"agenttop.tui.demo.reaper" in words:
                return int(pid)
        raise AssertionError("the demo has no reaper")

    def await_end(self) -> None:
        """Wait until every process of it has gone."""
        for pidfd in self.pidfds:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            assert poll.poll(60_000), "a process of the demo did not end"

    def assert_nothing_left(self) -> None:
        """No process, no container, no image, no cgroup, no file."""
        assert marked(self.home) == {}
        assert not self.home.exists()
        assert [group for group in self.groups if group.exists() or group.parent.exists()] == []

    def close(self) -> None:
        """Let it go, whatever the test did."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=90)
        self.process.stdout.close()
        self.await_end()
        for pidfd in self.pidfds:
            os.close(pidfd)


@pytest.fixture
def demo() -> Iterator[Demo]:
    running = Demo("--no-containers")
    try:
        yield running
    finally:
        running.close()


async def until(client: KernelClient, good: Callable[[dict[str, AgentInfo]], bool]) -> dict[str, AgentInfo]:
    """The agents by name once they are as wished; each change of the table is a reason to look again."""
    with anyio.fail_after(60):
        async for _ in client.watch():
            by_name = {agent.name: agent for agent in await client.agents(all=True)}
            if good(by_name):
                return by_name
    raise AssertionError("the table ended")


async def test_the_fleet_is_there_working_and_metered(demo: Demo) -> None:
    async with await connect(demo.paths, start=False) as client:
        agents = await until(
            client,
            lambda agents: (
                all(agents[name].calls >= 2 for name in NAMES if name != "scrape")
                and agents["scrape"].restarts >= 1
            ),
        )
        assert set(agents) == NAMES
        ids = {name: agent.id for name, agent in agents.items()}
        assert agents["api"].parent in ("lead", ids["lead"])
        assert agents["api-tests"].parent in ("api", ids["api"])
        assert agents["triage"].nice == 10
        assert agents["embed"].unpriced
        assert agents["api"].cost_usd
        assert not agents["api"].unpriced
        assert agents["api"].tokens.cache_read > 0


async def test_its_agents_talk_and_remember(demo: Demo) -> None:
    """Real traffic: mail that was read, questions that were answered, and memory that moved and is found."""
    kinds: set[str] = set()
    dead: set[str] = set()
    async with await connect(demo.paths, start=False) as client:
        with anyio.fail_after(90):
            async for change in client.follow(bus.WATCH, bus.BusWatchRequest(rows=2_000)):
                kinds |= {row.kind for row in change.rows if row.state in ("acked", "replied")}
                dead |= {row.to for row in change.rows if row.state == "dead"}
                if kinds >= {"direct", "topic", "request", "reply"} and "scrape" in dead:
                    break
        boxes = {box.name: box for box in await client.call(bus.MAILBOXES, bus.NoRequest())}
        assert boxes["lead"].patterns == ["builds/**", "issues"]
        await until_moved(client, "embed")
        said = await client.call(memory.SEARCH, memory.SearchRequest(agent="api", query="orders", limit=5))
        assert {hit.tier for hit in said.hits} >= {"recall", "archival"}
        note = await client.call(memory.NOTE, memory.NoteRequest(key="orders.sql"))
        assert note.by_name in ("api", "ui")


async def until_moved(client: KernelClient, agent: str) -> None:
    """Wait until pressure moved something from the agent's working memory to its recall."""
    with anyio.fail_after(60):
        async for _ in client.watch():
            moves = await client.call(memory.MOVES, memory.MovesRequest(agent=agent))
            if any(move.source == "working" and move.target == "recall" for move in moves):
                return


async def test_every_meter_equals_the_providers_truth(demo: Demo) -> None:
    """Held still, the fleet's books and the provider's ledger have the same tokens for each agent."""
    from agenttop.core.agents.states import Pause
    from agenttop.core.api import PauseRequest

    async with await connect(demo.paths, start=False) as client:
        await until(client, lambda agents: all(agents[name].calls >= 1 for name in NAMES))
        await client.pause(PauseRequest(all=True, how=Pause.HOLD))
        with anyio.fail_after(60):
            while any(call["outcome"] == "running" for call in await truth(demo)):
                await anyio.sleep(0.05)
        calls = await truth(demo)
        agents = {agent.id: agent for agent in await client.agents(all=True)}
    assert calls
    for id, agent in agents.items():
        mine = [call["usage"] for call in calls if call["agent"] == id]
        assert agent.tokens.model_dump() == {
            "input": sum(u["input"] for u in mine),
            "cache_read": sum(u["cache_read"] for u in mine),
            "cache_write": sum(u["cache_write_5m"] + u["cache_write_1h"] for u in mine),
            "output": sum(u["output"] for u in mine),
        }, agent.name


async def truth(demo: Demo) -> list[dict[str, Any]]:
    ended = await anyio.run_process([sys.executable, "-c", _FETCH, f"{demo.facts['provider']}/_truth"])
    calls: list[dict[str, Any]] = json.loads(ended.stdout)["calls"]
    return calls


_FETCH = "import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1]).read())"


async def test_the_one_that_ignores_term_is_killed_with_proof(demo: Demo) -> None:
    from agenttop.core.api import StopRequest

    async with await connect(demo.paths, start=False) as client:
        await until(client, lambda agents: agents["nightly"].calls >= 1)
        (outcome,) = await client.stop(StopRequest(refs=["nightly"], how="stop", grace=0.5))
        agents = {agent.name: agent for agent in await client.agents(all=True)}
    assert outcome.error is None, outcome
    assert agents["nightly"].state == "terminated"
    assert agents["nightly"].pids == []


@pytest.mark.parametrize("end", ["eof", "term", "kill", "hangup"])
def test_whatever_ends_the_demo_nothing_is_left(demo: Demo, end: str) -> None:
    match end:
        case "eof":
            assert demo.process.stdin is not None
            demo.process.stdin.close()
        case "term":
            demo.process.terminate()
        case "kill":
            demo.process.kill()
        case "hangup":
            demo.process.send_signal(signal.SIGHUP)
    demo.process.wait(timeout=90)
    demo.await_end()
    demo.assert_nothing_left()
    if end in ("eof", "term"):
        assert demo.process.returncode == 0


def test_a_killed_kernel_and_a_killed_screen_at_once_leave_nothing(demo: Demo) -> None:
    """Then only the marker tells what belongs to the demo."""
    kernel = kernel_pid(demo)
    os.kill(kernel, signal.SIGKILL)
    demo.process.kill()
    demo.process.wait()
    demo.await_end()
    demo.assert_nothing_left()


def test_a_frozen_fleet_is_ended_too(demo: Demo) -> None:
    from agenttop.core.api import PauseRequest

    async def freeze() -> None:
        async with await connect(demo.paths, start=False) as client:
            await client.pause(PauseRequest(all=True))

    anyio.run(freeze)
    os.kill(kernel_pid(demo), signal.SIGKILL)
    demo.process.kill()
    demo.process.wait()
    demo.await_end()
    demo.assert_nothing_left()


def kernel_pid(demo: Demo) -> int:
    async def ask() -> int:
        async with await connect(demo.paths, start=False) as client:
            return (await client.status()).pid

    return anyio.run(ask)


@pytest.mark.docker
def test_its_containers_call_through_the_gateway_and_go_with_their_image(tmp_path: Path) -> None:
    probe = image_name(tmp_path)
    try:
        build(probe)
        remove(probe)
    except (DockerSaid, OSError) as error:
        missing("docker", str(error))
    running = Demo()
    try:

        async def both_call() -> None:
            async with await connect(running.paths, start=False) as client:
                agents = await until(
                    client, lambda agents: all(agents[name].calls >= 2 for name in ("sandbox-a", "sandbox-b"))
                )
                assert agents["sandbox-a"].tokens.output > 0

        anyio.run(both_call)
        running.process.kill()
        running.process.wait()
        running.await_end()
        running.assert_nothing_left()
        docker = ["docker", "ps", "-aq", "--filter", f"ancestor={running.facts['image']}"]
        assert subprocess.run(docker, capture_output=True, check=True).stdout == b""
        images = subprocess.run(
            ["docker", "images", "-q", running.facts["image"]], capture_output=True, check=True
        )
        assert images.stdout == b""
    finally:
        running.close()
