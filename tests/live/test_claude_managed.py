"""The real Claude Code as a managed agent: the kernel's meter, Claude's own account and the truth are one."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import AgentInfo, RunRequest
from agenttop.core.client import KernelClient
from agenttop.core.connect import connect
from agenttop.core.paths import Paths
from agenttop.tui.demo.cleanup import clean, record_cgroups
from agenttop.tui.demo.provider import MockProvider

pytestmark = [pytest.mark.anyio, pytest.mark.claude]

KEY = "the-providers-own-key"


@asynccontextmanager
async def kernel(home: Path, provider: MockProvider) -> AsyncIterator[KernelClient]:
    """A kernel of the test's own that forwards to the mock; gone afterwards, agents and all."""
    home.mkdir()
    key = home / "key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    (home / "config.toml").write_text(
        f'[providers.anthropic]\nprotocol = "anthropic"\nbase_url = "{provider.url}"\nkey_file = "{key}"\n'
    )
    try:
        async with await connect(Paths.from_environ({"AGENTTOP_HOME": str(home)})) as client:
            yield client
    finally:
        with anyio.CancelScope(shield=True):
            assert await anyio.to_thread.run_sync(clean, home, None) == []


async def run_to_end(
    client: KernelClient, claude: str, environ: Mapping[str, str], name: str, prompt: str
) -> tuple[AgentInfo, list[dict[str, Any]]]:
    """Run the ``claude`` template on a prompt; the agent as it ended, and what it printed."""
    folder = os.path.dirname(claude)
    spec = AgentSpec(name=name, template="claude", prompt=prompt, cwd=environ["HOME"])
    request = RunRequest(spec=spec, environ={**environ, "PATH": f"{folder}:{environ['PATH']}"})
    with anyio.fail_after(90):
        started = await client.run(request)
        await anyio.to_thread.run_sync(record_cgroups, Path(os.environ["AGENTTOP_HOME"]))
        (ended,) = await client.wait([started.id])
    said = b"".join([chunk.data async for chunk in client.output(started.id) if chunk.stream == "out"])
    lines = [json.loads(line) for line in said.splitlines()]
    assert lines, "claude printed nothing"
    return ended, lines


async def test_tokens_and_cost_of_a_managed_claude_equal_the_ledger_to_the_token(
    claude: str, claude_environ: Mapping[str, str], home: Path
) -> None:
    async with MockProvider(speed=50, key=KEY) as provider, kernel(home, provider) as client:
        ended, lines = await run_to_end(client, claude, claude_environ, "hello", "say hi with a tool")
    true = provider.truth.total()
    assert ended.exit_code == 0, lines[-1]
    assert ended.tokens.model_dump() == {
        "input": true.input,
        "cache_read": true.cache_read,
        "cache_write": true.cache_write_5m + true.cache_write_1h,
        "output": true.output,
    }
    assert ended.calls == len(provider.truth.entries) >= 2
    assert ended.model == provider.truth.entries[-1].model
    assert ended.cost_exact
    assert not ended.unpriced
    assert ended.cost_usd == pytest.approx(lines[-1]["total_cost_usd"], rel=1e-9)
    assert ended.state == "terminated"
    assert {entry.outcome for entry in provider.truth.entries} == {"complete"}
    # The meter counts what was paid for; the client saw no provider key.
    assert lines[-1]["result"]
    assert KEY not in json.dumps(lines)


async def test_while_claude_waits_for_the_model_it_is_planning(
    claude: str, claude_environ: Mapping[str, str], home: Path
) -> None:
    async with MockProvider(speed=1, key=KEY) as provider, kernel(home, provider) as client:
        states: set[str] = set()

        async def look() -> None:
            async for update in client.watch():
                states.update(row.state for row in update.rows if row.name == "hello")

        async with anyio.create_task_group() as group:
            group.start_soon(look)
            await run_to_end(client, claude, claude_environ, "hello", "say hi with a tool")
            group.cancel_scope.cancel()
    assert "planning" in states
    assert "executing" in states


async def test_overload_reaches_claude_and_is_not_billed(
    claude: str, claude_environ: Mapping[str, str], home: Path
) -> None:
    async with MockProvider(key=KEY) as provider, kernel(home, provider) as client:
        prompt = "say hi [[mock:error=529 times=1 retry_after=0 tools=none]]"
        ended, lines = await run_to_end(client, claude, claude_environ, "hello", prompt)
    assert lines[-1]["is_error"] is False
    assert [entry.status for entry in provider.truth.entries].count(529) == 1
    assert ended.tokens.output == provider.truth.total().output > 0
    assert ended.cost_usd == pytest.approx(lines[-1]["total_cost_usd"], rel=1e-9)
