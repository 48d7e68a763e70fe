"""The fold of money: any order of calls, windows and changes keeps the books straight."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agenttop.core.agents.agent import Fleet
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.budget.amount import dollars, nanos
from agenttop.core.budget.budget import Budget
from agenttop.core.budget.verdict import shortages
from agenttop.core.budget.worst import Need
from agenttop.core.journal import books, fold
from agenttop.core.journal import events as ev


class Folding:
    """A fleet and the events it was made of."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.seq = 0
        self.ts = 1_000_000.0
        self.calls = 0

    def apply(self, *events: ev.Event) -> None:
        for event in events:
            self.seq += 1
            fold.apply(self.fleet, self.seq, event, self.ts)

    def agent(self, name: str, **spec: Any) -> None:
        self.apply(
            ev.AgentCreated(agent=name, spec=AgentSpec(name=name, command=["x"], **spec), owner="ana"),
            ev.RunStarting(agent=name, run=1),
        )

    def budget(self, name: str, **fields: Any) -> None:
        opening = fields.pop("opening", [])
        self.apply(ev.BudgetSet(budget=Budget(**{"name": name, **fields}), opening=opening))

    def start(self, agent: str, usd: float | None, tokens: int = 0, approval: str | None = None) -> str:
        self.calls += 1
        call = f"c{self.calls}"
        self.apply(
            ev.CallStarted(
                agent=agent,
                call=call,
                run=1,
                provider="p",
                protocol="anthropic",
                reserved_usd=usd,
                reserved_tokens=tokens,
                approval=approval,
            )
        )
        return call

    def settle(self, agent: str, call: str, usd: float | None, tokens: int = 0, exact: bool = True) -> None:
        self.apply(
            ev.CallSettled(
                agent=agent,
                call=call,
                run=1,
                provider="p",
                usage=ev.Usage(output=tokens),
                cost_usd=usd,
                exact=exact,
            )
        )

    def spent(self, name: str, key: str = "") -> tuple[float, int]:
        state = self.fleet.budgets[name]
        found = state.spent(state.accounts[key], self.ts)
        return dollars(found.usd), found.tokens

    def reserved(self, name: str, key: str = "") -> float:
        return dollars(self.fleet.budgets[name].accounts[key].reserved_usd)


def family() -> Folding:
    folding = Folding()
    folding.agent("root", template="claude")
    folding.agent("child", parent="root", labels={"team": "api"})
    folding.agent("grandchild", parent="child", labels={"team": "api", "tier": "2"})
    folding.agent("other", template="codex")
    return folding


def test_every_scope_covers_whom_it_says() -> None:
    folding = family()
    for name, fields in {
        "all": {},
        "tree": {"scope": "agent", "target": "root"},
        "sub": {"scope": "agent", "target": "child"},
        "claude": {"scope": "template", "target": "claude"},
        "team": {"scope": "label", "target": "team=api, tier=2"},
        "ana": {"scope": "owner", "target": "ana"},
        "bob": {"scope": "owner", "target": "bob"},
    }.items():
        folding.budget(name, usd=Decimal(9), **fields)
    cover = {agent: set(folding.fleet.cover.of(folding.fleet, agent)) for agent in folding.fleet.agents}
    assert cover == {
        "root": {"all", "ana", "tree", "claude"},
        "child": {"all", "ana", "tree", "sub"},
        "grandchild": {"all", "ana", "tree", "sub", "team"},
        "other": {"all", "ana"},
    }


def test_a_call_of_an_agent_that_is_removed_meanwhile_still_counts() -> None:
    folding = family()
    folding.budget("tree", usd=Decimal(9), scope="agent", target="root")
    call = folding.start("grandchild", 2.0, 10)
    assert folding.reserved("tree") == 2.0
    folding.apply(ev.AgentRemoved(agent="grandchild"))
    folding.settle("grandchild", call, 1.5, 7)
    assert folding.spent("tree") == (1.5, 7)
    assert folding.reserved("tree") == 0


def test_a_budget_on_an_agent_goes_with_the_last_of_its_descendants() -> None:
    folding = family()
    folding.budget("tree", usd=Decimal(9), scope="agent", target="root")
    folding.apply(ev.AgentRemoved(agent="root"), ev.AgentRemoved(agent="child"))
    assert folding.fleet.cover.of(folding.fleet, "grandchild") == ("tree",)
    folding.apply(ev.AgentRemoved(agent="grandchild"))
    assert not folding.fleet.budgets
    assert set(folding.fleet.kin) == set()


def test_a_budget_holds_calls_that_ran_before_it_was_made() -> None:
    folding = family()
    call = folding.start("child", 2.0, 10)
    folding.budget("all", usd=Decimal(9))
    assert folding.reserved("all") == 2.0
    folding.settle("child", call, 1.0)
    assert folding.reserved("all") == 0
    assert folding.spent("all")[0] == 1.0


def test_a_task_begins_anew_when_a_person_starts_the_agent_and_not_with_a_restart_by_policy() -> None:
    folding = family()
    folding.budget("tree", usd=Decimal(9), scope="agent", target="root", window="task")
    folding.budget("each", usd=Decimal(9), scope="owner", target="ana", window="task")
    for agent in ("root", "child"):
        folding.settle(agent, folding.start(agent, 1.0), 1.0)
    running = folding.start("child", 0.5)
    assert folding.spent("tree")[0] == 2.0
    assert folding.spent("each", "root")[0] == folding.spent("each", "child")[0] == 1.0
    folding.apply(ev.RunStarting(agent="root", run=2, reason="policy"))
    assert folding.spent("tree")[0] == 2.0
    folding.apply(ev.RunStarting(agent="child", run=2, reason="restart"))
    assert folding.spent("tree")[0] == 2.0
    assert folding.spent("each", "child")[0] == 0
    folding.apply(ev.RunStarting(agent="root", run=3, reason="start"))
    assert folding.spent("tree")[0] == 0
    assert folding.reserved("tree") == folding.reserved("each", "child") == 0.5
    folding.settle("child", running, 0.25)
    assert folding.spent("tree")[0] == folding.spent("each", "child")[0] == 0.25


def test_the_opening_of_a_window_that_turned_over_meanwhile_does_not_count() -> None:
    folding = family()
    folding.ts = 7_200.5
    opening = [ev.Spent(3_600.0, 4.0, 40)]
    folding.budget("hour", usd=Decimal(9), window="hour", opening=opening)
    assert folding.spent("hour") == (0, 0)
    folding.budget("day", usd=Decimal(9), window="day", opening=[ev.Spent(0.0, 4.0, 40)])
    folding.budget("moving", usd=Decimal(9), window="hour", rolling=True, opening=opening)
    assert folding.spent("day") == folding.spent("moving") == (4.0, 40)
    folding.ts = 7_260.0
    assert folding.spent("moving") == (0, 0)


def test_a_replaced_budget_keeps_what_was_used_and_loses_its_extensions() -> None:
    folding = family()
    folding.budget("all", usd=Decimal(2))
    call = folding.start("root", 1.0)
    folding.settle("root", folding.start("root", 1.0), 1.0)
    folding.apply(ev.BudgetExtended(name="all", usd=5.0))
    folding.budget("all", usd=Decimal(3), action="deny")
    state = folding.fleet.budgets["all"]
    assert state.limit(state.accounts[""], folding.ts)[0] == nanos(3)
    assert folding.spent("all")[0] == folding.reserved("all") == 1.0
    folding.budget("all", usd=Decimal(3), scope="owner", target="bob")
    assert folding.spent("all")[0] == folding.reserved("all") == 0
    folding.settle("root", call, 1.0)
    assert folding.spent("all")[0] == 0


def test_a_pass_is_used_once_and_lost_when_the_limit_moves() -> None:
    folding = family()
    folding.budget("all", usd=Decimal(2))

    def give(approval: str) -> None:
        folding.apply(
            ev.ApprovalRequested(agent="root", approval=approval, call="c", about="budget", budget="all"),
            ev.ApprovalAnswered(agent="root", approval=approval, answer="once"),
        )

    give("q1")
    give("q2")
    assert [given.approval for given in folding.fleet.agents["root"].passes] == ["q1", "q2"]
    folding.start("root", 3.0, approval="q1")
    assert list(folding.fleet.passes) == ["q2"]
    folding.apply(ev.BudgetExtended(name="all", usd=1.0))
    assert not folding.fleet.passes
    assert not folding.fleet.agents["root"].passes


def test_an_extension_ends_with_its_window() -> None:
    folding = family()
    folding.budget("hourly", usd=Decimal(1), window="hour")
    state = folding.fleet.budgets["hourly"]
    account = state.accounts[""]
    folding.apply(ev.BudgetExtended(name="hourly", usd=2.0, until=account.end))
    assert state.limit(account, folding.ts)[0] == nanos(3)
    assert account.end is not None
    assert state.limit(account, account.end)[0] == nanos(1)


def test_questions_end_with_an_agent_that_was_ended_and_not_with_one_that_gave_up() -> None:
    folding = family()
    for agent, cause in (("root", "exit"), ("other", "killed")):
        folding.apply(
            ev.ApprovalRequested(agent=agent, approval=f"q-{agent}", call="c", about="budget", budget="b"),
            ev.RunExited(agent=agent, run=1, cause=cause),  # type: ignore[arg-type]
        )
    assert list(folding.fleet.approvals) == ["q-root"]


AGENTS = ("root", "child", "grandchild", "other")
MONEY = st.integers(0, 60).map(lambda cents: cents / 100)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.sampled_from(AGENTS), MONEY),
        st.tuples(st.just("settle"), st.integers(0, 50), st.floats(0, 1)),
        st.tuples(st.just("cancel"), st.integers(0, 50), st.just(0.0)),
        st.tuples(st.just("extend"), st.sampled_from(["all", "tree"]), MONEY),
        st.tuples(st.just("wait"), st.just(0), st.floats(0, 3_000)),
        st.tuples(st.just("restart"), st.sampled_from(AGENTS), st.just(0.0)),
        st.tuples(st.just("relabel"), st.sampled_from(["child", "other"]), st.sampled_from([0.0, 1.0])),
        st.tuples(st.just("remove"), st.just("grandchild"), st.just(0.0)),
        st.tuples(st.just("reload"), st.just(0), st.just(0.0)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_order_of_anything_overruns_a_budget_or_loses_a_cent(steps: list[tuple[str, Any, Any]]) -> None:
    folding = family()
    folding.budget("all", usd=Decimal(3))
    folding.budget("tree", usd=Decimal(1), scope="agent", target="root")
    folding.budget("hourly", usd=Decimal("0.50"), window="hour")
    folding.budget("moving", usd=Decimal("0.70"), window="hour", rolling=True)
    folding.budget("task", usd=Decimal("0.90"), window="task", scope="owner", target="ana")
    folding.budget("team", usd=Decimal(1), scope="label", target="team=api")
    running: list[tuple[str, str, float]] = []
    total = tree = 0
    for what, which, amount in steps:
        fleet = folding.fleet
        if what == "admit" and which in fleet.agents:
            need = Need(nanos(amount), 0)
            if not list(shortages(fleet, which, need, folding.ts, "pass", lambda place: False)):
                running.append((which, folding.start(which, amount), amount))
        elif what in ("settle", "cancel") and running:
            agent, call, reserved = running.pop(which % len(running))
            cost = round(reserved * amount, 4) if what == "settle" else None
            total += nanos(cost or 0)
            tree += nanos(cost or 0) * (agent != "other")
            folding.settle(agent, call, cost)
        elif what == "extend":
            until = fleet.budgets[which].accounts[""].end
            folding.apply(ev.BudgetExtended(name=which, usd=amount, until=until))
        elif what == "wait":
            folding.ts += amount
        elif what == "restart" and which in fleet.agents:
            folding.apply(ev.RunStarting(agent=which, run=2, reason="restart"))
        elif what == "relabel":
            labels = {"team": "api"} if amount else {}
            parent = "root" if which == "child" else None
            spec = AgentSpec(name=which, command=["x"], labels=labels, parent=parent)
            folding.apply(ev.AgentChanged(agent=which, spec=spec))
        elif what == "remove":
            folding.apply(ev.AgentRemoved(agent=which))
        elif what == "reload":
            reloaded = fold.load(fold.dump(fleet))
            assert reloaded == fleet == books._copy(fleet)
            assert reloaded is not None
            folding.fleet = reloaded
        _straight(folding, running)
    fleet = folding.fleet
    assert fleet.budgets["all"].accounts[""].usd == total
    assert fleet.budgets["tree"].accounts[""].usd == tree


def _straight(folding: Folding, running: list[tuple[str, str, float]]) -> None:
    fleet, now = folding.fleet, folding.ts
    for state in fleet.budgets.values():
        for account in state.accounts.values():
            limit, _ = state.limit(account, now)
            assert limit is not None
            spent = state.spent(account, now).usd
            assert spent >= 0
            assert account.reserved_usd >= 0
            # A label that was put on in the middle of a call brings what the call used with it.
            if state.budget.name != "team":
                assert spent + account.reserved_usd <= limit
    held = sum(nanos(reserved) for _, _, reserved in running)
    assert fleet.budgets["all"].accounts[""].reserved_usd == held
    assert set(fleet.reservations) == {call for _, call, _ in running}
