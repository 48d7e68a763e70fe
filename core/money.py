"""The verbs about money: budgets, approvals, calls and usage."""

from __future__ import annotations

from collections.abc import Sequence

from . import callrows
from .agents import registry
from .agents.agent import Fleet
from .api import (
    AnswerRequest,
    ApprovalInfo,
    BudgetInfo,
    CallInfo,
    CallsRequest,
    ExtendRequest,
    Outcome,
    UsageRequest,
    UsageRow,
)
from .budget import views
from .budget.amount import said
from .budget.budget import Budget
from .budget.making import Budgets, spec_budget_name
from .budget.state import Approval, BudgetState
from .budget.usage import usage
from .budget.window import rolling
from .clock import Clock
from .errors import AgentTopError, Conflict, UsageError
from .gateway.calls import CallDesk
from .gateway.meters import Meters
from .journal import events as ev
from .journal.books import Books


class Money:
    """Budgets and held calls as people handle them.

    Attributes:
        made: Where budgets are made; its ``run`` is a task of the kernel's.
    """

    def __init__(self, books: Books, desk: CallDesk, meters: Meters, clock: Clock) -> None:
        self._books = books
        self._desk = desk
        self._meters = meters
        self._clock = clock
        self.made = Budgets(books, clock)

    @property
    def _fleet(self) -> Fleet:
        return self._books.committed

    @property
    def _now(self) -> float:
        return max(self._clock.time(), self._books.journal.last_ts)

    # --- budgets ---------------------------------------------------------------------------------

    def budgets(self) -> list[BudgetInfo]:
        """Every budget as it stands now."""
        return views.all_infos(self._fleet, self._meters, self._desk.admission.held(), self._now)

    def _info(self, name: str) -> BudgetInfo:
        state = self._fleet.budgets.get(name)
        if state is None:
            raise Conflict(f"the budget {name} is gone", "It was removed meanwhile")
        return views.info(state, self._fleet, self._meters, self._desk.admission.held(), self._now)

    async def set(self, budget: Budget, by: str) -> BudgetInfo:
        """Make or replace a budget; durable on return.

        Raises:
            NoSuchAgent: The agent it is for.
            UsageError: It is one that a spec makes.
        """
        if budget.scope == "agent":
            agent = registry.resolve(self._books.pending, budget.target)
            budget = budget.model_copy(update={"target": agent.id})
        state = self._books.pending.budgets.get(budget.name)
        if state is not None and state.source == "spec" and state.budget.target != budget.target:
            raise UsageError(
                f"the budget {budget.name} is not replaced",
                "An agent's own spec makes it",
                "Take another name",
            )
        await self.made.set(budget, "person", by)
        return self._info(budget.name)

    def _state(self, name: str) -> BudgetState:
        """A budget by its name; or an agent's own, by the agent."""
        budgets = self._books.pending.budgets
        if (state := budgets.get(name)) is not None:
            return state
        try:
            agent = registry.resolve(self._books.pending, name)
        except AgentTopError:
            agent = None
        if agent is not None and (state := budgets.get(spec_budget_name(agent.id))) is not None:
            return state
        raise UsageError(f"there is no budget {name}", "", "See agenttop budget")

    async def extend(self, request: ExtendRequest, by: str) -> BudgetInfo:
        """Add to a budget's limit until its present window ends.

        Raises:
            UsageError: There is no budget of this name, or it has no such limit.
        """
        state = self._state(request.name)
        await self._books.commit(self._extension(state, request.usd, request.tokens, None, by))
        return self._info(state.budget.name)

    def _extension(
        self, state: BudgetState, usd: float, tokens: int, agent: str | None, by: str
    ) -> ev.BudgetExtended:
        """The event for it, for good or until the window's end.

        Args:
            agent: Whose account, in a budget that has one for each agent; ``None`` is all of them.
        """
        budget = state.budget
        if not usd and not tokens:
            raise UsageError(f"the budget {budget.name} is extended by nothing", "", "Say by how much")
        for amount, limit, what in ((usd, budget.usd, "money"), (tokens, budget.tokens, "tokens")):
            if amount and limit is None:
                raise UsageError(f"the budget {budget.name} has no limit on {what}")
        account = state.look(agent or "")
        until = None
        if (window := rolling(budget)) is not None:
            until = self._now + window.length
        elif account is not None and account.end is not None:
            until = views.window(state, account, self._now)[1]
        key = agent if state.per_agent else None
        return ev.BudgetExtended(agent=key, name=budget.name, usd=usd, tokens=tokens, until=until, by=by)

    async def remove(self, name: str, by: str) -> None:
        """Take a budget away; calls it held go on.

        Raises:
            UsageError: There is none of this name.
        """
        await self.made.remove(self._state(name).budget.name, by)

    # --- approvals -------------------------------------------------------------------------------

    def approvals(self) -> list[ApprovalInfo]:
        """What waits for a person, oldest first."""
        desk, fleet = self._desk, self._fleet
        return [views.approval(found, fleet, desk.waits, desk.opened) for found in fleet.approvals.values()]

    async def answer(self, request: AnswerRequest, by: str) -> list[Outcome]:
        """Decide about held calls; one outcome per question."""
        outcomes: list[Outcome] = []
        for ref, approvals in self._chosen(request):
            if isinstance(approvals, AgentTopError):
                outcomes.append(Outcome(ref=ref, error=approvals.to_dict(), exit_code=approvals.exit_code))
                continue
            for approval in approvals:
                agent = self._books.pending.agents.get(approval.agent)
                outcome = Outcome(ref=ref, id=approval.agent, name=agent.name if agent else None)
                try:
                    done = await self._answer(approval, request, by)
                except AgentTopError as error:
                    update = {"error": error.to_dict(), "exit_code": error.exit_code}
                    outcomes.append(outcome.model_copy(update=update))
                else:
                    outcomes.append(outcome.model_copy(update={"done": done}))
        return outcomes

    def _chosen(self, request: AnswerRequest) -> list[tuple[str, Sequence[Approval] | AgentTopError]]:
        """The open questions that are meant, by their own ids or by their agents."""
        fleet = self._books.pending
        if request.all:
            return [(approval.id, [approval]) for approval in fleet.approvals.values()]
        chosen: list[tuple[str, Sequence[Approval] | AgentTopError]] = []
        refs = []
        for ref in dict.fromkeys(request.refs):
            if (approval := fleet.approvals.get(ref)) is not None:
                chosen.append((ref, [approval]))
            else:
                refs.append(ref)
        for ref, agent in registry.select(fleet, refs, children=request.children):
            if isinstance(agent, AgentTopError):
                chosen.append((ref, agent))
            elif agent.approvals:
                chosen.append((ref, [fleet.approvals[key] for key in agent.approvals]))
            elif ref in refs:
                chosen.append((ref, Conflict(f"nothing is asked about {agent.name}", f"It is {agent.shown}")))
        return chosen

    async def _answer(self, approval: Approval, request: AnswerRequest, by: str) -> str:
        if approval.id not in self._books.pending.approvals:
            raise Conflict(f"the question {approval.id} is settled", "Somebody else answered it")
        answer, about = request.answer, approval.about
        if answer in ("extend", "allow") and (answer == "extend") != (about == "budget"):
            other = "A runaway is allowed" if about == "runaway" else "A budget is extended"
            raise UsageError(f"{answer} does not answer this question", f"It is about a {about}", other)
        events: list[ev.Event] = [
            ev.ApprovalAnswered(
                agent=approval.agent,
                approval=approval.id,
                answer=answer,
                usd=request.usd,
                tokens=request.tokens,
                by=by,
            )
        ]
        state = self._books.pending.budgets.get(approval.budget or "")
        if answer == "extend":
            if state is None:
                raise Conflict(f"the budget {approval.budget} is gone", "It was removed meanwhile")
            events.append(self._extension(state, request.usd, request.tokens, approval.agent, by))
        await self._desk.answer(approval, events, answer, by)
        return _done(answer, approval, request)

    # --- calls -----------------------------------------------------------------------------------

    def _agents(self, refs: Sequence[str]) -> list[str] | None:
        return [registry.resolve(self._fleet, ref).id for ref in refs] or None

    async def calls(self, request: CallsRequest) -> list[CallInfo]:
        """Model calls one by one, newest last.

        Raises:
            NoSuchAgent: One of those named.
        """
        agents = self._agents(request.refs)
        found = callrows.open_calls(self._fleet, agents, self._desk.opened)
        if request.held:
            found = [call for call in found if call.state == "held"]
        else:
            records = await self._books.journal.tail(
                2 * request.limit, kinds=["CallStarted", "CallSettled"], agents=agents
            )
            found += callrows.settled_calls(records, self._fleet.agents)
        if request.since is not None:
            found = [call for call in found if call.started >= request.since]
        return sorted(found, key=lambda call: call.started)[-request.limit :]

    async def usage(self, request: UsageRequest) -> list[UsageRow]:
        """Sums over settled calls.

        Raises:
            NoSuchAgent: One of those named.
        """
        agents = self._agents(request.refs)
        return await usage(self._books.journal, request, None if agents is None else set(agents))


def _done(answer: str, approval: Approval, request: AnswerRequest) -> str:
    match answer:
        case "once":
            return "one call let through"
        case "extend":
            amounts = [said(request.usd)] if request.usd else []
            amounts += [f"{request.tokens:,} tokens"] if request.tokens else []
            return f"{approval.budget} extended by {' and '.join(amounts)}"
        case "allow":
            return "allowed to go on"
        case "deny":
            return "refused"
        case _:
            return "killed"
