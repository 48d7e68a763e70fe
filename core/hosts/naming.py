"""What several kernels say, told apart: names get their host before them, and lose it on the way back.

With one host nothing is changed. With several, ``host/id`` is an agent's id everywhere in the client, and
``host/name`` what people read where nothing else says which host is meant; a budget, whose name may not
have a ``/``, is ``host.name``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ..api import (
        AgentDetail,
        AgentInfo,
        ApprovalInfo,
        AttachInfo,
        BudgetInfo,
        BudgetRequest,
        CallInfo,
        CheckInfo,
        HistoryInfo,
        KillPlan,
        Outcome,
        ProviderInfo,
        UsageRow,
    )
    from ..table import EventInfo, Row

M = TypeVar("M", bound=Any)

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


class Names:
    """The names of one host's things, as the merged client tells them."""

    def __init__(self, label: str, several: bool, budgets: str = "") -> None:
        self.label = label
        self.several = several
        self._before = f"{label}/" if several else ""
        self._budgets = f"{budgets or of_budgets([label])[0]}." if several else ""

    # --- on the way out

    def id(self, text: str) -> str:
        """An id or a name with its host."""
        return self._before + text

    def maybe(self, text: str | None) -> str | None:
        """The same for what may be missing."""
        return text if text is None else self._before + text

    def ids(self, texts: Iterable[str]) -> list[str]:
        """Several."""
        return [self._before + text for text in texts]

    def row(self, row: Row, stale: float | None) -> Row:
        """A row of the live table; ``stale``: since when its host is away."""
        row = row._replace(
            id=self._before + row.id,
            parent=self.maybe(row.parent),
            host=self.label,
        )
        if stale is None:
            return row
        # Tokens and money are what they were; what a minute's worth of them is nobody knows now.
        return row._replace(stale=min(stale, row.stale or stale), rate=0, attach=False)

    def event(self, event: EventInfo, seq: int) -> EventInfo:
        """A row of the journal, with the number the merged client gives it."""
        name = self.maybe(event.name)
        if self.several and event.agent is None:
            name = self.label  # what its kernel did
        return event._replace(seq=seq, agent=self.maybe(event.agent), name=name)

    def agent(self, info: AgentInfo) -> AgentInfo:
        """An agent; ``ps --json`` gets ``host``."""
        if not self.several:
            return info
        return _with(info, id=self.id(info.id), parent=self.maybe(info.parent), host=self.label)

    def detail(self, detail: AgentDetail) -> AgentDetail:
        """Everything about one."""
        if not self.several:
            return detail
        return _with(
            detail,
            info=self.agent(detail.info),
            children=self.ids(detail.children),
            calls=[self.call(call) for call in detail.calls],
        )

    def outcome(self, outcome: Outcome) -> Outcome:
        """What was done to one."""
        if not self.several:
            return outcome
        ref = outcome.ref if outcome.ref.startswith(self._before) else self.id(outcome.ref)
        return _with(outcome, ref=ref, id=self.maybe(outcome.id), name=self.maybe(outcome.name))

    def call(self, call: CallInfo) -> CallInfo:
        """One model call."""
        if not self.several:
            return call
        there = {"agent": self.id(call.agent)} if call.agent else {}
        name = {"name": self.id(call.name)} if call.name else {}
        return _with(call, call=self.id(call.call), provider=call.provider, **there, **name)

    def plan(self, plan: KillPlan) -> KillPlan:
        """What a kill would end."""
        if not self.several:
            return plan
        return _with(
            plan,
            agents=[self.agent(agent) for agent in plan.agents],
            processes={self.id(key): found for key, found in plan.processes.items()},
            containers={self.id(key): found for key, found in plan.containers.items()},
            waiting_for_it=self.ids(plan.waiting_for_it),
        )

    def budget(self, info: BudgetInfo) -> BudgetInfo:
        """A budget as it stands."""
        if not self.several:
            return info
        declared = info.budget
        target = self.id(declared.target) if declared.scope == "agent" else declared.target
        return _with(
            info,
            budget=_with(declared, name=self._budgets + declared.name, target=target),
            target_name=self.id(info.target_name) if info.target_name else "",
            agents=self.ids(info.agents),
            next_agent=self.maybe(info.next_agent),
            parent=None if info.parent is None else self._budgets + info.parent,
        )

    def approval(self, info: ApprovalInfo) -> ApprovalInfo:
        """An open question."""
        if not self.several:
            return info
        return _with(
            info,
            approval=self.id(info.approval),
            agent=self.id(info.agent),
            name=self.id(info.name),
            call=self.id(info.call),
            budget=None if info.budget is None else self._budgets + info.budget,
        )

    def provider(self, info: ProviderInfo) -> ProviderInfo:
        """A provider of that host's gateway."""
        if not self.several:
            return info
        return _with(info, name=self.id(info.name), fallback=self.maybe(info.fallback))

    def usage(self, row: UsageRow, by: Sequence[str]) -> UsageRow:
        """Sums; those by agent are told apart."""
        if not self.several or not {"agent", "run", "task"} & set(by):
            return row
        keys = [
            self.id(key) if what in ("agent", "run", "task") and key else key
            for what, key in zip(by, row.keys, strict=False)
        ]
        return _with(row, keys=keys)

    def check(self, check: CheckInfo) -> CheckInfo:
        """A line of doctor."""
        return _with(check, group=f"{self.label}: {check.group}") if self.several else check

    def named(self, info: M) -> M:
        """Anything else with the name of an agent."""
        return _with(info, name=self.id(info.name)) if self.several else info

    def attach(self, info: AttachInfo, argv: list[str], seq: int) -> AttachInfo:
        """How to get in front of an agent, from here."""
        there = {"id": self.id(info.id)} if info.id else {}
        return _with(info, name=self.id(info.name), argv=argv, seq=seq, **there)

    def history(self, info: HistoryInfo) -> HistoryInfo:
        """A terminal's text."""
        return self.named(info)

    # --- on the way in

    def owns(self, ref: str) -> bool:
        """Whether a reference says that it is about this host."""
        return ref.startswith(f"{self.label}/")

    def bare(self, ref: str) -> str:
        """A reference as the host knows it."""
        return ref.removeprefix(f"{self.label}/")

    def budget_name(self, name: str) -> str:
        """A budget's name with its host."""
        return self._budgets + name

    def owns_budget(self, name: str) -> bool:
        """Whether a budget's name says that it is this host's."""
        return bool(self._budgets) and name.startswith(self._budgets)

    def bare_budget(self, name: str) -> str:
        """A budget's name as the host knows it."""
        return name.removeprefix(self._budgets)

    def budget_request(self, request: BudgetRequest) -> BudgetRequest:
        """A budget to be made, as the host knows it."""
        declared = request.budget
        target = self.bare(declared.target) if declared.scope == "agent" else declared.target
        return _with(request, budget=_with(declared, name=self.bare_budget(declared.name), target=target))


def of_budgets(labels: Sequence[str]) -> list[str]:
    """What each host is called in the names of its budgets, which may have letters, digits, - and _ only;
    no two alike."""
    found: list[str] = []
    for label in labels:
        plain = name = _NOT_IN_NAMES.sub("-", label).strip("-_") or "host"
        number = 2
        while name in found:
            name, number = f"{plain}-{number}", number + 1
        found.append(name)
    return found


def _with(model: M, **fields: Any) -> M:
    """``model`` with other values; they were valid, and a host's name before them keeps them so."""
    copy: M = model.model_copy(update=fields)
    return copy
