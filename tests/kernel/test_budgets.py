"""Budgets, answers, calls and usage in a real kernel, through its client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import (
    AnswerRequest,
    BudgetRequest,
    CallsRequest,
    ExtendRequest,
    FleetRequest,
    StopRequest,
    Target,
    UsageRequest,
)
from agenttop.core.budget.budget import Budget
from agenttop.core.client import KernelClient
from agenttop.core.errors import NoSuchAgent, UsageError
from agenttop.core.gateway.desk import Asking, Refused
from agenttop.core.journal import events as ev
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths

from .conftest import ENVIRON, KernelMaker, sh, until, until_state

pytestmark = pytest.mark.anyio

#: $1 a million tokens in, $10 out.
MODELS = '[models."mock"]\ninput = 1\noutput = 10\ncontext = 200_000\nmax_output = 5_000\n'


@pytest.fixture
def paths(paths: Paths) -> Paths:
    configured(paths)
    return paths


def configured(paths: Paths, more: str = "") -> None:
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text(more + MODELS)


class Caller:
    """Makes calls of an agent at the kernel's own desk, as its gateway does; nothing is forwarded."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._calls = 0

    def started(self, agent: str) -> ev.CallStarted:
        self._calls += 1
        return ev.CallStarted(
            agent=agent,
            call=f"{agent}-{self._calls}",
            run=1,
            provider="anthropic",
            protocol="anthropic",
            model="mock",
        )

    async def admit(self, agent: str, output: int = 1_000) -> ev.CallStarted:
        """By default it needs up to $0.011."""
        call = self.started(agent)
        await self._kernel.desk.admit(call, Asking(1_000, output))
        return call

    async def settle(self, call: ev.CallStarted, output: int = 1_000) -> None:
        usage = ev.Usage(output=output)
        await self._kernel.desk.settle(
            ev.CallSettled(
                agent=call.agent,
                call=call.call,
                run=1,
                provider="anthropic",
                model="mock",
                usage=usage,
                cost_usd=output / 100_000,
            )
        )

    async def spend(self, agent: str, output: int = 1_000) -> None:
        """By default $0.01."""
        await self.settle(await self.admit(agent, output), output)

    @asynccontextmanager
    async def asking(self, agent: str) -> AsyncIterator[Callable[[], str]]:
        """A call that waits in the background; tells how it ended."""
        ended = ""

        async def ask() -> None:
            nonlocal ended
            try:
                await self.admit(agent)
            except Refused as refused:
                ended = refused.kind
            else:
                ended = "through"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            yield lambda: ended
            tasks.cancel_scope.cancel()


async def agent(client: KernelClient, name: str = "hello", **spec: Any) -> str:
    return (await client.run(sh("sleep 600", name, **spec))).id


async def one_budget(client: KernelClient, name: str) -> Any:
    return next(info for info in await client.budgets() if info.budget.name == name)


async def test_a_budget_made_at_noon_knows_the_morning_and_covers_children(
    kernel: Kernel, client: KernelClient
) -> None:
    caller = Caller(kernel)
    root = await agent(client, "root")
    child = await agent(client, "child", parent="root", labels={"team": "api"})
    other = await agent(client, "other")
    for spender in (root, child, child, other):
        await caller.spend(spender)
    made = {}
    for name, fields in {
        "tree": {"scope": "agent", "target": "root", "window": "day"},
        "fleet": {},
        "team": {"scope": "label", "target": "team=api", "window": "hour", "rolling": True},
        "task": {"scope": "agent", "target": "child", "window": "task"},
    }.items():
        budget = Budget(**{"name": name, "usd": Decimal(1), **fields})
        made[name] = await client.set_budget(BudgetRequest(budget=budget))
    spent = {name: (round(info.spent_usd, 6), info.spent_tokens) for name, info in made.items()}
    assert spent == {
        "tree": (0.03, 3_000),
        "fleet": (0.04, 4_000),
        "team": (0.02, 2_000),
        "task": (0.02, 2_000),
    }
    assert made["tree"].target_name == "root"
    assert set(made["tree"].agents) == {root, child}
    assert made["tree"].next_agent == child
    assert made["tree"].window_end is not None
    assert made["tree"].budget.zone or made["tree"].window_end % 86_400 == 0
    await caller.spend(child)
    assert (await one_budget(client, "tree")).spent_usd == pytest.approx(0.04)


async def test_calls_that_end_while_the_past_is_read_are_counted_once(
    kernel: Kernel, client: KernelClient
) -> None:
    caller = Caller(kernel)
    hello = await agent(client)
    made: list[Any] = []

    async def budgets() -> None:
        for number in range(20):
            budget = Budget(name=f"b{number}", usd=Decimal(100))
            made.append(await client.set_budget(BudgetRequest(budget=budget)))

    async def spend() -> None:
        for _ in range(40):
            await caller.spend(hello)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(budgets)
        tasks.start_soon(spend)
        tasks.start_soon(spend)
    assert {round(info.spent_usd, 6) for info in await client.budgets()} == {0.8}
    assert len({info.spent_usd for info in made}) > 1, "they were made while calls ended"


async def test_a_spec_brings_its_budget_and_a_change_of_it_keeps_what_was_spent(
    kernel: Kernel, client: KernelClient, tmp_path: Path
) -> None:
    caller = Caller(kernel)

    def fleet(limit: str | None) -> FleetRequest:
        budget = {} if limit is None else {"budget": limit}
        spec = AgentSpec(name="hello", command=["/bin/sleep", "600"], cwd="/tmp", **budget)
        return FleetRequest(fleet=str(tmp_path / "fleet.toml"), specs=[spec], environ=ENVIRON)

    await client.up(fleet("$1"))
    hello = (await client.inspect("hello")).info.id
    await caller.spend(hello)
    (info,) = await client.budgets()
    assert (info.budget.scope, info.budget.target, info.source) == ("agent", hello, "spec")
    await client.up(fleet("$2"))
    (info,) = await client.budgets()
    assert (info.limit_usd, info.spent_usd) == (2.0, 0.01)
    await client.up(fleet("$2/day deny"))

    async def known() -> bool:
        (info,) = await client.budgets()
        return bool(info.budget.window == "day" and info.spent_usd == 0.01)

    await until(known, "the day's spending being known")
    extended = await client.extend_budget(ExtendRequest(name="hello", usd=1))
    assert extended.limit_usd == 3.0
    await client.up(fleet(None))
    assert await client.budgets() == []
    assert (await client.inspect("hello")).info.run == 1, "none of this restarted it"


async def test_a_budget_goes_with_its_agent(client: KernelClient) -> None:
    await agent(client, budget="$1")
    assert len(await client.budgets()) == 1
    await client.stop(StopRequest(refs=["hello"], how="kill"))
    await client.prune()
    assert await client.budgets() == []


async def test_the_configurations_budgets_come_and_go_with_it(kernels: KernelMaker, paths: Paths) -> None:
    configured(paths, '[budgets]\nunpriced = "deny"\nall = "$5/day"\n[budgets.one]\nlimit = "9k tokens"\n'
               'scope = "agent"\ntarget = "hello"\n')  # fmt: skip
    async with kernels(leave=True) as kernel:
        client = kernel.client("ana")
        (info,) = await client.budgets()
        assert (info.budget.name, info.source, info.limit_usd) == ("all", "config", 5.0)
        assert kernel.desk.admission.unpriced == "deny"
        hello = await agent(client)
        one = await one_budget(client, "one")
        assert (one.budget.target, one.limit_tokens, one.target_name) == (hello, 9_000, "hello")
        await Caller(kernel).spend(hello)
        await client.extend_budget(ExtendRequest(name="all", usd=2))
    async with kernels(leave=True) as kernel:
        info = await one_budget(kernel.client(), "all")
        assert (info.limit_usd, info.spent_usd) == (7.0, 0.01), "unchanged, it keeps its extension"
    configured(paths, '[budgets]\nall = "$6/day"\n')
    async with kernels() as kernel:
        (info,) = await kernel.client().budgets()
        assert (info.limit_usd, info.spent_usd) == (6.0, 0.01)


async def test_a_fleet_files_budgets_cover_its_agents_and_leave_with_it(
    kernel: Kernel, client: KernelClient, tmp_path: Path
) -> None:
    from agenttop.core import fleetfile

    file = tmp_path / "a,b fleet.toml"
    file.write_text(
        '[budgets]\nnight = "$2"\n[budgets.api]\nlimit = "$1 deny"\nscope = "agent"\ntarget = "api"\n'
        '[agents.api]\ncommand = "sleep 600"\n[agents.web]\ncommand = "sleep 600"\n'
    )
    fleet = fleetfile.load(file)
    await agent(client, "stranger")
    request = FleetRequest(fleet=str(fleet.path), specs=fleet.specs, environ=ENVIRON, budgets=fleet.budgets)
    await client.up(request)
    api, web = [(await client.inspect(name)).info.id for name in ("api", "web")]
    assert set((await one_budget(client, "night")).agents) == {api, web}
    assert (await one_budget(client, "api")).agents == [api]
    assert (await one_budget(client, "api")).parent is None
    with pytest.raises(UsageError, match="exists already"):
        await client.up(request.model_copy(update={"fleet": "/other.toml"}))
    await client.down(str(fleet.path))
    assert await client.budgets() == []


async def test_a_question_is_asked_answered_and_seen_by_everybody(
    kernel: Kernel, client: KernelClient
) -> None:
    caller = Caller(kernel)
    hello = await agent(client, budget="$0.001")
    async with caller.asking(hello) as ended:
        (question,) = await until(client.approvals, "a question")
        assert (question.name, question.about, question.held) == ("hello", "budget", True)
        assert (question.needed_usd, question.left_usd) == (0.011, 0.001)
        assert (question.model, question.provider) == ("mock", "anthropic")
        info = await until_state(client, "hello", "waiting")
        assert info.reason == "budget"
        (call,) = await client.model_calls(CallsRequest(held=True))
        assert (call.state, call.reason, call.model, call.name) == ("held", "budget", "mock", "hello")
        row = kernel.feed.row(hello, "run", kernel.clock.time())
        assert row is not None
        assert (row.needs, row.budget) == (True, 0)
        assert kernel.feed.header("run").approvals == 1
        (budget,) = await client.budgets()
        assert budget.held == 1
        wrong = await client.answer(AnswerRequest(refs=["hello", "nobody"], answer="allow"))
        assert [bool(outcome.error) for outcome in wrong] == [True, True]
        (outcome,) = await client.answer(AnswerRequest(refs=[question.approval], answer="extend", usd=0.02))
        assert outcome.done == f"agent-{hello} extended by $0.02"
        await until(lambda: _said(ended), "the call going on")
        assert ended() == "through"
    assert await client.approvals() == []
    (outcome,) = await client.answer(AnswerRequest(refs=["hello"]))
    assert outcome.error is not None
    assert outcome.exit_code == 1


async def _said(ended: Callable[[], str]) -> str:
    return ended()


@pytest.mark.parametrize(("answer", "end"), [("once", "through"), ("deny", "budget"), ("kill", "ended")])
async def test_answers_do_what_they_say(kernel: Kernel, client: KernelClient, answer: Any, end: str) -> None:
    caller = Caller(kernel)
    hello = await agent(client, budget="$0.001")
    async with caller.asking(hello) as ended:
        await until(client.approvals, "a question")
        await client.answer(AnswerRequest(all=True, answer=answer))
        assert await until(lambda: _said(ended), "the call ending") == end
    assert await client.approvals() == []
    if answer == "kill":
        await until_state(client, "hello", "terminated")


async def test_a_budget_that_freezes_lets_go_what_it_froze_when_it_is_extended(
    kernel: Kernel, client: KernelClient
) -> None:
    caller = Caller(kernel)
    hello = await agent(client, budget="$0.001 freeze")
    async with caller.asking(hello) as ended:
        await until_state(client, "hello", "paused")
        await client.extend_budget(ExtendRequest(name="hello", usd=1))
        assert await until(lambda: _said(ended), "the call going on") == "through"
        info = await until_state(client, "hello", "planning", "executing")
        assert info.frozen is None


async def test_a_runaway_is_held_and_asked_about(kernels: KernelMaker, paths: Paths) -> None:
    configured(paths, "[runaway]\nidentical = 2\n")
    async with kernels() as kernel:
        client = kernel.client("ana")
        hello = await agent(client)
        caller = Caller(kernel)

        async def same(limit: float = 10.0) -> bool:
            call = caller.started(hello)
            with anyio.move_on_after(limit):
                await kernel.desk.admit(call, Asking(1_000, 10, fingerprint=7))
                await caller.settle(call, 10)
                return True
            return False

        assert await same()
        assert await same()
        assert not await same(0.3)
        (question,) = await client.approvals()
        assert (question.about, question.held) == ("runaway", False)
        assert "same request" in question.question
        await client.answer(AnswerRequest(refs=["hello"], answer="once"))
        assert await same(), "the pass waited"
        assert not await same(0.3)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(same)
            await until(lambda: _held(client), "a held call")
            await client.answer(AnswerRequest(refs=["hello"], answer="allow"))
        assert await same()


async def _held(client: KernelClient) -> bool:
    return bool(await client.model_calls(CallsRequest(held=True)))


async def test_usage_sums_by_any_keys_and_calls_are_listed_one_by_one(
    kernel: Kernel, client: KernelClient
) -> None:
    caller = Caller(kernel)
    one = await agent(client, "one", labels={"team": "api"})
    two = await agent(client, "two", labels={"team": "web"})
    for spender in (one, one, two):
        await caller.spend(spender)
    running = await caller.admit(one)
    rows = await client.usage(UsageRequest(by=["label", "agent", "model"], label="team"))
    assert [(row.keys, row.calls, row.cost_usd) for row in rows] == [
        (["api", "one", "mock"], 2, 0.02),
        (["web", "two", "mock"], 1, 0.01),
    ]
    (row,) = await client.usage(UsageRequest(by=["provider"], refs=["one"]))
    assert (row.keys, row.output, row.exact, row.unpriced) == (["anthropic"], 2_000, True, 0)
    for key in ("second", "minute", "hour", "day", "run", "task"):
        assert sum(row.calls for row in await client.usage(UsageRequest(by=[key]))) == 3
    assert await client.usage(UsageRequest(since=kernel.clock.time() + 1)) == []
    calls = await client.model_calls(CallsRequest(refs=["one"]))
    assert [call.state for call in calls] == ["settled", "settled", "running"]
    assert calls[-1].call == running.call
    assert calls[-1].reserved_usd == 0.011
    assert len(await client.model_calls(CallsRequest(limit=2))) == 2
    await client.stop(StopRequest(all=True, how="kill"))
    await client.prune()
    names = {row.keys[0] for row in await client.usage(UsageRequest())}
    assert names == {"one", "two"}, "removed agents keep their names in history"


async def test_wrong_requests_say_what_is_wrong(client: KernelClient) -> None:
    budget = Budget(name="x", usd=Decimal(1), scope="agent", target="nobody")
    with pytest.raises(NoSuchAgent):
        await client.set_budget(BudgetRequest(budget=budget))
    with pytest.raises(UsageError, match="no budget"):
        await client.extend_budget(ExtendRequest(name="nobody", usd=1))
    with pytest.raises(UsageError, match="no budget"):
        await client.remove_budget("nobody")
    await client.set_budget(BudgetRequest(budget=Budget(name="x", usd=Decimal(1))))
    with pytest.raises(UsageError, match="no limit on tokens"):
        await client.extend_budget(ExtendRequest(name="x", tokens=1))
    with pytest.raises(UsageError, match="nothing"):
        await client.extend_budget(ExtendRequest(name="x"))
    await client.remove_budget("x")
    assert await client.budgets() == []


async def test_the_kill_switch_keeps_every_call(kernel: Kernel, client: KernelClient) -> None:
    hello = await agent(client)
    await client.halt()
    assert kernel.feed.header("run").halted
    async with Caller(kernel).asking(hello) as ended:
        await until(lambda: _held(client), "a held call")
        assert not ended()
        await client.unhalt()
        assert await until(lambda: _said(ended), "the call going on") == "through"
    await client.resume(Target(refs=["hello"]))
