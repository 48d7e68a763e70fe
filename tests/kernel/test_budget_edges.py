"""Money where things change under a call: other providers, other labels, other budgets, agents that go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from tests.support.desk import DeskRig, desk_rig

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.budget.prices import OwnPrice, Prices
from agenttop.core.budget.worst import WorstCase
from agenttop.core.gateway.desk import Refused
from agenttop.core.gateway.providers import Provider
from agenttop.core.journal import events as ev

from .test_budget_desk import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DeskRig]:
    async with desk_rig(tmp_path) as made:
        yield made


def spec(name: str, **fields: object) -> AgentSpec:
    return AgentSpec.model_validate({"name": name, "command": ["true"], **fields})


async def test_a_reservation_bounds_the_dearest_of_the_providers_a_call_may_fall_back_to() -> None:
    def provider(name: str, fallback: str | None = None) -> Provider:
        return Provider(name=name, protocol="anthropic", base_url="http://x", key_env="K", fallback=fallback)

    providers = {
        "home": provider("home", "spare"),
        "spare": provider("spare", "last"),
        "last": provider("last"),
    }
    prices = Prices(
        {
            "home/mock": OwnPrice(Decimal(1), Decimal(10), context_limit=200_000, max_output=5_000),
            "spare/mock": OwnPrice(Decimal(2), Decimal(20), context_limit=200_000, max_output=5_000),
            "last/mock": OwnPrice(Decimal(5), Decimal(50), context_limit=200_000, max_output=5_000),
        }
    )
    worst = WorstCase(prices, providers)
    await worst.ready()
    assert worst.of("a", "last", "mock", 1_000, 1_000).usd == 55_000_000
    assert worst.of("a", "home", "mock", 1_000, 1_000).usd == 55_000_000
    assert worst.of("a", "home", "mock", 1_000, 1_000, {"home", "spare"}).usd == 22_000_000
    assert worst.of("a", "home", "mock", 1_000, 1_000, {"home"}).usd == 11_000_000


async def test_a_pass_through_one_budget_is_none_through_another(rig: DeskRig) -> None:
    await rig.agents("a")
    await rig.budget(name="first", usd=Decimal("0.005"))
    await rig.budget(name="second", usd=Decimal("0.006"))
    through: list[ev.CallStarted] = []

    async def one() -> None:
        through.append(await rig.admit("a"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        for name in ("first", "second"):
            await until(
                lambda: [q.budget for q in rig.books.pending.approvals.values()] == [name],  # noqa: B023
                f"a question about {name}",
            )
            [question] = rig.books.pending.approvals
            assert not through
            await rig.books.commit(ev.ApprovalAnswered(agent="a", approval=question, answer="once"))
    assert len(through) == 1
    assert rig.books.pending.agents["a"].passes == []
    assert rig.account("first").reserved_usd == rig.account("second").reserved_usd == 11_000_000


async def test_a_pass_does_not_jump_the_line_of_a_budget_it_says_nothing_about(rig: DeskRig) -> None:
    await rig.agents("a", "b")
    await rig.budget(name="small", usd=Decimal("0.005"), scope="agent", target="a")
    await rig.budget(name="whole", usd=Decimal("0.015"))
    running = await rig.admit("b")
    went: list[ev.CallStarted] = []

    async def one() -> None:
        went.append(await rig.admit("a"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await until(lambda: rig.books.pending.approvals, "a question")
        [question] = rig.books.pending.approvals
        await rig.books.commit(ev.ApprovalAnswered(agent="a", approval=question, answer="once"))
        await until(lambda: "held back" in rig.held("a"), "the call in line")
        assert rig.account("whole").reserved_usd <= 15_000_000
        assert not went
        await rig.settle(running, ev.Usage(input=1))
    assert len(went) == 1


async def test_what_runs_is_held_back_in_the_budgets_that_a_changed_label_brings(rig: DeskRig) -> None:
    await rig.agents("a", "b", labels={"team": "old"})
    await rig.budget(name="new", usd=Decimal("0.015"), scope="label", target="team=new")
    await rig.budget(name="old", usd=Decimal("0.015"), scope="label", target="team=old")
    first = await rig.admit("a")
    assert rig.account("old").reserved_usd == 11_000_000
    went: list[ev.CallStarted] = []

    async def other() -> None:
        went.append(await rig.admit("b"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await until(lambda: "held back" in rig.held("b"), "b waiting for a")
        await rig.books.commit(ev.AgentChanged(agent="a", spec=spec("a", labels={"team": "new"}), by="ana"))
        await until(lambda: went, "b going on: nothing of its budget is held back any more")
    assert rig.account("old").reserved_usd == rig.account("new").reserved_usd == 11_000_000
    await rig.settle(first, ev.Usage(input=1_000, output=1_000))
    assert (rig.account("new").usd, rig.account("new").reserved_usd) == (11_000_000, 0)
    assert (rig.account("old").usd, rig.account("old").reserved_usd) == (0, 11_000_000)


async def test_the_last_call_of_a_removed_agent_leaves_no_account_of_it(rig: DeskRig) -> None:
    await rig.agents("a", "b")
    await rig.budget(usd=Decimal(1), window="task")
    call = await rig.admit("a")
    await rig.books.commit(ev.RunExited(agent="a", run=1, cause="killed"), ev.AgentRemoved(agent="a"))
    await rig.settle(call, ev.Usage(input=1_000, output=1_000))
    assert "a" not in rig.books.pending.budgets["cap"].accounts


async def test_a_no_about_one_budget_or_a_runaway_is_none_about_another_budget(rig: DeskRig) -> None:
    await rig.agents("a")
    await rig.budget(name="first", usd=Decimal("0.005"))
    refused: list[str] = []

    async def one() -> None:
        try:
            await rig.admit("a")
        except Refused as error:
            refused.append(error.message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await until(lambda: rig.books.pending.approvals, "a question")
        [question] = rig.books.pending.approvals
        await rig.books.commit(ev.ApprovalAnswered(agent="a", approval=question, answer="deny"))
    await rig.budget(name="first", usd=Decimal(1))
    await rig.budget(name="second", usd=Decimal("0.005"))
    asked = ev.ApprovalRequested(agent="a", approval="q1", call="c", about="runaway", question="?")
    await rig.books.commit(asked, ev.ApprovalAnswered(agent="a", approval="q1", answer="deny"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await until(lambda: rig.books.pending.approvals, "a question about the second budget")
        tasks.cancel_scope.cancel()
    assert len(refused) == 1


async def test_a_client_that_comes_again_after_a_no_is_not_a_new_breach(rig: DeskRig) -> None:
    await rig.agents("a")
    await rig.budget(usd=Decimal("0.005"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_refused, rig)
        await until(lambda: rig.books.pending.approvals, "a question")
        [question] = rig.books.pending.approvals
        await rig.books.commit(ev.ApprovalAnswered(agent="a", approval=question, answer="deny"))
    for _ in range(3):
        await _refused(rig)
    records = await rig.books.journal.read(0, 1_000, kinds=["BudgetBreached"])
    assert len(records) == 1


async def _refused(rig: DeskRig) -> None:
    with pytest.raises(Refused, match="a person refused"):
        await rig.admit("a")
