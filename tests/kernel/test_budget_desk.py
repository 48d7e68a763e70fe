"""Budgets at the gateway's desk: reserved before, settled after, never overrun."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from tests.support.desk import DeskRig, desk_rig

from agenttop.core.agents.states import Pause
from agenttop.core.budget.amount import NANOS
from agenttop.core.clock import ManualClock, SystemClock
from agenttop.core.gateway.desk import Refused
from agenttop.core.journal import events as ev
from agenttop.core.journal import fold

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DeskRig]:
    async with desk_rig(tmp_path) as made:
        yield made


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something in the pending books."""
    with anyio.move_on_after(10):
        while not condition():
            await anyio.sleep(0.002)
        return
    pytest.fail(f"{what} did not come true")


async def test_fifty_agents_racing_for_a_dollar_spend_it_but_for_one_call_and_never_more(
    rig: DeskRig,
) -> None:
    names = [f"a{i}" for i in range(50)]
    await rig.agents(*names)
    await rig.budget(usd=Decimal(1), action="deny")
    dice = random.Random(7)
    most = 0
    refusals: list[tuple[str, bool]] = []

    async def race(agent: str) -> None:
        nonlocal most
        while True:
            try:
                call = await rig.admit(agent, bytes=1_000, output=4_900)  # at most $0.05
            except Refused as refused:
                refusals.append((refused.kind, "of $1.00 left" in refused.message))
                return
            account = rig.account()
            most = max(most, account.usd + account.reserved_usd)
            assert most <= NANOS
            await anyio.lowlevel.checkpoint()
            used = dice.choice([0.2, 1.0, 1.0])
            await rig.settle(call, ev.Usage(input=int(1_000 * used), output=int(4_900 * used)))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for agent in names:
                tasks.start_soon(race, agent)
    account = rig.account()
    spent = round(sum(agent.total.cost for agent in rig.books.committed.agents.values()), 9)
    assert refusals == [("budget", True)] * 50
    assert account.reserved_usd == account.reserved_tokens == 0
    assert account.usd == round(spent * NANOS)
    assert 0.95 <= spent <= 1.0
    assert most > 0.95 * NANOS


async def test_two_thousand_agents_on_one_last_dollar_never_overspend_and_wake_in_order(
    rig: DeskRig,
) -> None:
    names = [f"a{i:04}" for i in range(2_000)]
    await rig.agents(*names)
    await rig.budget(usd=Decimal(1))
    order: list[str] = []

    async def one(agent: str) -> None:
        call = await rig.admit(agent, bytes=1_000, output=4_900)
        order.append(agent)
        await anyio.lowlevel.checkpoint()
        await rig.settle(call, ev.Usage(input=500, output=150))  # $0.002 of $0.05

    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:
            for agent in names:
                tasks.start_soon(one, agent)
            await until(
                lambda: len(rig.books.pending.approvals) + len(order) == 2_000, "everybody through or asking"
            )
            await until(lambda: not rig.account().reserved_usd, "nothing running")
            assert not rig.desk.admission._lines
            tasks.cancel_scope.cancel()
    assert order == sorted(order)
    assert 0.95 * NANOS < rig.account().usd <= NANOS


async def test_a_call_waits_for_others_to_settle_and_what_they_did_not_use_comes_back(rig: DeskRig) -> None:
    await rig.agents("a", "b")
    await rig.budget(usd=Decimal("0.012"))
    first = await rig.admit("a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.admit, "b")
        await until(lambda: "held back" in rig.held("b"), "b waiting")
        assert not rig.books.pending.approvals
        await rig.settle(first, ev.Usage(input=900))
    assert rig.held("b") == ""
    assert rig.account().usd == 900_000
    assert rig.account().reserved_usd == 11_000_000


async def test_a_budget_on_an_agent_covers_its_whole_subtree_beyond_a_removed_member(rig: DeskRig) -> None:
    await rig.agents("root")
    await rig.agents("child", parent="root")
    await rig.agents("grandchild", parent="child")
    await rig.agents("stranger")
    await rig.budget(usd=Decimal("0.012"), scope="agent", target="root", action="deny")
    await rig.books.commit(ev.RunExited(agent="child", run=1, code=0), ev.AgentRemoved(agent="child"))
    call = await rig.admit("grandchild")
    await rig.settle(call, ev.Usage(input=1_000, output=1_000))
    for agent in ("root", "grandchild"):
        with pytest.raises(Refused, match="cap"):
            await rig.admit(agent)
    await rig.admit("stranger")


async def test_an_answer_of_once_lets_exactly_one_call_through(rig: DeskRig) -> None:
    await rig.agents("a")
    await rig.budget(usd=Decimal("0.001"))
    through: list[ev.CallStarted] = []

    async def one() -> None:
        through.append(await rig.admit("a"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)
        await until(lambda: len(rig.desk.admission._by_agent.get("a", ())) == 2, "both waiting")
        (approval,) = rig.books.pending.approvals.values()
        assert approval.needed_usd == 0.011
        assert approval.left_usd == 0.001
        await rig.books.commit(ev.ApprovalAnswered(agent="a", approval=approval.id, answer="once"))
        await until(lambda: through, "one through")
        await until(lambda: rig.books.pending.approvals, "the other asking anew")
        assert len(through) == 1
        assert not rig.books.pending.agents["a"].passes
        tasks.cancel_scope.cancel()
    records = await rig.books.journal.read(0, 1_000, kinds=["CallStarted"])
    (started,) = [record.event() for record in records]
    assert isinstance(started, ev.CallStarted)
    assert started.approval == approval.id


async def test_a_pass_waits_for_the_next_call_of_a_client_that_gave_up(rig: DeskRig) -> None:
    await rig.agents("a")
    await rig.budget(usd=Decimal("0.001"))
    with anyio.move_on_after(0.2):
        await rig.admit("a")
    (approval,) = rig.books.pending.approvals.values()
    assert not rig.desk.admission.waits(approval)
    await rig.books.commit(ev.ApprovalAnswered(agent="a", approval=approval.id, answer="once"))
    with anyio.fail_after(5):
        await rig.admit("a")
    assert not rig.books.pending.passes


async def test_a_refused_answer_ends_all_calls_that_asked(rig: DeskRig) -> None:
    await rig.agents("a")
    await rig.budget(usd=Decimal("0.001"))
    refused: list[str] = []

    async def one() -> None:
        try:
            await rig.admit("a")
        except Refused as error:
            refused.append(error.kind)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            tasks.start_soon(one)
            await until(lambda: len(rig.desk.admission._by_agent.get("a", ())) == 2, "both waiting")
            (approval,) = rig.books.pending.approvals
            await rig.books.commit(ev.ApprovalAnswered(agent="a", approval=approval, answer="deny"))
        await one()  # a client that comes again at once is not a new question
        assert not rig.books.pending.approvals
    assert refused == ["budget", "budget", "budget"]


async def test_an_extension_lets_held_calls_go_in_order_and_withdraws_their_questions(rig: DeskRig) -> None:
    names = [f"a{i}" for i in range(5)]
    await rig.agents(*names)
    await rig.budget(usd=Decimal("0.001"))
    order: list[str] = []

    async def one(agent: str) -> None:
        await rig.admit(agent)
        order.append(agent)

    async with anyio.create_task_group() as tasks:
        for agent in names:
            tasks.start_soon(one, agent)
        await until(lambda: len(rig.books.pending.approvals) == 5, "five questions")
        await rig.books.commit(ev.BudgetExtended(name="cap", usd=0.033))
        await until(lambda: len(order) == 3, "three through")
        await until(lambda: not rig.books.pending.approvals, "the others waiting for those to settle")
        assert order == names[:3]
        tasks.cancel_scope.cancel()


async def test_a_budget_that_freezes_or_kills_has_it_done(rig: DeskRig) -> None:
    await rig.agents("cold", labels={"k": "cold"})
    await rig.agents("dead", labels={"k": "dead"})
    await rig.budget(name="f", usd=Decimal("0.001"), scope="label", target="k=cold", action="freeze")
    await rig.budget(name="k", usd=Decimal("0.001"), scope="label", target="k=dead", action="kill")
    with pytest.raises(Refused):
        await rig.admit("dead")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.admit, "cold")
        await until(lambda: len(rig.acting.done) == 2, "both done")
        assert set(rig.acting.done) == {("kill", "dead"), ("freeze", "cold")}
        assert "f: this call needs" in rig.held("cold")
        tasks.cancel_scope.cancel()


async def test_a_warning_comes_once_per_window(rig: DeskRig) -> None:
    await rig.agents("a")
    await rig.budget(usd=Decimal("1"), soft=0.01)
    for _ in range(3):
        await rig.settle(await rig.admit("a"), ev.Usage(output=1_000))
    warned = await rig.books.journal.read(0, 1_000, kinds=["BudgetWarned"])
    assert len(warned) == 1


async def test_unpriced_calls_count_tokens_and_pass_a_budget_in_dollars(rig: DeskRig) -> None:
    await rig.agents("a")
    await rig.budget(usd=Decimal("0.001"), tokens=5_000, action="deny")
    call = await rig.admit("a", model="nobody-knows-it")
    await rig.settle(call, ev.Usage(input=1_000, output=1_000))
    assert (rig.account().usd, rig.account().tokens, rig.account().unpriced) == (0, 2_000, 1)
    with pytest.raises(Refused, match="tokens"):
        await rig.admit("a", output=4_000, model="nobody-knows-it")


async def test_unpriced_calls_can_be_refused(tmp_path: Path) -> None:
    async with desk_rig(tmp_path, unpriced="deny") as rig:
        await rig.agents("a")
        await rig.budget(usd=Decimal(1))
        with pytest.raises(Refused, match="no price is known"):
            await rig.admit("a", model="nobody-knows-it")
        await rig.admit("a")


async def test_a_held_agent_does_not_take_its_turn_with_the_money(rig: DeskRig) -> None:
    await rig.agents("a", "b")
    await rig.budget(usd=Decimal("0.012"))
    first = await rig.admit("a")
    admitted: list[str] = []

    async def one(agent: str) -> None:
        await rig.admit(agent)
        admitted.append(agent)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "b")
        await until(lambda: rig.held("b"), "b waiting")
        await rig.books.commit(ev.AgentPaused(agent="b", how="hold"), ev.FleetHalted())
        await rig.settle(first, ev.Usage(input=1))
        await until(lambda: rig.held("b") == "halted", "b held")
        await rig.books.commit(ev.FleetUnhalted())
        await anyio.lowlevel.checkpoint()
        assert not admitted
        await rig.books.commit(ev.AgentResumed(agent="b"))
    assert admitted == ["b"]


async def test_a_crash_in_the_middle_gives_its_reservation_back_and_a_refold_is_the_same(
    tmp_path: Path,
) -> None:
    async with desk_rig(tmp_path) as rig:
        await rig.agents("a")
        await rig.budget(usd=Decimal(1))
        call = await rig.admit("a")
        rig.desk.progressed(
            ev.CallProgressed(agent="a", call=call.call, usage=ev.Usage(input=1_000, output=10))
        )
        await rig.books.commit(ev.KernelStopped())
        before = fold.dump(rig.books.committed)
    async with desk_rig(tmp_path) as rig:
        assert fold.dump(rig.books.committed) == before
        assert rig.account().reserved_usd == 11_000_000
        assert await rig.desk.settle_crashed() == 1
        assert rig.account().reserved_usd == 0
        assert rig.account().tokens == 1_010


class BeforeTheHour(SystemClock):
    """The machine's clock, moved so that an hour ends soon after it was made."""

    def __init__(self, seconds: float) -> None:
        now = super().time()
        self._shift = 3_600 - (now + seconds) % 3_600

    def time(self) -> float:
        return super().time() + self._shift


async def test_held_calls_go_on_and_questions_are_withdrawn_when_the_window_ends(tmp_path: Path) -> None:
    async with desk_rig(tmp_path, BeforeTheHour(0.8)) as rig:
        await rig.agents("a", "b")
        await rig.budget(usd=Decimal("0.022"), window="hour")
        await rig.settle(await rig.admit("a"), ev.Usage(output=2_000))
        with anyio.move_on_after(0.1):
            await rig.admit("b")  # its client gives up
        with anyio.fail_after(10):
            await rig.admit("a")
            await until(lambda: not rig.books.pending.approvals, "both questions withdrawn")
            await until(lambda: ("resume", "b") in rig.acting.done, "the other's conversation going on")
        state = rig.books.pending.budgets["cap"]
        assert state.spent(rig.account(), rig.clock.time()).usd == 0


async def test_a_call_that_never_fits_is_looked_at_again_once_a_window(tmp_path: Path) -> None:
    async with desk_rig(tmp_path, BeforeTheHour(0.2)) as rig:
        await rig.agents("a", "b")
        await rig.budget(usd=Decimal("0.001"), window="hour")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rig.admit, "a")
            await until(lambda: rig.books.pending.approvals, "a question")
            end = rig.account().end
            await until(lambda: rig.clock.time() > end + 0.05, "the hour's end")
            due = rig.desk.admission.due()
            assert due == end + 3_600
            assert len(rig.books.pending.approvals) == 1, "it asks still, and once"
            tasks.cancel_scope.cancel()


async def test_a_question_is_withdrawn_by_the_next_kernel_if_its_window_ended_meanwhile(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with desk_rig(tmp_path, clock) as rig:
        await rig.agents("a")
        await rig.budget(usd=Decimal("0.012"), window="day", rolling=True)
        await rig.settle(await rig.admit("a"), ev.Usage(output=1_000))
        with anyio.move_on_after(0.1):
            await rig.admit("a")
        assert len(rig.books.pending.approvals) == 1
    clock.advance(90_000)
    async with desk_rig(tmp_path, clock) as rig:
        await until(lambda: ("resume", "a") in rig.acting.done, "the conversation going on")
        assert not rig.books.pending.approvals


async def test_questions_of_clients_that_gave_up_are_withdrawn_when_the_limit_moves(rig: DeskRig) -> None:
    await rig.agents("a", "b")
    await rig.budget(usd=Decimal("0.001"))
    for agent in ("a", "b", "b"):
        with anyio.move_on_after(0.1):
            await rig.admit(agent)
    assert [question.agent for question in rig.books.pending.approvals.values()] == ["a", "b"]
    breaches = await rig.books.journal.read(0, 1_000, kinds=["BudgetBreached"])
    assert len(breaches) == 2, "coming again is no new breach"
    await rig.books.commit(ev.BudgetExtended(name="cap", usd=0.02))
    await until(lambda: not rig.books.pending.approvals, "the questions withdrawn")
    await until(lambda: rig.acting.done, "conversations going on")


async def test_a_settlement_in_the_next_window_counts_there(tmp_path: Path) -> None:
    async with desk_rig(tmp_path, BeforeTheHour(0.3)) as rig:
        await rig.agents("a")
        await rig.budget(usd=Decimal(1), window="hour")
        early, late = await rig.admit("a"), await rig.admit("a")
        await rig.settle(early, ev.Usage(output=100))
        end = rig.account().end
        await until(lambda: rig.clock.time() > end, "the hour's end")
        await rig.settle(late, ev.Usage(output=200))
        assert (rig.account().usd, rig.account().reserved_usd) == (2_000_000, 0)


async def test_policy_refuses_models_and_providers_that_are_not_allowed(rig: DeskRig) -> None:
    await rig.agents("a", models=["moc*"])
    await rig.agents("b", providers=["openai"])
    await rig.admit("a")
    for agent, model in (("a", "other"), ("a", None), ("b", "mock")):
        with pytest.raises(Refused) as refused:
            await rig.admit(agent, model=model)
        assert refused.value.kind == "policy"


@pytest.mark.parametrize("stop", ["hold", "halt"])
async def test_a_call_that_has_its_turn_is_recalled_by_a_hold_or_halt_until_its_first_byte(
    rig: DeskRig, stop: str
) -> None:
    await rig.agents("a")
    call = await rig.admit("a")
    assert await rig.desk.turn(call) == "anthropic"
    assert not rig.desk.recalled(call)
    hold = ev.AgentPaused(agent="a", how=Pause.HOLD)
    await rig.books.commit(hold if stop == "hold" else ev.FleetHalted())
    assert rig.desk.recalled(call)
    assert all(provider.running == 0 for provider in rig.desk.lanes.providers())
    went: list[str] = []

    async def again() -> None:
        went.append(await rig.desk.turn(call))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(again)
        await until(lambda: rig.held("a"), "the call held")
        assert not went
        resumed = ev.AgentResumed(agent="a") if stop == "hold" else ev.FleetUnhalted()
        await rig.books.commit(resumed)
    assert went == ["anthropic"]
    await rig.settle(call, ev.Usage(input=1))


async def test_a_crash_makes_no_estimate_of_a_call_that_was_never_admitted(tmp_path: Path) -> None:
    async with desk_rig(tmp_path) as rig:
        await rig.agents("a")
        running = await rig.admit("a")
        await rig.books.commit(ev.CallHeld(agent="a", call="held", reason=None))
        rig.desk._open.clear()  # as a new kernel finds it
        assert await rig.desk.settle_crashed() == 2
        assert running.call not in rig.books.committed.agents["a"].calls
        assert rig.books.committed.agents["a"].total.estimated == 1


async def test_what_is_not_metered_follows_the_policy_and_waits_while_the_fleet_is_halted(
    rig: DeskRig,
) -> None:
    await rig.agents("a", providers=["openai"])
    with pytest.raises(Refused, match="may not use the provider anthropic"):
        await rig.desk.let_pass("a", "anthropic")
    await rig.desk.let_pass("a", "openai")
    await rig.books.commit(ev.FleetHalted())
    passed = anyio.Event()

    async def one() -> None:
        await rig.desk.let_pass("a", "openai")
        passed.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        assert not passed.is_set()
        await rig.books.commit(ev.FleetUnhalted())
        with anyio.fail_after(5):
            await passed.wait()


async def test_a_provider_that_repeats_the_key_in_its_error_does_not_bring_it_into_the_journal(
    rig: DeskRig,
) -> None:
    await rig.agents("a")
    rig.desk._keys.supply("ANTHROPIC_API_KEY", "sk-live-0123456789")
    call = await rig.admit("a")
    said = "invalid x-api-key: sk-live-0123456789 is unknown"
    await rig.settle(call, ev.Usage(), outcome="error", status=401, error=said)
    [record] = await rig.books.journal.read(0, 1_000, kinds=["CallSettled"])
    assert b"sk-live" not in record.body
    assert b"invalid x-api-key: [key] is unknown" in record.body
