"""Observed agents as the data that crosses the kernel's door: rows of the live table, and ``ps``.

Only what is known is shown: an agent whose transcript was not found has no tokens, not zero.
"""

from __future__ import annotations

import functools
import os
import pwd
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..agents.agent import ObservedFreeze
from ..agents.states import NEEDS_PERSON, Pause, State
from ..api import AgentInfo, Tokens
from ..budget.prices import Quote
from ..gateway.meters import midnight
from ..journal.events import Usage
from ..table import Row
from .believed import encodable
from .contract import Child, Found, View
from .gauges import NO_TREE, Tree
from .watch import Observed, name

#: USD of so many tokens of a model, and its context limit, for an observer; ``None``: not known.
Price = Callable[[str, str, Usage], Quote]

BACKEND = "observed"
SPARK = 20
_NO_SPARK = (0,) * SPARK


class Sums(NamedTuple):
    """Tokens and money of one agent in one window."""

    usage: Usage
    cost: float | None
    exact: bool
    """False: the session, or the part of it that falls into the window, is only likely."""
    unpriced: bool


NOTHING = Sums(Usage(), None, True, False)


def sums(agent: Observed, view: View | None, price: Price, window: str, now: float) -> Sums:
    """What a view's calls of one of ``table.WINDOWS`` used and cost; ``run`` is the process's life."""
    if view is None:
        return NOTHING
    exact = bool(agent.session and agent.session.exact)
    usages = view.usages
    if window != "total":
        begin = _begin(agent, window, now)
        if view.timeline is not None:
            usages = view.timeline.since(begin)
        elif (view.last_call or now) < begin:
            usages = {}
        elif agent.main.started < begin:  # it does not tell when: some of it may be older
            exact = False
    total = Usage()
    for usage in usages.values():
        total = total.plus(usage)
    priced = [price(agent.observer, model, usage).cost for model, usage in usages.items() if usage.total]
    known = [part for part in priced if part is not None]
    cost = round(sum(known), 9) if known or not priced else None
    return Sums(total, cost, exact, len(known) < len(priced))


def _begin(agent: Observed, window: str, now: float) -> float:
    if window == "hour":
        return (now // 60 - 59) * 60
    return midnight(now) if window == "today" else agent.main.started


def row(
    agent: Observed,
    price: Price,
    now: float,
    *,
    window: str = "total",
    tree: Tree = NO_TREE,
    freeze: ObservedFreeze | None = None,
) -> Row:
    """One row of the live table."""
    main = agent.main
    shown = _row(agent, agent.view, price, now, window)
    pause, detail, since = paused(tree, freeze)
    return shown._replace(
        name=name(agent),
        pause=pause.value if pause else None,
        detail=detail or shown.detail,
        since=since or shown.since,
        needs=shown.needs and pause is None,
        parent=agent.parent,
        nice=tree.nice,
        cpu=tree.load.cpu,
        memory=tree.load.memory,
        pids=tree.load.pids if tree is not NO_TREE else len(agent.processes),
        task=_task(agent, main),
    )


def child_rows(agent: Observed, price: Price, now: float, window: str = "total") -> Iterator[Row]:
    """The rows of its subagents, which have no process; what they used is in no other row."""
    for child in agent.view.children if agent.view is not None else ():
        yield _row(agent, child.view, price, now, window)._replace(
            id=child_id(agent, child), name=child_name(agent, child), parent=agent.id, pids=None, started=None
        )


def child_id(agent: Observed, child: Child) -> str:
    """The id of a subagent's row."""
    return f"{agent.id}.{child.id}"


def child_name(agent: Observed, child: Child) -> str:
    """``Explore@4182.a1b2c3d4``: what it is, whose it is, which one it is."""
    return f"{child.name}@{agent.main.pid}.{child.id[:8]}"


def paused(tree: Tree, freeze: ObservedFreeze | None) -> tuple[Pause | None, str, float | None]:
    """How an agent is paused, in which words, and since when; somebody else may have stopped it, too."""
    total = len(tree.processes)
    if freeze is not None and not freeze.total:
        return Pause.FREEZE, "freezing", freeze.since
    if freeze is not None and (tree.stopped or not total):
        stopped = f"{tree.stopped}/{total}" if total else f"{freeze.frozen}/{freeze.total}"
        return Pause.FREEZE, f"frozen {stopped}", freeze.since
    if total and tree.stopped == total:
        return Pause.FREEZE, f"stopped {total}/{total}", None
    return None, "", None


def _row(agent: Observed, view: View | None, price: Price, now: float, window: str) -> Row:
    """What a transcript tells, of an agent or of a subagent."""
    main = agent.main
    state = view.state if view else State.EXECUTING  # a program whose calls are not seen: it runs
    reason = view.reason if view else None
    counted = sums(agent, view, price, window, now)
    limit = view.context_limit if view else None
    if view and view.model and limit is None:
        limit = price(agent.observer, view.model, Usage()).context_limit
    rate, spark = _pace(view, now) if view else (0, _NO_SPARK)
    return Row(
        id=agent.id,
        name="",
        state=state.value,
        pause=None,
        reason=reason.value if reason else None,
        detail=_detail(agent, view),
        since=(view.since if view else None) or main.started,
        needs=reason in NEEDS_PERSON,
        backend=BACKEND,
        template=agent.observer,
        owner=account(main.uid),
        parent=None,
        labels="",
        nice=0,
        model=view.model if view else None,
        context=view.context if view else None,
        context_limit=limit,
        rate=rate,
        rate_exact=False,
        spark=spark,
        input=counted.usage.input,
        cache_read=counted.usage.cache_read,
        cache_write=counted.usage.cache_write,
        output=counted.usage.output,
        cost=counted.cost,
        cost_exact=counted.exact,
        unpriced=counted.unpriced,
        budget=None,
        unread=None,
        dead_letters=0,
        cpu=None,
        memory=None,
        pids=None,
        started=main.started,
        ended=None,
        exit_code=None,
        run=1,
        task=view.prompt if view else "",
        observed=True,
        stale=None,
        tiers=None,
    )


def _pace(view: View, now: float) -> tuple[int, tuple[int, ...]]:
    """Tokens of the last sixty seconds, and of each minute."""
    minute, minutes = int(now // 60), view.minutes
    return _rate(view, now), tuple(minutes.get(minute - back, 0) for back in range(SPARK - 1, -1, -1))


def _rate(view: View, now: float) -> int:
    """Tokens of the last sixty seconds, as if the minute before this one had been even."""
    minute, minutes = int(now // 60), view.minutes
    return minutes.get(minute, 0) + round(minutes.get(minute - 1, 0) * (1 - now % 60 / 60))


def aged(row: Row, view: View, now: float) -> Row:
    """A row of the same minute, of which only the rate may have fallen."""
    rate = _rate(view, now)
    return row if rate == row.rate else row._replace(rate=rate)


def _detail(agent: Observed, view: View | None) -> str:
    if view is not None:
        return view.detail or (view.tool or "" if view.state is State.EXECUTING else "")
    if agent.session is not None:
        return "reads transcript"
    return "no transcript" if permitted(agent.main) else "not permitted"


def permitted(main: Found) -> bool:
    """Whether we may see where a process works, and so whose conversation it leads."""
    return main.cwd is not None


def _task(agent: Observed, main: Found) -> str:
    """``~/src/infra  fix the login``: where it works, and what it was last asked."""
    cwd = encodable((agent.view.cwd if agent.view else None) or main.cwd or "")
    home = main.home or ""
    if home not in ("", "/") and (cwd == home or cwd.startswith(f"{home}/")):
        cwd = "~" + cwd[len(home) :]
    return "  ".join(part for part in (cwd, agent.view.prompt if agent.view else "") if part)


def info(
    agent: Observed,
    price: Price,
    now: float,
    *,
    tree: Tree = NO_TREE,
    freeze: ObservedFreeze | None = None,
    pids: bool = True,
) -> AgentInfo:
    """The same agent as ``ps --json`` and ``inspect`` print it; tokens and money are the whole session's."""
    view, main = agent.view, agent.main
    told = _info(row(agent, price, now, tree=tree, freeze=freeze), view)
    found = tree.pids or [process.pid for process in agent.processes]
    return told.model_copy(
        update={
            "pid": main.pid,
            "pids": found if pids else [],
            "frozen": [tree.stopped, len(tree.processes)] if told.state == State.PAUSED else None,
            "task": (view.prompt if view else None) or None,
            "command": list(main.argv),
            "cwd": encodable((view.cwd if view else None) or main.cwd or "") or None,
        }
    )


def child_infos(agent: Observed, price: Price, now: float) -> Iterator[AgentInfo]:
    """Its subagents, as ``ps --json`` prints them: without processes."""
    views = [child.view for child in agent.view.children] if agent.view is not None else []
    for shown, view in zip(child_rows(agent, price, now), views, strict=True):
        yield _info(shown, view).model_copy(update={"task": shown.task or None, "cwd": view.cwd})


def _info(shown: Row, view: View | None) -> AgentInfo:
    return AgentInfo(
        id=shown.id,
        name=shown.name,
        state=State.PAUSED.value if shown.pause else shown.state,
        reason=shown.pause or shown.reason,
        backend=BACKEND,
        template=shown.template,
        owner=shown.owner,
        parent=shown.parent,
        nice=shown.nice,
        model=shown.model,
        tokens=Tokens(
            input=shown.input,
            cache_read=shown.cache_read,
            cache_write=shown.cache_write,
            output=shown.output,
        ),
        cost_usd=shown.cost,
        cost_exact=shown.cost_exact,
        unpriced=shown.unpriced,
        calls=view.calls if view else 0,
        context_tokens=shown.context,
        context_limit=shown.context_limit,
        run=1,
        started_at=shown.started,
        observed=True,
        detail=shown.detail,
        since=shown.since,
        cpu_percent=shown.cpu,
        memory=shown.memory,
    )


@functools.lru_cache(maxsize=256)
def account(uid: int) -> str:
    """The name of a user."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def ours(uid: int) -> bool:
    """Whether we may signal this user's processes."""
    return os.geteuid() in (0, uid)
