"""Real coding agents at the end of their budget: refused, they stop at once; held, they wait and go on."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Set
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from agenttop.core.api import AnswerRequest, ApprovalInfo, BudgetRequest, CallsRequest
from agenttop.core.budget.budget import Budget
from agenttop.core.client import KernelClient
from agenttop.core.gateway.limits import Limits
from agenttop.core.journal.events import Usage

from .agent_clis import CLAUDE, CLIS, Cli, of_each
from .managed import Ended, House, agrees, is_sane, open_house

pytestmark = pytest.mark.anyio

T = TypeVar("T")

#: A client that is held this long has got the head of its answer and one keep-alive.
HELD_SECONDS = Limits().keep_alive_after + 2 * Limits().tick_seconds

PLENTY = 100_000_000
"""Tokens."""


async def until(condition: Callable[[], Awaitable[T]], what: str, seconds: float = 60) -> T:
    """Ask until the answer is true."""
    with anyio.move_on_after(seconds):
        while True:
            if found := await condition():
                return found
            await anyio.sleep(0.02)
    pytest.fail(f"{what} did not happen within {seconds} s")


async def calls_at(house: House, count: int) -> None:
    """Return when so many calls have reached the provider."""

    async def reached() -> bool:
        return len(house.mock.truth.entries) >= count

    await until(reached, f"call {count} at the provider")


async def questions(
    client: KernelClient, agents: Set[str], seen: Set[str] = frozenset()
) -> list[ApprovalInfo]:
    """The open questions about held calls, once there is a new one of each of these agents."""

    async def asked() -> list[ApprovalInfo]:
        found = [each for each in await client.approvals() if each.approval not in seen]
        return found if {each.agent for each in found if each.held} == agents else []

    return await until(asked, "a question about a held call of every agent")


def stops(cli: Cli, ended: Ended, requests: int) -> None:
    """Assert that it was refused so many times, did not come again, and passed our message on."""
    refused = [call for call in ended.settled if call.outcome == "refused"]
    assert len(refused) == requests, ended.explain()
    assert len({call.model for call in refused}) == requests
    assert all(call.usage.total == 0 for call in refused)
    message = refused[-1].error
    assert message.startswith(f"budget agent-{ended.info.id}: this call needs up to ")
    assert f"agenttop: {message}" in ended.out + ended.err, ended.explain()
    assert bool(ended.info.exit_code) == cli.gives_up, ended.explain()
    assert ended.info.state == ("error" if cli.gives_up else "terminated")


@of_each(*CLIS)
async def test_a_cli_whose_budget_is_gone_stops_after_one_request_for_each_model(
    cli: Cli, search_path: str, home: Path, tmp_path: Path
) -> None:
    person = tmp_path / "person"
    async with open_house(home) as house:
        spec = cli.spec("say hi", person, budget="100 tokens deny")
        started = await house.start(spec, cli.environ(search_path, person))
        ended = await house.ended(started.id)
        stops(cli, ended, cli.models)
        assert len(ended.settled) == cli.models
        assert house.mock.truth.entries == []


@of_each(*CLIS)
async def test_a_cli_whose_budget_ends_between_two_calls_stops_at_the_second(
    cli: Cli, search_path: str, home: Path, tmp_path: Path
) -> None:
    person = tmp_path / "person"
    async with open_house(home, speed=1) as house:
        spec = cli.spec("say hi with a tool [[mock:output=60]]", person, budget="100M tokens deny")
        started = await house.start(spec, cli.environ(search_path, person))
        await calls_at(house, cli.models)
        budget = Budget(name=f"agent-{started.id}", scope="agent", target=started.id, tokens=1, action="deny")
        await house.client.set_budget(BudgetRequest(budget=budget))
        ended = await house.ended(started.id)
        stops(cli, ended, 1)
        agrees(house, ended, refused=1)
    assert len(ended.started) == cli.models


@of_each(CLAUDE)
async def test_a_held_claude_waits_goes_on_one_call_at_a_time_and_never_asks_twice(
    cli: Cli, search_path: str, home: Path, tmp_path: Path
) -> None:
    person = tmp_path / "person"
    async with open_house(home) as house:
        client, truth = house.client, house.mock.truth
        spec = cli.spec("say hi with a tool", person, budget="100 tokens ask")
        agent = (await house.start(spec, cli.environ(search_path, person))).id
        (first,) = await questions(client, {agent})
        assert (first.name, first.about, first.budget) == ("claude", "budget", f"agent-{agent}")
        assert first.left_tokens == 100
        (held,) = await client.model_calls(CallsRequest(held=True))
        assert (held.state, held.reason, held.call) == ("held", "budget", first.call)
        info = (await client.inspect(agent)).info
        assert (info.state, info.reason, info.held_calls) == ("waiting", "budget", 1)

        await anyio.sleep(first.since + HELD_SECONDS - time.time())
        assert truth.entries == []
        await client.answer(AnswerRequest(refs=[first.approval], answer="once"))
        (second,) = await questions(client, {agent}, {first.approval})
        assert second.call != first.call
        assert [entry.outcome for entry in truth.entries] == ["complete"], "one call, and no more"

        (outcome,) = await client.answer(
            AnswerRequest(refs=[second.approval], answer="extend", tokens=PLENTY)
        )
        assert outcome.error is None
        ended = await house.ended(agent)
        assert ended.info.exit_code == 0, ended.explain()
        agrees(house, ended)
        is_sane(ended, waited=True)
        assert await client.approvals() == []
    assert [call.call for call in ended.settled] == [first.call, second.call]
    assert [len(entry.tools) for entry in truth.entries] == [1, 0]
    assert ended.settled[0].queued_seconds >= HELD_SECONDS
    assert "api_retry" not in ended.out


async def test_every_cli_bears_what_is_sent_while_its_call_is_held(
    installed: Mapping[str, str], home: Path, tmp_path: Path
) -> None:
    clis = [cli for cli in CLIS if cli.program in installed]
    async with open_house(home) as house:
        client = house.client
        budget = Budget(name="fleet", tokens=100, action="ask")
        await client.set_budget(BudgetRequest(budget=budget))
        agents: dict[str, Cli] = {}
        booked: list[Usage] = []
        for cli in clis:
            person = tmp_path / cli.name
            spec = cli.spec("say hi [[mock:tools=none output=40]]", person)
            agents[(await house.start(spec, cli.environ(installed[cli.program], person))).id] = cli
        asked = await questions(client, set(agents))
        await anyio.sleep(max(each.since for each in asked) + HELD_SECONDS - time.time())
        assert house.mock.truth.entries == []
        await client.answer(AnswerRequest(refs=[asked[0].approval], answer="extend", tokens=PLENTY))
        for agent, cli in agents.items():
            ended = await house.ended(agent)
            assert ended.info.exit_code == 0, ended.explain()
            assert len(ended.settled) == cli.models, "it asked again"
            assert all(call.outcome == "ok" and call.exact for call in ended.settled)
            assert max(call.queued_seconds for call in ended.settled) >= HELD_SECONDS
            is_sane(ended, waited=True)
            booked += [call.usage for call in ended.settled]
        assert sorted(booked) == house.truth()
