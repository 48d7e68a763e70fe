"""Handlers of what agents ask about themselves and each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..agents import registry
from ..agents.agent import Agent
from ..api import selves as api
from ..api.bus import NoRequest
from ..budget.amount import dollars
from ..errors import NoSuchAgent, UsageError
from ..rows import shown_reason, shown_state
from .caller import Caller
from .table import Syscalls

if TYPE_CHECKING:
    from ..kernel import Kernel

#: Characters of another agent's task that are told.
TASK = 300


class SelfCalls:
    """Who is there, who one is, what one may spend, how far one is."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def add_to(self, table: Syscalls) -> None:
        """Put the handlers into the table."""
        table.add(api.AGENTS, self.agents)
        table.add(api.WHOAMI, self.whoami)
        table.add(api.BUDGET, self.budget)
        table.add(api.PROGRESS, self.progress)

    def _agent(self, caller: Caller) -> Agent:
        agent = self._kernel.books.committed.agents.get(caller.agent or "")
        if agent is None:
            raise NoSuchAgent(f"agent {caller.agent} is gone", "It was removed")
        return agent

    async def agents(self, caller: Caller, request: api.PeersRequest) -> list[api.PeerInfo]:
        """The managed agents, those that have ended only if asked for."""
        chosen = self._kernel.books.committed.agents.values()
        return [self._peer(agent) for agent in chosen if request.all or not agent.over]

    def _peer(self, agent: Agent) -> api.PeerInfo:
        kernel = self._kernel
        box = kernel.bus.pipeline.books.names.get(agent.id)
        mail = kernel.mailroom.gauge(agent)
        spec = agent.spec
        return api.PeerInfo(
            id=agent.id,
            name=agent.name,
            state=shown_state(agent, mail),
            reason=shown_reason(agent, kernel.last_words.of(agent), mail),
            template=spec.template,
            team=spec.labels.get("team"),
            parent=self._name(spec.parent),
            task=(spec.prompt or " ".join(spec.command))[:TASK],
            progress=agent.told if agent.live else "",
            reads_mail=kernel.mailroom.mailboxes.reads(agent),
            unread=len(box.letters) if box is not None else 0,
        )

    def _name(self, agent_id: str | None) -> str | None:
        return None if agent_id is None else self._kernel.mailroom.directory.name(agent_id)

    async def whoami(self, caller: Caller, request: NoRequest) -> api.SelfInfo:
        """The caller, a person too."""
        books = self._kernel.bus.pipeline.books
        box = books.names.get(caller.mailbox)
        unread = len(box.letters) if box is not None else 0
        patterns = books.topics.patterns(box.number) if box is not None else []
        if caller.agent is None:
            return api.SelfInfo(
                id=caller.mailbox,
                name=caller.owner,
                owner=caller.owner,
                unread=unread,
                subscriptions=patterns,
                namespaces=["shared"],
            )
        agent = self._agent(caller)
        meter, run, team = agent.total, agent.run, agent.spec.labels.get("team")
        fleet = self._kernel.books.committed
        return api.SelfInfo(
            id=agent.id,
            name=agent.name,
            team=team,
            parent=self._name(agent.spec.parent),
            children=[child.name for child in registry.children(fleet, agent.id)],
            owner=agent.owner,
            run=run.number if run is not None else None,
            started_at=run.starting if run is not None else None,
            unread=unread,
            subscriptions=patterns,
            namespaces=["shared", f"private/{agent.id}", *([f"team/{team}"] if team else [])],
            cost_usd=None if meter.unpriced and not meter.cost else meter.cost,
            budgets=self._budgets(agent),
        )

    async def budget(self, caller: Caller, request: NoRequest) -> list[api.BudgetLeft]:
        """What is left of each budget over the caller; a person is under none."""
        return [] if caller.agent is None else self._budgets(self._agent(caller))

    def _budgets(self, agent: Agent) -> list[api.BudgetLeft]:
        fleet, now = self._kernel.books.committed, self._kernel.clock.time()
        found = []
        for state, key in fleet.cover.places(fleet, agent.id):
            account = state.accounts.get(key)
            usd, tokens = state.limit(account, now)
            spent_usd = spent_tokens = 0
            if account is not None:
                spent = state.spent(account, now)
                # What running calls may still cost is not there to be spent.
                spent_usd = spent.usd + account.reserved_usd
                spent_tokens = spent.tokens + account.reserved_tokens
            budget = state.budget
            found.append(
                api.BudgetLeft(
                    name=budget.name,
                    window=budget.window,
                    usd_left=None if usd is None else max(0.0, dollars(usd - spent_usd)),
                    usd_limit=None if usd is None else dollars(usd),
                    tokens_left=None if tokens is None else max(0, tokens - spent_tokens),
                    tokens_limit=tokens,
                    breach=budget.action,
                )
            )
        return found

    async def progress(self, caller: Caller, request: api.ProgressRequest) -> None:
        """Shown in the agent's row within about a second.

        Raises:
            UsageError: A person has no row.
        """
        if caller.agent is None:
            raise UsageError("only an agent tells its progress", "You are a person")
        self._kernel.progress.report(self._agent(caller).id, request.text, request.percent)


def add(table: Syscalls, kernel: Kernel) -> None:
    """Put this room's handlers into the table."""
    SelfCalls(kernel).add_to(table)
