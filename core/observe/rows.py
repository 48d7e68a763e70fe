"""Observed agents as the data that crosses the kernel's door: rows of the live table, and ``ps``.

Only what is known is shown: an agent whose transcript was not found has no tokens, not zero.
"""

from __future__ import annotations

import pwd
from collections.abc import Callable

from ..agents.states import NEEDS_PERSON, State
from ..api import AgentInfo, Tokens
from ..journal.events import Usage
from ..table import Row
from .contract import View
from .watch import Observed, title

#: USD of so many tokens of a model; ``None``: it has no known price.
Price = Callable[[str, Usage], float | None]

BACKEND = "observed"
SPARK = 20


def cost(view: View, price: Price) -> tuple[float | None, bool]:
    """USD of all calls of a transcript, and whether a part has no known price."""
    priced = [price(model, usage) for model, usage in view.usages.items() if usage.total]
    known = [part for part in priced if part is not None]
    return (sum(known) if known or not priced else None), len(known) < len(priced)


def row(agent: Observed, price: Price, now: float, name: str = "") -> Row:
    """One row of the live table; CPU and memory are filled in by whoever samples them.

    Args:
        name: The unique name the registry gave it.
    """
    view, main = agent.view, agent.main
    state = view.state if view else State.EXECUTING  # a program whose calls are not seen: it runs
    reason = view.reason if view else None
    usd, unpriced = cost(view, price) if view else (None, False)
    usage = view.usage if view else Usage()
    minute = int(now // 60)
    minutes = view.minutes if view else {}
    return Row(
        id=agent.id,
        name=name or title(agent),
        state=state.value,
        pause=None,
        reason=reason.value if reason else None,
        detail=(view.detail or view.tool or "") if view else "no transcript found",
        since=(view.since if view else None) or main.started,
        needs=reason in NEEDS_PERSON,
        backend=BACKEND,
        template=agent.observer,
        owner=_account(main.uid),
        parent=agent.parent,
        labels="",
        nice=0,
        model=view.model if view else None,
        context=view.context if view else None,
        context_limit=view.context_limit if view else None,
        # The last sixty seconds, as if the minute before this one had been even.
        rate=minutes.get(minute, 0) + round(minutes.get(minute - 1, 0) * (1 - now % 60 / 60)),
        rate_exact=False,
        spark=tuple(minutes.get(minute - back, 0) for back in range(SPARK - 1, -1, -1)),
        input=usage.input,
        cache_read=usage.cache_read,
        cache_write=usage.cache_write,
        output=usage.output,
        cost=usd,
        cost_exact=bool(agent.session and agent.session.exact),
        unpriced=unpriced,
        budget=None,
        unread=None,
        dead_letters=0,
        cpu=None,
        memory=None,
        pids=len(agent.processes),
        started=main.started,
        ended=None,
        exit_code=None,
        run=1,
        task=view.prompt if view else "",
        observed=True,
        stale=None,
        tiers=None,
    )


def info(agent: Observed, price: Price, now: float, name: str = "") -> AgentInfo:
    """The same agent as ``ps --json`` and ``inspect`` print it; ``pids`` are the CLI's own processes."""
    shown, view, main = row(agent, price, now, name), agent.view, agent.main
    return AgentInfo(
        id=shown.id,
        name=shown.name,
        state=shown.state,
        reason=shown.reason,
        backend=BACKEND,
        template=shown.template,
        owner=shown.owner,
        parent=shown.parent,
        model=shown.model,
        pid=main.pid,
        pids=[process.pid for process in agent.processes],
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
        task=shown.task or None,
        command=list(main.argv),
        cwd=(view.cwd if view else None) or main.cwd,
    )


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
