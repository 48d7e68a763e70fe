"""Providers whose clients bring their own credentials: what one account used up is no other account's."""

from __future__ import annotations

import anyio
import pytest

from agenttop.core.gateway.lanes import lanes as module
from agenttop.core.gateway.providers import CallLimits

from ..support.lanes_stage import Stage, provider

pytestmark = pytest.mark.anyio

OWN = provider(auth="passthrough", key_env=None)
REJECTED = {"retry-after": "3600"}


async def test_one_accounts_429_closes_its_own_lane_and_no_others(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, OWN)
    mine = stage.ask("a", account="one")
    await stage.settled()
    assert stage.answer(mine, 429, REJECTED) == "again"
    same, other = stage.ask("b", account="one"), stage.ask("c", account="two")
    await stage.settled()
    assert same.provider is None
    assert same.why.startswith("anthropic until ")
    assert other.provider == "anthropic"
    assert stage.answer(other) == "pass"
    [info] = stage.lanes.providers()
    assert (info.running, info.waiting) == (1, 1)
    await stage.pass_time(3601)
    assert same.provider == "anthropic"


async def test_limits_from_the_configuration_are_the_providers_whoever_calls(
    tasks: anyio.abc.TaskGroup,
) -> None:
    limited = provider(auth="passthrough", key_env=None, limits=CallLimits(concurrency=1))
    stage = Stage(tasks, limited)
    first, second = stage.ask("a", account="one"), stage.ask("b", account="two")
    await stage.settled()
    assert (first.provider, second.provider) == ("anthropic", None)


async def test_a_provider_that_is_down_is_tried_once_for_all_accounts(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, OWN)
    for _ in range(5):
        failed = stage.ask("a", account="one")
        await stage.settled()
        stage.answer(failed, 500)
        stage.lanes.leave(failed.call, 0)
    assert [state for _, state, _ in stage.moves] == ["open"]
    waiting = [stage.ask(f"b{number}", account=f"n{number}") for number in range(4)]
    await stage.settled()
    assert all(one.provider is None for one in waiting)
    await stage.pass_time(5.1)
    [probe] = [one for one in waiting if one.provider is not None]
    stage.answer(probe)
    await stage.settled()
    assert [state for _, state, _ in stage.moves] == ["open", "half-open", "closed"]
    assert all(one.provider is not None for one in waiting)


async def test_accounts_that_are_not_used_are_forgotten(
    tasks: anyio.abc.TaskGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACCOUNTS", 8)
    stage = Stage(tasks, OWN)
    for number in range(50):
        one = stage.ask("a", account=f"n{number}")
        await stage.settled()
        assert stage.answer(one) == "pass"
        stage.lanes.leave(one.call, 10)
    assert len(stage.lanes._accounts) <= 8
    busy = [stage.ask("a", account=f"m{number}") for number in range(20)]
    await stage.settled()
    assert len(stage.lanes._accounts) <= 8
    for one in busy:
        stage.lanes.leave(one.call, 10)
