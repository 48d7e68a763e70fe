"""The fold of money: what budgets have used and hold back, who must be asked, whose child is whose.

As the rest of the fold it is pure: windows move on by the journal's own times, and by no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..budget.amount import nanos
from ..budget.budget import Budget
from ..budget.state import Account, Approval, BudgetState, Extension, Kin, Pass, Reservation, Slot
from ..budget.window import bounds
from . import events as ev
from .handlers import Handlers

if TYPE_CHECKING:
    from ..agents.agent import Agent, Fleet


_budgets = Handlers()
_on = _budgets.on
handle = _budgets.handle
"""Fold one event into what is known of money; before the agents' own fold of it."""


# --- families ----------------------------------------------------------------------------------


@_on(ev.AgentCreated)
def _created(fleet: Fleet, event: ev.AgentCreated, ts: float) -> None:
    fleet.cover.forget(event.agent)
    if (kin := fleet.kin.get(event.agent)) is not None:
        kin.gone = False
    _set_parent(fleet, event.agent, event.spec.parent)


@_on(ev.AgentChanged)
def _changed(fleet: Fleet, event: ev.AgentChanged, ts: float) -> None:
    if event.agent in fleet.agents:
        fleet.cover.forget()
        _set_parent(fleet, event.agent, event.spec.parent)


def moved(fleet: Fleet, ts: float) -> None:
    """An agent has other labels or another parent now: what runs is held back where it will be counted."""
    for held in fleet.reservations.values():
        if held.agent not in fleet.agents:
            continue
        places = fleet.cover.places(fleet, held.agent)
        if {(state.budget.name, key) for state, key in places} != set(held.accounts):
            _release(fleet, held)
            held.accounts = []
            for state, key in places:
                _reserve(state, key, held, ts)


def _set_parent(fleet: Fleet, agent: str, parent: str | None) -> None:
    kin = fleet.kin.get(agent)
    before = kin.parent if kin is not None else None
    if before == parent:
        return
    if kin is None:
        kin = fleet.kin[agent] = Kin()
    kin.parent = parent
    if parent is not None:
        above = fleet.kin.get(parent)
        if above is None:
            above = fleet.kin[parent] = Kin(gone=parent not in fleet.agents)
        above.children += 1
    if before is not None:
        _lost_child(fleet, before)


@_on(ev.AgentRemoved)
def _removed(fleet: Fleet, event: ev.AgentRemoved, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    if agent is None:
        return
    _drop_approvals(fleet, agent)
    for given in agent.passes:
        fleet.passes.pop(given.approval, None)
    for name in fleet.cover.of(fleet, agent.id):
        if (state := fleet.budgets[name]).per_agent:
            state.accounts.pop(agent.id, None)
    fleet.cover.forget(agent.id)
    kin = fleet.kin.get(event.agent)
    if kin is None or not kin.children:
        _vanished(fleet, event.agent)
    else:
        kin.gone = True


def _lost_child(fleet: Fleet, parent: str) -> None:
    kin = fleet.kin[parent]
    kin.children -= 1
    if kin.children == 0 and kin.gone:
        _vanished(fleet, parent)


def _vanished(fleet: Fleet, agent: str) -> None:
    """The agent is removed and no descendant of it is left: budgets on it have nobody to cover."""
    for name in fleet.cover.on(fleet, agent):
        _drop_budget(fleet, name)
    kin = fleet.kin.pop(agent, None)
    if kin is not None and kin.parent is not None and kin.parent in fleet.kin:
        _lost_child(fleet, kin.parent)


@_on(ev.RunStarting)
def _starting(fleet: Fleet, event: ev.RunStarting, ts: float) -> None:
    if event.reason not in ("start", "restart"):
        return
    for name in fleet.cover.of(fleet, event.agent):
        state = fleet.budgets[name]
        if state.budget.window != "task":
            continue
        if state.per_agent or state.budget.target == event.agent:
            account = state.account(event.agent, ts)
            account.clear()
            account.extensions = []
            account.start = ts


# --- budgets -----------------------------------------------------------------------------------


@_on(ev.BudgetSet)
def _set(fleet: Fleet, event: ev.BudgetSet, ts: float) -> None:
    name = event.budget.name
    old = fleet.budgets.get(name)
    if old is not None:
        fleet.cover.dropped(old.budget)
    state = BudgetState(event.budget, event.source, ts, event.by)
    if old is not None and same_account(old.budget, event.budget):
        state.accounts = old.accounts
        for account in state.accounts.values():
            account.extensions = []
        fleet.budgets[name] = state
        fleet.cover.added(event.budget)
    else:
        fleet.budgets[name] = state
        fleet.cover.added(event.budget)
        _open(fleet, state, event, ts)
        _hold_running(fleet, state, ts)
    _drop_passes(fleet, name)


def same_account(old: Budget, new: Budget) -> bool:
    """Whether a budget that replaces another goes on with its account: same cover, same window."""
    return (old.scope, old.target, old.window, old.rolling, old.zone) == (
        new.scope,
        new.target,
        new.window,
        new.rolling,
        new.zone,
    )


def _open(fleet: Fleet, state: BudgetState, event: ev.BudgetSet, ts: float) -> None:
    if state.per_agent:
        for agent in fleet.agents.values():
            if state.budget.name in fleet.cover.of(fleet, agent.id):
                usage, cost = agent.task.usage.total, agent.task.cost
                if usage or cost:
                    state.accounts[agent.id] = Account(agent.task_since, usd=nanos(cost), tokens=usage)
        return
    account = state.account("", ts)
    if state.budget.window == "task" and (target := fleet.agents.get(state.budget.target)):
        account.start = target.task_since
    first, _ = bounds(state.budget, ts)
    for slot, usd, tokens in event.opening:
        if first is not None and slot < first:
            continue  # the window turned over between the look at the journal and this event
        if state.budget.rolling:
            account.slots.append(Slot(slot, nanos(usd), tokens))
        account.usd += nanos(usd)
        account.tokens += tokens
    state.roll(account, ts)


def _hold_running(fleet: Fleet, state: BudgetState, ts: float) -> None:
    """Calls that run already are held in the new account, too."""
    name = state.budget.name
    for held in fleet.reservations.values():
        held.accounts = [place for place in held.accounts if place[0] != name]
        if name in fleet.cover.of(fleet, held.agent):
            _reserve(state, held.agent if state.per_agent else "", held, ts)


@_on(ev.BudgetRemoved)
def _unset(fleet: Fleet, event: ev.BudgetRemoved, ts: float) -> None:
    _drop_budget(fleet, event.name)


def _drop_budget(fleet: Fleet, name: str) -> None:
    state = fleet.budgets.pop(name, None)
    if state is None:
        return
    fleet.cover.dropped(state.budget)
    for held in fleet.reservations.values():
        if any(place[0] == name for place in held.accounts):
            held.accounts = [place for place in held.accounts if place[0] != name]
    _drop_passes(fleet, name)


@_on(ev.BudgetExtended)
def _extended(fleet: Fleet, event: ev.BudgetExtended, ts: float) -> None:
    if (state := fleet.budgets.get(event.name)) is None:
        return
    if state.per_agent and event.agent is None:
        accounts = list(state.accounts.values())
    else:
        accounts = [state.account(event.agent or "", ts)]
    for account in accounts:
        state.roll(account, ts)
        account.extensions.append(Extension(nanos(event.usd), event.tokens, event.until))
    _drop_passes(fleet, event.name)


@_on(ev.BudgetWarned)
def _warned(fleet: Fleet, event: ev.BudgetWarned, ts: float) -> None:
    state = fleet.budgets.get(event.name)
    account = state.look(event.agent or "") if state is not None else None
    if account is not None:
        account.warned = ts


# --- calls -------------------------------------------------------------------------------------


@_on(ev.CallStarted)
def _call_started(fleet: Fleet, event: ev.CallStarted, ts: float) -> None:
    for approval in (event.approval or "").split():
        _use_pass(fleet, approval)
    if event.reserved_tokens is None or event.agent not in fleet.agents:
        return
    if (stale := fleet.reservations.pop(event.call, None)) is not None:
        _release(fleet, stale)
    usd = None if event.reserved_usd is None else nanos(event.reserved_usd)
    held = fleet.reservations[event.call] = Reservation(event.agent, usd, event.reserved_tokens)
    for state, key in fleet.cover.places(fleet, event.agent):
        _reserve(state, key, held, ts)


def _reserve(state: BudgetState, key: str, held: Reservation, ts: float) -> None:
    account = state.accounts.get(key) or state.account(held.agent, ts)
    account.reserved_usd += held.usd or 0
    account.reserved_tokens += held.tokens
    held.accounts.append((state.budget.name, key))


def _release(fleet: Fleet, held: Reservation) -> None:
    usd, tokens = held.usd or 0, held.tokens
    for name, key in held.accounts:
        state = fleet.budgets.get(name)
        account = state.accounts.get(key) if state is not None else None
        if account is not None:
            account.reserved_usd -= usd
            account.reserved_tokens -= tokens


@_on(ev.CallSettled)
def _settled(fleet: Fleet, event: ev.CallSettled, ts: float) -> None:
    held = fleet.reservations.pop(event.call, None)
    if held is not None:
        _release(fleet, held)
    tokens = event.usage.total
    cost = event.cost_usd
    if not tokens and not cost:
        return
    usd = 0 if cost is None else max(0, nanos(cost))
    if event.agent in fleet.agents or held is None:
        places: Iterable[tuple[BudgetState, str]] = fleet.cover.places(fleet, event.agent)
    else:  # removed while its call ran: what it used counts where its worst case was held
        # (its own account, in a budget that has one for each agent, is gone with it).
        budgets = ((fleet.budgets.get(name), key) for name, key in held.accounts)
        places = [(state, key) for state, key in budgets if state is not None and not state.per_agent]
    for state, key in places:
        account = state.accounts.get(key) or state.account(event.agent, ts)
        if state.roll(account, ts):
            _drop_passes(fleet, state.budget.name)
        state.add(account, ts, usd, max(0, tokens))
        account.unpriced += cost is None
        account.estimated += not event.exact


# --- approvals ---------------------------------------------------------------------------------


@_on(ev.ApprovalRequested)
def _requested(fleet: Fleet, event: ev.ApprovalRequested, ts: float) -> None:
    if (agent := fleet.agents.get(event.agent)) is None:
        return
    fleet.approvals[event.approval] = Approval(
        id=event.approval,
        agent=event.agent,
        call=event.call,
        about=event.about,
        since=ts,
        budget=event.budget,
        question=event.question,
        needed_usd=event.needed_usd,
        left_usd=event.left_usd,
        needed_tokens=event.needed_tokens,
        left_tokens=event.left_tokens,
    )
    agent.approvals.append(event.approval)
    agent.session = event.session or agent.session


@_on(ev.ApprovalAnswered)
def _answered(fleet: Fleet, event: ev.ApprovalAnswered, ts: float) -> None:
    approval = fleet.approvals.pop(event.approval, None)
    agent = fleet.agents.get(approval.agent) if approval is not None else None
    if approval is None or agent is None:
        return
    agent.approvals = [other for other in agent.approvals if other != approval.id]
    if event.answer == "once":
        agent.passes.append(Pass(approval.id, approval.about, approval.budget))
        fleet.passes[approval.id] = agent.id


@_on(ev.RunExited)
def _exited(fleet: Fleet, event: ev.RunExited, ts: float) -> None:
    agent = fleet.agents.get(event.agent)
    if agent is None or agent.run is None or agent.run.number != event.run:
        return
    if event.cause in ("stopped", "killed"):
        # Somebody wanted it ended; a client that gave up by itself comes back with the answer.
        _drop_approvals(fleet, agent)


def _drop_approvals(fleet: Fleet, agent: Agent) -> None:
    for approval in agent.approvals:
        fleet.approvals.pop(approval, None)
    agent.approvals = []


def _use_pass(fleet: Fleet, approval: str) -> None:
    agent = fleet.agents.get(fleet.passes.pop(approval, ""))
    if agent is not None:
        agent.passes = [other for other in agent.passes if other.approval != approval]


def _drop_passes(fleet: Fleet, name: str) -> None:
    """The limit that a call was let through has moved: the next one is measured by what it is now."""
    for approval, agent_id in list(fleet.passes.items()):
        agent = fleet.agents.get(agent_id)
        if agent is None or any(p.approval == approval and p.budget == name for p in agent.passes):
            _use_pass(fleet, approval)
