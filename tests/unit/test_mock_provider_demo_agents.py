"""The demo's agents against the provider they talk to in the demo, and what cleans up behind them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from agenttop.core.agents.spec import RestartMode
from agenttop.tui.demo import fleet
from agenttop.tui.demo.box import is_static
from agenttop.tui.demo.provider import MockProvider
from agenttop.tui.demo.run import check_speed
from agenttop.tui.demo.scripts import HOUSE, SCRIPTS
from agenttop.tui.demo.stage import Options, Stage
from agenttop.tui.demo.sweep import marked, sweep

pytestmark = pytest.mark.anyio


def environ(provider: MockProvider, **more: str) -> dict[str, str]:
    base = {"PATH": os.environ["PATH"], "ANTHROPIC_BASE_URL": provider.url, "AGENTTOP_DEMO_SPEED": "instant"}
    return {**base, "AGENTTOP_AGENT": "a1f3", **more}


async def run_agent(
    provider: MockProvider, *arguments: str, **more: str
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "agenttop.tui.demo.agent", *arguments]
    with anyio.fail_after(60):
        return await anyio.run_process(
            command, env=environ(provider, **more), stdin=subprocess.DEVNULL, check=False
        )


async def test_an_agent_uses_the_tools_of_its_script_and_ends_its_task() -> None:
    async with MockProvider() as provider:
        ended = await run_agent(provider, "--script", "coder", "--tasks", "1")
    assert ended.returncode == 0, ended.stderr
    entries = provider.truth.entries
    assert [tool for entry in entries for tool in entry.tools] == SCRIPTS["coder"].tools.split("+")
    assert entries[-1].stop_reason == "end_turn"
    assert {entry.agent for entry in entries} == {"a1f3"}
    assert b"\xe2\x97\x8f Read(" in ended.stdout


async def test_an_agents_conversation_is_read_from_the_cache_as_it_grows() -> None:
    async with MockProvider() as provider:
        await run_agent(provider, "--script", "tester", "--tasks", "1")
    first, *rest = provider.truth.entries
    assert first.usage.cache_read == 0
    assert first.usage.cache_write_1h > SCRIPTS["tester"].guide * 0.8
    for before, after in zip([first, *rest], rest, strict=False):
        assert after.usage.cache_read == before.usage.context - before.usage.input
        assert after.usage.input > 0


async def test_an_agent_is_only_as_random_as_its_seed() -> None:
    outputs = []
    for seed in ("7", "7", "8"):
        async with MockProvider(seed=int(seed)) as provider:
            ended = await run_agent(provider, "--script", "triage", "--tasks", "2", AGENTTOP_DEMO_SEED=seed)
            outputs.append(ended.stdout)
    assert outputs[0] == outputs[1] != outputs[2]


async def test_the_crasher_crashes_with_a_traceback() -> None:
    async with MockProvider() as provider:
        ended = await run_agent(provider, "--script", "crasher")
    assert ended.returncode == 1
    assert b"KeyError: 'price'" in ended.stderr
    assert b"Traceback" in ended.stdout


async def test_the_writer_finishes_its_list() -> None:
    async with MockProvider() as provider:
        ended = await run_agent(provider, "--script", "writer")
    assert ended.returncode == 0
    assert ended.stdout.endswith("● Done. Nothing is left on the list.\n".encode())


async def test_an_agent_gets_over_overload_a_cut_stream_and_a_dropped_connection() -> None:
    async with MockProvider() as provider:
        for rule in (
            {"do": "error", "status": 529, "retry_after": 0, "times": 1},
            {"do": "cut", "after": 3, "times": 1},
            {"do": "drop", "times": 1},
        ):
            provider.conduct.add(rule_of(rule))
        ended = await run_agent(provider, "--script", "triage", "--tasks", "1")
    assert ended.returncode == 0, ended.stdout
    assert [e.outcome for e in provider.truth.entries][:4] == ["refused", "cut", "dropped", "complete"]


def rule_of(data: dict[str, object]):  # type: ignore[no-untyped-def]
    from agenttop.tui.demo.provider.directives import parse_behaviour

    return parse_behaviour(data)


async def test_an_agent_without_money_stops_and_says_why() -> None:
    async with MockProvider() as provider:
        provider.conduct.add(rule_of({"do": "error", "status": 402}))
        ended = await run_agent(provider, "--script", "triage")
    assert ended.returncode == 1
    assert b"402" in ended.stdout
    assert len(provider.truth.entries) == 1


async def test_the_stubborn_one_ignores_term_and_the_others_leave() -> None:
    async with MockProvider() as provider:
        for script, code in (("stubborn", -signal.SIGKILL), ("hanger", 128 + signal.SIGTERM)):
            command = [sys.executable, "-m", "agenttop.tui.demo.agent", "--script", script]
            process = await anyio.open_process(
                command, env=environ(provider, AGENTTOP_DEMO=f"/nowhere/{script}"), start_new_session=True
            )
            assert process.stdout is not None
            with anyio.fail_after(30):
                said = b""
                while b"\n> " not in said:
                    said += await process.stdout.receive()
                process.send_signal(signal.SIGTERM)
                if script == "stubborn":
                    calls = len(provider.truth.entries)
                    while len(provider.truth.entries) < calls + 2:
                        await process.stdout.receive()
                    process.kill()
                assert await process.wait() == code
            sweep(Path("/nowhere") / script)
            await process.aclose()


async def test_the_agent_program_is_light() -> None:
    """Ten of them run in a demo: nothing but the standard library and no more than a few modules of it."""
    code = "import sys, agenttop.tui.demo.agent; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    ended = await anyio.run_process([sys.executable, "-c", code])
    heavy = {"pydantic", "anyio", "textual", "rich", "asyncio", "orjson"}
    assert not heavy & set(ended.stdout.decode().split())


def test_the_fleet_is_what_it_promises() -> None:
    specs = fleet.specs(seed=1, speed="1", home="/h", cwd="/h/work", image="agenttop-demo:x")
    by_name = {spec.name: spec for spec in specs}
    assert len(by_name) == len(specs) >= 8
    seen: set[str] = set()
    for spec in specs:
        assert spec.parent is None or spec.parent in seen, "parents come before their children"
        seen.add(spec.name)
    assert by_name["api-tests"].parent == "api"
    assert by_name["api"].parent == "lead"
    assert by_name["scrape"].restart.policy is RestartMode.ON_FAILURE
    assert len({spec.nice for spec in specs}) > 3
    assert HOUSE in {spec.model for spec in specs}
    assert sum(spec.backend == "docker" for spec in specs) == 2
    without = fleet.specs(seed=1, speed="1", home="/h", cwd="/h/work", image=None)
    assert {spec.backend for spec in without} == {"subprocess"}


@pytest.mark.parametrize("speed", ["0", "-1", "fast", ""])
def test_a_speed_that_cannot_be_is_a_usage_error(speed: str) -> None:
    from agenttop.core.errors import UsageError

    with pytest.raises(UsageError):
        check_speed(speed)


def test_only_a_static_program_is_taken_for_the_image() -> None:
    assert not is_static(Path(sys.executable).resolve().read_bytes())
    assert not is_static(b"#!/bin/sh\n")


# --- nothing stays behind ------------------------------------------------------------------------


@contextlib.contextmanager
def held_pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


def test_a_sweep_ends_what_carries_the_marker_and_nothing_else(tmp_path: Path) -> None:
    """A grandchild in a session of its own too, and one whose parent is gone."""
    script = "setsid sh -c 'sleep 1000' & (setsid sleep 1000 &) ; echo started; wait"
    mine = subprocess.Popen(
        ["sh", "-c", script],
        env={**os.environ, "AGENTTOP_DEMO": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    other = subprocess.Popen(["sleep", "1000"], env={**os.environ, "AGENTTOP_DEMO": f"{tmp_path}2"})
    try:
        assert mine.stdout is not None
        assert mine.stdout.readline() == b"started\n"
        assert sweep(tmp_path) >= 3
        assert mine.wait() == -signal.SIGKILL
        assert marked(tmp_path) == {}
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        if mine.stdout is not None:
            mine.stdout.close()


def test_leaving_the_stage_leaves_nothing() -> None:
    with Stage(Options(containers=False)) as stage:
        home = stage.home
        assert home.is_dir()
        assert stage.paths.config_file.read_text().count(stage.provider_url) == 1
        found = marked(home)
        for pidfd in found.values():
            os.close(pidfd)
        assert len(found) == 1, "the provider carries the marker, the reaper does not"
    assert stage.problems == []
    assert not home.exists()
    assert marked(home) == {}


def test_kill_9_of_the_demo_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from agenttop.tui.demo.stage import Options, Stage\n"
        "stage = Stage(Options(containers=False)).__enter__()\n"
        "print(stage.home, stage._reaper.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    demo = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert demo.stdout is not None
    assert demo.stdin is not None
    home, reaper = demo.stdout.readline().decode().split()
    pidfd = os.pidfd_open(int(reaper))
    try:
        demo.kill()
        demo.wait()
        wait_for(pidfd)
    finally:
        os.close(pidfd)
        demo.stdout.close()
        demo.stdin.close()
    assert not Path(home).exists()
    assert marked(Path(home)) == {}


def test_a_killed_reaper_is_replaced_by_the_demo_itself() -> None:
    with Stage(Options(containers=False)) as stage:
        home = stage.home
        assert stage._reaper is not None
        stage._reaper.kill()
        stage._reaper.wait()
    assert stage.problems == []
    assert not home.exists()
    assert marked(home) == {}


def test_the_provider_as_a_process_says_where_it_is_and_ends_with_term(tmp_path: Path) -> None:
    with held_pipe() as (reading, writing):
        truth, port_file = tmp_path / "truth", tmp_path / "port"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "agenttop.tui.demo.provider", "--speed", "instant"),
                *("--truth", str(truth), "--port-file", str(port_file), "--ready-fd", str(writing)),
            ],
            pass_fds=(writing,),
        )
        os.close(writing)
        port = os.read(reading, 16).decode().strip()
        assert port_file.read_text().strip() == port
        env = {"PATH": os.environ["PATH"], "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}"}
        agent = [sys.executable, "-m", "agenttop.tui.demo.agent", "--script", "triage", "--tasks", "1"]
        subprocess.run(agent, env={**env, "AGENTTOP_DEMO_SPEED": "instant"}, check=True, capture_output=True)
        process.terminate()
        assert process.wait(timeout=20) == 0
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "ended"] * (len(lines) // 2)
    assert {line["outcome"] for line in lines if line["event"] == "ended"} == {"complete"}


def wait_for(pidfd: int) -> None:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(40_000), "the reaper did not end"
