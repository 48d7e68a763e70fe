"""Making, replacing and removing budgets: by people, and as the configuration, fleet files and specs say."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import anyio

from ..clock import Clock
from ..errors import JournalUnavailable, UsageError
from ..journal import events as ev
from ..journal.books import Books
from ..journal.fold_budgets import same_account
from .budget import Budget
from .opening import look_back
from .short import ShortBudget
from .state import BudgetState, Source
from .window import local_zone

log = logging.getLogger(__name__)


def spec_budget_name(agent: str) -> str:
    """Name of the budget that an agent's own declaration makes."""
    return f"agent-{agent}"


class Budgets:
    """Writes budgets into the books.

    A budget of a fleet file or the configuration that is on an agent by name begins when there is an
    agent of that name.
    """

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._zone = local_zone()
        self._lock = anyio.Lock()
        self._by_name: dict[tuple[Source, str], list[Budget]] = {}
        """Budgets on agents by name, by who declared them."""
        self._owed: list[str] = []
        """Budgets that a changed spec made, whose windows' past has not been read."""
        self._wake = anyio.Event()
        books.accompany(self._companions)

    def placed(self, budget: Budget) -> Budget:
        """With the kernel's own time zone where a calendar window names none: the journal knows no other."""
        if budget.zone or budget.rolling or budget.window not in ("hour", "day"):
            return budget
        return budget.model_copy(update={"zone": self._zone})

    # --- one -------------------------------------------------------------------------------------

    async def set(self, budget: Budget, source: Source, by: str) -> BudgetState:
        """Make or replace a budget, knowing what its window has used already; durable on return.

        Raises:
            JournalUnavailable: It was not made.
        """
        budget = self.placed(budget)
        async with self._lock:
            old = self._books.pending.budgets.get(budget.name)
            if old is not None and same_account(old.budget, budget):
                opening: list[ev.Spent] = []
            elif budget.window == "task" and budget.scope != "agent":
                opening = []  # each agent knows what its own task has used
            else:
                opening = await look_back(self._books, budget, self._now)
            # Nothing is awaited between the look and the post: no call is missed, none counted twice.
            ticket = self._books.post(ev.BudgetSet(budget=budget, opening=opening, source=source, by=by))
            made = self._books.pending.budgets[budget.name]
            await ticket
        return made

    @property
    def _now(self) -> float:
        return max(self._clock.time(), self._books.journal.last_ts)

    async def remove(self, name: str, by: str) -> None:
        """Take a budget away.

        Raises:
            UsageError: There is none of this name.
        """
        if name not in self._books.pending.budgets:
            raise UsageError(f"there is no budget {name}", "", "See agenttop budget")
        await self._books.commit(ev.BudgetRemoved(name=name, by=by))

    # --- declared ones ---------------------------------------------------------------------------

    async def declare(self, source: Source, budgets: Sequence[Budget], by: str) -> None:
        """Make the budgets of a source what it declares now: new and changed ones set, others removed.

        Args:
            by: Which fleet file; budgets of other files stay.

        Raises:
            UsageError: A name is another source's.
        """
        for budget in budgets:
            other = self._books.pending.budgets.get(budget.name)
            if source == "fleet" and other is not None and (other.source, other.by) != (source, by):
                whose = other.by or other.source
                raise UsageError(f"the budget {budget.name} exists already", f"It is of {whose}")
        self._by_name[source, by] = [budget for budget in budgets if budget.scope == "agent"]
        wanted = {budget.name: found for budget in budgets if (found := self._aimed(budget)) is not None}
        for name, state in list(self._books.pending.budgets.items()):
            if (state.source, state.by) == (source, by) and name not in wanted:
                await self.remove(name, by)
        for budget in wanted.values():
            present = self._books.pending.budgets.get(budget.name)
            if present is None or present.source != source or present.budget != self.placed(budget):
                await self.set(budget, source, by)

    def _aimed(self, budget: Budget) -> Budget | None:
        """With the id in place of an agent's name; ``None`` where there is no such agent yet."""
        if budget.scope != "agent" or budget.target in self._books.pending.agents:
            return budget
        agent = self._books.pending.names.get(budget.target)
        return None if agent is None else budget.model_copy(update={"target": agent})

    def _companions(self, event: ev.Event) -> Iterable[ev.Event]:
        """The budgets that an agent's declaration, or its name, brings with it: in the same commit."""
        if isinstance(event, ev.AgentCreated):
            if event.spec.budget is not None:
                yield self._of_spec(event.agent, event.spec.budget, event.owner)
            for (source, by), budgets in self._by_name.items():
                for budget in budgets:
                    if budget.target == event.spec.name:
                        aimed = self.placed(budget.model_copy(update={"target": event.agent}))
                        yield ev.BudgetSet(budget=aimed, source=source, by=by)
        elif isinstance(event, ev.AgentChanged):
            yield from self._changed(event)

    def _changed(self, event: ev.AgentChanged) -> Iterable[ev.Event]:
        agent = self._books.pending.agents.get(event.agent)
        name = spec_budget_name(event.agent)
        if agent is None or event.spec.budget == agent.spec.budget:
            return
        if event.spec.budget is None:
            if name in self._books.pending.budgets:
                yield ev.BudgetRemoved(name=name, by=event.by)
            return
        made = self._of_spec(event.agent, event.spec.budget, event.by)
        old = self._books.pending.budgets.get(name)
        if old is None or not same_account(old.budget, made.budget):
            self._owed.append(name)
            self._wake.set()
        yield made

    def _of_spec(self, agent: str, short: ShortBudget, by: str) -> ev.BudgetSet:
        budget = Budget(name=spec_budget_name(agent), scope="agent", target=agent, **short.model_dump())
        return ev.BudgetSet(budget=self.placed(budget), source="spec", by=by)

    async def run(self) -> None:
        """Read the past of windows that a changed spec began. One task, owned by the kernel."""
        while True:
            while self._owed:
                name = self._owed.pop()
                state = self._books.pending.budgets.get(name)
                if state is not None:
                    await self._reopen(state)
            self._wake = anyio.Event()
            await self._wake.wait()

    async def _reopen(self, state: BudgetState) -> None:
        try:
            async with self._lock:
                opening = await look_back(self._books, state.budget, self._now)
                present = self._books.pending.budgets.get(state.budget.name)
                if present is None or (present.budget, present.since) != (state.budget, state.since):
                    return  # replaced or removed meanwhile
                # Removed first: a budget that is only replaced would keep its account.
                ticket = self._books.post(
                    ev.BudgetRemoved(name=state.budget.name, by=state.by),
                    ev.BudgetSet(budget=state.budget, opening=opening, source=state.source, by=state.by),
                )
                await ticket
        except JournalUnavailable as error:
            log.warning("the budget %s counts from its change on: %s", state.budget.name, error)
