"""The real Claude Code against the mock provider: what it reports is what the mock knows to be true."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from agenttop.tui.demo.provider import MockProvider

pytestmark = [pytest.mark.anyio, pytest.mark.claude]


async def run_claude(
    claude: str, environ: Mapping[str, str], base_url: str, prompt: str, *more: str
) -> list[dict[str, Any]]:
    """One ``claude -p``; its stream-json lines."""
    command = [
        claude,
        "-p",
        prompt,
        "--output-format",
        "stream-json",
        "--verbose",
        "--allowedTools",
        "Bash",
        *more,
    ]
    env = {**environ, "ANTHROPIC_BASE_URL": base_url, "ANTHROPIC_API_KEY": "x"}
    with anyio.fail_after(90):
        ended = await anyio.run_process(
            command, env=env, stdin=subprocess.DEVNULL, check=False, cwd=environ["HOME"]
        )
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert lines, ended.stderr.decode()
    return lines


def reported(lines: list[dict[str, Any]]) -> dict[str, int]:
    """The tokens of all models, as the last result has them."""
    result = [line for line in lines if line["type"] == "result"][-1]
    names = ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens", "outputTokens")
    return {name: sum(usage[name] for usage in result["modelUsage"].values()) for name in names}


def true(provider: MockProvider) -> dict[str, int]:
    """The same from the ledger."""
    total = provider.truth.total()
    return {
        "inputTokens": total.input,
        "cacheReadInputTokens": total.cache_read,
        "cacheCreationInputTokens": total.cache_write_5m + total.cache_write_1h,
        "outputTokens": total.output,
    }


async def test_claude_uses_a_tool_ends_its_turn_and_counts_what_was_sent(
    claude: str, claude_environ: Mapping[str, str]
) -> None:
    async with MockProvider(speed=50) as provider:
        lines = await run_claude(claude, claude_environ, provider.url, "say hi with a tool")
    result = lines[-1]
    assert (result["type"], result["is_error"], result["stop_reason"]) == ("result", False, "end_turn")
    results = [
        block["content"]
        for line in lines
        if line["type"] == "user"
        for block in line["message"]["content"]
        if block["type"] == "tool_result"
    ]
    assert results == ["hi"]
    assert reported(lines) == true(provider)
    assert true(provider)["cacheReadInputTokens"] > 5_000, "the second call reads what the first wrote"
    assert [e.tools for e in provider.truth.entries if e.tools] == [["Bash"]]
    assert {e.outcome for e in provider.truth.entries} == {"complete"}


async def test_claude_recovers_from_overload_and_counts_nothing_twice(
    claude: str, claude_environ: Mapping[str, str]
) -> None:
    async with MockProvider() as provider:
        prompt = "say hi [[mock:error=529 times=2 retry_after=0 tools=none]]"
        lines = await run_claude(claude, claude_environ, provider.url, prompt)
    assert lines[-1]["is_error"] is False
    assert sorted(e.status for e in provider.truth.entries) == [200, 529, 529]
    assert reported(lines) == true(provider)


async def test_claude_stops_at_a_refusal_that_retrying_cannot_help(
    claude: str, claude_environ: Mapping[str, str]
) -> None:
    async with MockProvider() as provider:
        prompt = "say hi [[mock:error=402 should_retry=false]]"
        lines = await run_claude(claude, claude_environ, provider.url, prompt)
    assert lines[-1]["is_error"] is True
    assert lines[-1]["api_error_status"] == 402
    assert true(provider)["outputTokens"] == 0


async def test_two_claudes_at_once_are_told_apart_by_their_paths(
    claude: str, claude_environ: Mapping[str, str], tmp_path: Path
) -> None:
    async with MockProvider() as provider:
        both: dict[str, list[dict[str, Any]]] = {}

        async def one(name: str) -> None:
            environ = {**claude_environ, "CLAUDE_CONFIG_DIR": str(tmp_path / name)}
            both[name] = await run_claude(claude, environ, f"{provider.url}/a/{name}", f"hi from {name}")

        async with anyio.create_task_group() as group:
            group.start_soon(one, "left")
            group.start_soon(one, "right")
        for name, lines in both.items():
            total = provider.truth.total(provider.truth.select(agent=f"/a/{name}"))
            assert reported(lines)["outputTokens"] == total.output
            assert reported(lines)["cacheReadInputTokens"] == total.cache_read
