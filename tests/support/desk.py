"""A real desk on a real journal, with agents that exist in the books only: nothing is forwarded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.budget.budget import Budget
from agenttop.core.budget.prices import OwnPrice, Prices
from agenttop.core.clock import Clock, SystemClock
from agenttop.core.gateway.calls import CallDesk
from agenttop.core.gateway.desk import Asking, Refused
from agenttop.core.gateway.identity import Identity
from agenttop.core.gateway.meters import Meters
from agenttop.core.gateway.providers import BUILT_IN, KeyRing
from agenttop.core.journal import events as ev
from agenttop.core.journal.books import Books
from agenttop.core.journal.journal import Journal

#: A dollar a million tokens in, ten a million out: a call of 1,000 bytes and 1,000 tokens is $0.011.
PRICES = {"mock": OwnPrice(Decimal(1), Decimal(10), context_limit=200_000, max_output=5_000)}


class Acting:
    """Notes what the desk wants done to agents."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    async def freeze(self, agent: str, by: str) -> None:
        self.done.append(("freeze", agent))

    async def thaw(self, agent: str, by: str) -> None:
        self.done.append(("thaw", agent))

    async def kill(self, agent: str, by: str) -> None:
        self.done.append(("kill", agent))

    async def resume_conversation(self, agent: str) -> None:
        self.done.append(("resume", agent))


class DeskRig:
    """One kernel's books and desk."""

    def __init__(self, journal: Journal, clock: Clock, **options: Any) -> None:
        self.clock = clock
        self.books = Books(journal)
        self.acting = Acting()
        self._options = options
        self._numbers = iter(range(10**9))
        self.desk: CallDesk

    async def open(self) -> None:
        await self.books.open()
        prices = Prices(PRICES)
        self.desk = CallDesk(
            self.books,
            Meters(),
            Identity(b"k" * 32),
            prices,
            self.clock,
            KeyRing({}),
            providers=BUILT_IN,
            **self._options,
        )
        self.desk.jobs.acts = self.acting

    async def agents(self, *ids: str, **spec: Any) -> None:
        """Make agents with a live run."""
        events: list[ev.Event] = []
        for agent in ids:
            declared = AgentSpec(name=agent, command=["true"], **spec)
            events.append(ev.AgentCreated(agent=agent, spec=declared, owner="ana"))
            events.append(ev.RunStarting(agent=agent, run=1))
            events.append(ev.RunStarted(agent=agent, run=1, ref={"pid": 1}))
        await self.books.commit(*events)

    async def budget(self, **fields: Any) -> None:
        """Make a budget."""
        await self.books.commit(ev.BudgetSet(budget=Budget(**{"name": "cap", **fields})))

    def started(self, agent: str, model: str | None = "mock") -> ev.CallStarted:
        """A call that wants in."""
        return ev.CallStarted(
            agent=agent,
            call=f"c{next(self._numbers)}",
            run=1,
            provider="anthropic",
            protocol="anthropic",
            model=model,
        )

    async def admit(
        self, agent: str, *, bytes: int = 1_000, output: int = 1_000, model: str | None = "mock"
    ) -> ev.CallStarted:
        """Ask for admission; the call, when it has it. By default it needs up to $0.011."""
        started = self.started(agent, model)
        try:
            await self.desk.admit(started, Asking(bytes, output))
        except Refused:  # as the gateway does
            await self.settle(started, ev.Usage(), outcome="refused")
            raise
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self.settle(started, ev.Usage(), outcome="client_cut")
            raise
        return started

    async def settle(self, started: ev.CallStarted, usage: ev.Usage, **fields: Any) -> None:
        """End a call."""
        cost = PRICES["mock"].cost(usage) if started.model == "mock" else None
        await self.desk.settle(
            ev.CallSettled(
                **{
                    "agent": started.agent,
                    "call": started.call,
                    "run": 1,
                    "provider": started.provider,
                    "model": started.model,
                    "usage": usage,
                    "cost_usd": None if cost is None else float(cost),
                    **fields,
                }
            )
        )

    def account(self, name: str = "cap", key: str = "") -> Any:
        """A budget's account in the pending books."""
        return self.books.pending.budgets[name].accounts[key]

    def held(self, agent: str) -> str:
        """What its held call waits for; empty if none is held."""
        calls = self.books.pending.agents[agent].calls.values()
        return next((call.detail or "held" for call in calls if call.state == "held"), "")


@asynccontextmanager
async def desk_rig(folder: Path, clock: Clock | None = None, **options: Any) -> AsyncIterator[DeskRig]:
    """Books and a desk on a journal in this folder."""
    clock = clock or SystemClock()
    async with await Journal.open(folder / "journal.db", clock) as journal:
        rig = DeskRig(journal, clock, **options)
        await rig.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rig.desk.run)
            try:
                yield rig
            finally:
                tasks.cancel_scope.cancel()
