"""Budgets and approvals as people see them, and the few figures of them in every row and the header."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ..api import ApprovalInfo, BudgetInfo
from .amount import dollars
from .state import Account, Approval, BudgetState, Figures
from .window import bounds, rolling

if TYPE_CHECKING:
    from ..agents.agent import Fleet
    from ..gateway.meters import Meters
    from ..journal.events import CallStarted

#: Minutes that a pace is taken over.
PACE = 10

_NOTHING = Account()


class Pace(NamedTuple):
    """What an agent, or several, used in the last ten minutes."""

    usd: float
    tokens: int


class HeaderBudget(NamedTuple):
    """The fleet's own budget, for the header; amounts in USD."""

    spent: float
    reserved: float
    limit: float
    window: str


# --- for the live table, every second ------------------------------------------------------------


def per_cent(fleet: Fleet, agent: str, now: float) -> int | None:
    """Per cent used of the tightest budget that covers an agent; ``None`` where none does."""
    tightest = None
    for state, key in fleet.cover.places(fleet, agent):
        account = state.accounts.get(key)
        used = state.used(account, now) if account is not None else 0.0
        tightest = used if tightest is None else max(tightest, used)
    return None if tightest is None else int(tightest * 100)


def shares(fleet: Fleet, now: float) -> dict[str, int]:
    """Per cent used of each budget that covers more than one agent's own account: by name."""
    return {
        state.budget.name: int(state.used(account, now) * 100)
        for state in fleet.budgets.values()
        if (account := state.accounts.get("")) is not None
    }


def of_fleet(fleet: Fleet, now: float) -> HeaderBudget | None:
    """The tightest budget in USD on the whole fleet."""
    found = [
        state
        for state in fleet.budgets.values()
        if state.budget.scope == "fleet" and state.usd is not None and not state.per_agent
    ]
    if not found:
        return None
    state = max(found, key=lambda s: s.used(s.accounts.get("", _NOTHING), now))
    account = state.accounts.get("", _NOTHING)
    limit, _ = state.limit(account, now)
    return HeaderBudget(
        dollars(state.spent(account, now).usd),
        dollars(account.reserved_usd),
        dollars(limit or 0),
        state.budget.window,
    )


# --- for the budgets pane ------------------------------------------------------------------------


class _Look(NamedTuple):
    """What all budgets are seen with at one moment."""

    fleet: Fleet
    now: float
    paces: Mapping[str, Pace]
    covered: Mapping[str, list[str]]
    held: Mapping[str, int]


def all_infos(fleet: Fleet, meters: Meters, held: Mapping[str, int], now: float) -> list[BudgetInfo]:
    """Every budget as it stands.

    Args:
        held: Calls that each budget holds, by its name.
    """
    look = _look(fleet, meters, held, now)
    return [_info(state, look) for state in fleet.budgets.values()]


def info(state: BudgetState, fleet: Fleet, meters: Meters, held: Mapping[str, int], now: float) -> BudgetInfo:
    """One budget as it stands."""
    return _info(state, _look(fleet, meters, held, now))


def _look(fleet: Fleet, meters: Meters, held: Mapping[str, int], now: float) -> _Look:
    covered: dict[str, list[str]] = {}
    paces: dict[str, Pace] = {}
    for agent in fleet.agents.values():
        names = fleet.cover.of(fleet, agent.id)
        if not names:
            continue
        if (gauge := meters.agents.get(agent.id)) is not None:
            paces[agent.id] = Pace(gauge.hour.cost_since(now, PACE), sum(gauge.hour.series(now, PACE)))
        for name in names if agent.live else ():
            covered.setdefault(name, []).append(agent.id)
    return _Look(fleet, now, paces, covered, held)


def _info(state: BudgetState, look: _Look) -> BudgetInfo:
    budget, now, fleet = state.budget, look.now, look.fleet
    account = _tightest(state, now)
    spent, (usd, tokens) = state.spent(account, now), state.limit(account, now)
    agents = look.covered.get(budget.name, [])
    pace = _sum(look.paces[agent] for agent in agents if agent in look.paces)
    start, end = window(state, account, now)
    target = fleet.agents.get(budget.target) if budget.scope == "agent" else None
    reserved = Figures(
        sum(a.reserved_usd for a in state.accounts.values()),
        sum(a.reserved_tokens for a in state.accounts.values()),
    )
    return BudgetInfo(
        budget=budget,
        target_name=target.name if target is not None else "",
        source=state.source,
        limit_usd=None if usd is None else dollars(usd),
        limit_tokens=tokens,
        spent_usd=dollars(spent.usd),
        spent_tokens=spent.tokens,
        reserved_usd=dollars(reserved.usd),
        reserved_tokens=reserved.tokens,
        used=state.used(account, now),
        exact=not account.estimated,
        unpriced=account.unpriced,
        window_start=start,
        window_end=end,
        burn_usd_hour=pace.usd * 60 / PACE,
        burn_tokens_minute=pace.tokens / PACE,
        seconds_left=_seconds_left(spent, usd, tokens, pace, None if end is None else end - now),
        agents=agents,
        next_agent=_next(agents, look.paces, money=usd is not None),
        held=look.held.get(budget.name, 0),
        warned=account.warned is not None,
        parent=_parent(state, fleet),
    )


def _tightest(state: BudgetState, now: float) -> Account:
    """The account to show: of a budget with one for each agent, that which is used up most."""
    account = max(state.accounts.values(), key=lambda account: state.used(account, now), default=_NOTHING)
    if account.end is not None and now >= account.end:  # nothing was settled in the new window yet
        account = replace(account)
        state.roll(account, now)
    return account


def window(state: BudgetState, account: Account, now: float) -> tuple[float | None, float | None]:
    """Begin and end of the present window; ``None`` where it has none."""
    if account.end is not None and now >= account.end:
        return bounds(state.budget, now)
    if (moving := rolling(state.budget)) is not None:
        return now - moving.length, None
    return (None if state.budget.window == "total" else account.start), account.end


def _sum(paces: Iterable[Pace]) -> Pace:
    usd, tokens = 0.0, 0
    for pace in paces:
        usd += pace.usd
        tokens += pace.tokens
    return Pace(usd, tokens)


def _seconds_left(
    spent: Figures, usd: int | None, tokens: int | None, pace: Pace, rest: float | None
) -> float | None:
    """Until the limit is reached at this pace; ``None`` if it is not, or not before the window ends."""
    found = []
    if usd is not None and pace.usd > 0:
        found.append(max(0.0, dollars(usd - spent.usd)) / pace.usd)
    if tokens is not None and pace.tokens > 0:
        found.append(max(0, tokens - spent.tokens) / pace.tokens)
    if not found:
        return None
    left = min(found) * 60 * PACE
    return left if rest is None or left < rest else None


def _next(agents: Iterable[str], paces: Mapping[str, Pace], *, money: bool) -> str | None:
    def weight(agent: str) -> float:
        pace = paces.get(agent)
        return 0.0 if pace is None else pace.usd if money else pace.tokens

    first = max(agents, key=weight, default=None)
    return first if first is not None and weight(first) > 0 else None


def _parent(state: BudgetState, fleet: Fleet) -> str | None:
    """The next budget above: of the nearest ancestor, else the fleet's tightest."""
    budget = state.budget
    if budget.scope == "fleet":
        return None
    if budget.scope == "agent":
        above = fleet.kin[budget.target].parent if budget.target in fleet.kin else None
        seen = {budget.target}
        while above is not None and above not in seen:
            if names := fleet.cover.on(fleet, above):
                return names[0]
            seen.add(above)
            above = fleet.kin[above].parent if above in fleet.kin else None
    whole = [other for other in fleet.budgets.values() if other.budget.scope == "fleet"]
    return min(whole, key=_size).budget.name if whole else None


def _size(state: BudgetState) -> tuple[bool, int]:
    return state.usd is None, state.usd if state.usd is not None else state.budget.tokens or 0


# --- approvals -----------------------------------------------------------------------------------


def approval(
    found: Approval,
    fleet: Fleet,
    waits: Callable[[Approval], bool],
    started: Callable[[str], CallStarted | None],
) -> ApprovalInfo:
    """One open question.

    Args:
        waits: Whether a call still waits for its answer.
        started: The call of this id, while its client is there.
    """
    agent = fleet.agents.get(found.agent)
    call = started(found.call)
    return ApprovalInfo(
        approval=found.id,
        agent=found.agent,
        name=agent.name if agent is not None else found.agent,
        about=found.about,
        question=found.question,
        since=found.since,
        call=found.call,
        held=waits(found),
        budget=found.budget,
        needed_usd=found.needed_usd,
        left_usd=found.left_usd,
        needed_tokens=found.needed_tokens,
        left_tokens=found.left_tokens,
        model=call.model if call is not None else agent.model if agent is not None else None,
        provider=call.provider if call is not None else agent.provider if agent is not None else None,
    )
