"""Forking from the screen: by key with a dialog, by command at once."""

from __future__ import annotations

from typing import Any

import pytest

from agenttop.core.api import AgentInfo, ForkRequest
from agenttop.core.errors import UsageError

from .stage import StageClient, shows, stage, typed, until

pytestmark = pytest.mark.anyio


class Forks(StageClient):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[ForkRequest] = []
        self.problem: UsageError | None = None

    async def fork(self, request: ForkRequest) -> AgentInfo:
        self.asked.append(request)
        if self.problem is not None:
            raise self.problem
        return (await super().fork(request)).model_copy(update={"name": request.name or "api-2"})


@pytest.mark.parametrize("size", [(80, 24), (120, 34)])
async def test_the_key_asks_for_a_prompt_and_a_name_and_forks(size: tuple[int, int]) -> None:
    client = Forks()
    async with stage(client, size) as (app, pilot):
        row = app.model.current
        assert row is not None
        await pilot.press("F")
        await shows(pilot, f"Fork {row.name}", "Prompt")
        await pilot.press(*typed("try it without"), "tab", *typed("other"), "enter")
        await until(pilot, lambda: bool(client.asked), 30)
        assert client.asked == [ForkRequest(ref=row.id, name="other", prompt="try it without")]
        await shows(pilot, "other forked")
        assert len(app.screen_stack) == 1


async def test_what_the_kernel_refuses_stays_in_the_dialog() -> None:
    client = Forks()
    client.problem = UsageError("api cannot be forked", "aider cannot begin in a copy of a conversation")
    async with stage(client) as (_, pilot):
        await pilot.press("F", *typed("x"), "enter")
        await shows(pilot, "api cannot be forked", "cannot begin in a copy")


async def test_a_name_that_cannot_be_is_told_without_asking_the_kernel() -> None:
    client = Forks()
    async with stage(client) as (_, pilot):
        await pilot.press("F", *typed("x"), "tab", *typed("a b"), "enter")
        await shows(pilot, "name cannot be")
        assert client.asked == []


async def test_the_command_forks_at_once_with_the_rest_of_the_line() -> None:
    client = Forks()
    async with stage(client) as (_, pilot):
        await pilot.press(*typed(":fork api try it  without"), "enter")
        await until(pilot, lambda: bool(client.asked), 30)
        assert [request.prompt for request in client.asked] == ["try it  without"]
        await shows(pilot, "forked from api")


async def test_who_is_only_observed_cannot_be_forked() -> None:
    client = Forks()
    async with stage(client) as (_, pilot):
        await pilot.press(*typed(":fork claude-4182 go"), "enter")
        await shows(pilot, "agenttop did not start it")
        assert client.asked == []
