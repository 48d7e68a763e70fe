"""A client that gave up while its call was held goes on with its conversation when the answer comes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import AnswerRequest, BudgetRequest, RunRequest, SignalRequest
from agenttop.core.budget.budget import Budget
from agenttop.core.client import KernelClient
from agenttop.tui.demo.cleanup import record_cgroups
from agenttop.tui.demo.provider import MockProvider

from .test_claude_managed import kernel

pytestmark = [pytest.mark.anyio, pytest.mark.claude]


async def until_asked(client: KernelClient, *, held: bool) -> None:
    """Wait for the one approval to be open, its call held or given up."""
    with anyio.fail_after(60):
        while [question.held for question in await client.approvals()] != [held]:
            await anyio.sleep(0.05)


async def until_written(folder: Path, word: str) -> None:
    """Wait for Claude to have put down what it was told, as one that gives up by itself has long done."""
    with anyio.fail_after(60):
        while not any(word in file.read_text() for file in folder.glob("claude/projects/*/*.jsonl")):
            await anyio.sleep(0.05)


async def test_claude_that_gave_up_goes_on_with_its_conversation_when_the_budget_is_extended(
    claude: str, claude_environ: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "h"
    monkeypatch.setenv("AGENTTOP_HOME", str(home))
    folder = os.path.dirname(claude)
    async with MockProvider() as provider, kernel(home, provider) as client:
        await client.set_budget(BudgetRequest(budget=Budget(name="cap", usd=Decimal("0.01"))))
        spec = AgentSpec(
            name="resumer",
            template="claude",
            prompt="Remember the word heron. [[mock:tools=none output=20]]",
            cwd=claude_environ["HOME"],
        )
        environ = {**claude_environ, "PATH": f"{folder}:{claude_environ['PATH']}"}
        agent = await client.run(RunRequest(spec=spec, environ=environ))
        await anyio.to_thread.run_sync(record_cgroups, home)
        await until_asked(client, held=True)
        await until_written(Path((await client.inspect("resumer")).folder), "heron")
        await client.signal(SignalRequest(refs=["resumer"], signal=9))
        with anyio.fail_after(60):
            (first,) = await client.wait([agent.id])
        await until_asked(client, held=False)
        assert not provider.truth.entries, "a held call reached the provider"
        (outcome,) = await client.answer(AnswerRequest(refs=["resumer"], answer="extend", usd=50))
        assert outcome.error is None
        with anyio.fail_after(60):
            while (second := (await client.inspect("resumer")).info).run == first.run:
                await anyio.sleep(0.05)
            (second,) = await client.wait([agent.id])
        assert (second.run, second.exit_code) == (2, 0)
        assert second.tokens.output > 0
        entries = provider.truth.entries
        assert entries
        assert {entry.outcome for entry in entries} == {"complete"}
        assert second.tokens.output == sum(entry.usage.output for entry in entries)
