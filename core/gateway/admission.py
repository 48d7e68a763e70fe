"""Reserve before a call is forwarded: lines before budgets that are held by other calls, and questions.

A call that fits all its budgets is written down at once, between the look and the deed no other task runs.
One that fits only once others are settled stands in a line, one per account; only the first of a line is
woken when money comes back, and it wakes the next. One that would not fit even alone asks a person, or is
refused: what others give back cannot help it, only a new window, a new limit or an answer can, and these
wake everybody who asks, in the order they came.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import anyio

from ..agents.agent import Agent
from ..agents.states import Waiting
from ..budget.amount import dollars, nanos
from ..budget.state import Approval
from ..budget.verdict import Place, Short, Unpriced, in_words, shortages, worst
from ..budget.worst import Need
from ..clock import Clock
from ..errors import JournalUnavailable
from ..journal import events as ev
from ..journal.books import Books
from ..journal.events import CallStarted, conversation
from ..journal.journal import Ticket
from .acts import Job
from .approvals import new_approval, open_question
from .desk import Refused
from .gate import Gate
from .holding import Holding

log = logging.getLogger(__name__)

#: Seconds at most between two looks at whether a window has ended: wall clocks are set, machines sleep.
LOOK = 15.0


#: Seconds for which a person's no about a budget stands for the same agent's next calls, too.
DENIED = 60.0


@dataclass(slots=True, eq=False)
class Asker:
    """A call that has not got through its budgets."""

    started: CallStarted
    need: Need
    holding: Holding
    line: Place | None = None
    """The line it stands in."""
    asking: Place | None = None
    """The account it asks a person about."""
    approval: str | None = None
    breached: set[str] = field(default_factory=set)
    """Budgets of which it was said that it does not fit them."""
    froze: set[str] = field(default_factory=set)
    """Budgets that had its agent frozen."""
    refused: Refused | None = None
    """What a person's answer makes of it."""
    woken: anyio.Event = field(default_factory=anyio.Event)


class Admission:
    """Lets calls through their budgets.

    Args:
        jobs: Asked to do something to an agent (``Job``), with who stands in the journal for it.
        unpriced: What becomes of calls without a known price under a budget in USD.
    """

    def __init__(
        self,
        books: Books,
        clock: Clock,
        gate: Gate,
        jobs: Callable[[Job, str, str], None],
        unpriced: Unpriced = "pass",
    ) -> None:
        self._books = books
        self._clock = clock
        self._gate = gate
        self._jobs = jobs
        self.unpriced = unpriced
        self._lines: dict[Place, dict[Asker, None]] = {}
        self._asking: dict[Place, dict[Asker, None]] = {}
        self._by_agent: dict[str, dict[Asker, None]] = {}
        self._denied: dict[tuple[str, str], float] = {}
        """Agents and budgets about which a person said no, until when (monotonic)."""
        self._timer = anyio.Event()
        self._moved = True
        """A limit was changed, or a window may have ended while there was no kernel."""
        books.on_post(self._posted)
        books.on_refold(self._wake_all)

    @property
    def now(self) -> float:
        """The wall clock, and never before the journal's last time."""
        return max(self._clock.time(), self._books.journal.last_ts)

    # --- through ---------------------------------------------------------------------------------

    async def enter(self, started: CallStarted, need: Need, holding: Holding) -> None:
        """Return when the call and its reservation are durable.

        Raises:
            Refused: A budget, or a person, refuses it.
            JournalUnavailable: The journal takes nothing.
        """
        if (ticket := self._at_once(started, need, holding)) is not None:
            await ticket
            return
        asker = Asker(started, need, holding)
        family = self._by_agent.setdefault(started.agent, {})
        family[asker] = None
        try:
            ticket = await self._reserved(asker)
        finally:
            self._leave(asker)
            del family[asker]
            if not family:
                self._by_agent.pop(started.agent, None)
        await ticket

    def _at_once(self, started: CallStarted, need: Need, holding: Holding) -> Ticket | None:
        """Write a call down that nothing stands in the way of; ``None`` for others."""
        agent = self._gate.agent(started.agent)
        if self._gate.closed(agent):
            return None
        fleet, lines = self._books.pending, self._lines
        for _ in shortages(fleet, agent.id, need, self.now, self.unpriced, lines.__contains__):
            return None
        return self._books.post(*holding.ending(), _reserving(started, need))

    async def _reserved(self, asker: Asker) -> Ticket:
        while True:
            agent = self._gate.agent(asker.started.agent)
            if asker.refused is not None:
                raise asker.refused
            if self._gate.closed(agent):
                self._leave(asker)
                await self._gate.wait(asker.started.agent, asker.holding)
                continue
            found = list(
                shortages(
                    self._books.pending, agent.id, asker.need, self.now, self.unpriced, self._behind(asker)
                )
            )
            passes = {p.budget: p.approval for p in agent.passes if p.about == "budget"}
            # A person saw the figures of one budget: the pass says nothing about another.
            used = {name for short in found if (name := short.place[0]) in passes and _asks(short)}
            found = [short for short in found if short.place[0] not in used]
            if not found:
                return self._go(asker, [passes[name] for name in used])
            await self._wait(asker, agent, worst(found))

    def _behind(self, asker: Asker) -> Callable[[Place], bool]:
        def behind(place: Place) -> bool:
            line = self._lines.get(place)
            return line is not None and next(iter(line)) is not asker

        return behind

    def _go(self, asker: Asker, given: Iterable[str]) -> Ticket:
        """Write it down, in one commit with what ends its waiting."""
        self._thaw(asker)
        return self._books.post(
            *self._withdrawn(asker), *asker.holding.ending(), _reserving(asker.started, asker.need, given)
        )

    def _thaw(self, asker: Asker) -> None:
        for name in asker.froze:
            self._jobs("thaw", asker.started.agent, f"budget {name}")
        asker.froze.clear()

    async def _wait(self, asker: Asker, agent: Agent, short: Short) -> None:
        asker.woken = anyio.Event()
        if short.alone:
            self._breach(asker, agent, short)
        else:
            self._line_up(asker, short)
        await asker.woken.wait()

    def _line_up(self, asker: Asker, short: Short) -> None:
        """It would fit: wait until others are settled, behind those who came before."""
        if asker.line != short.place:
            self._leave_line(asker)
            asker.line = short.place
            self._join(self._lines, short.place, asker)
        if asker.asking is not None:
            self._thaw(asker)
            events = self._withdrawn(asker)
            self._leave_asking(asker)
            self._say(*events)
        asker.holding.because(Waiting.BUDGET, f"{short.place[0]}: what is left is held back for other calls")

    def _join(self, groups: dict[Place, dict[Asker, None]], place: Place, asker: Asker) -> None:
        if place not in groups:
            groups[place] = {}
            self._timer.set()
        groups[place][asker] = None

    # --- not even alone --------------------------------------------------------------------------

    def _breach(self, asker: Asker, agent: Agent, short: Short) -> None:
        """The hard limit acts.

        Raises:
            Refused: The budget's action is ``deny`` or ``kill``.
        """
        started, name = asker.started, short.place[0]
        state = self._books.pending.budgets[name]
        words = in_words(short, asker.need, state, started.model)
        asking = short.action in ("ask", "freeze")
        if asking and self._denied.get((agent.id, name), 0.0) > self._clock.monotonic():
            raise Refused("budget", f"a person refused this call: {words}")
        asked = open_question(self._books.pending, agent, "budget", name)
        # A client that comes again and again while a person is asked is one breach.
        if name not in asker.breached and (asked is None or not asking):
            asker.breached.add(name)
            self._say(
                ev.BudgetBreached(
                    name=name,
                    call=started.call,
                    agent=agent.id,
                    action=short.action,
                    **_figures(short, asker.need),
                )
            )
        if short.action == "kill":
            self._jobs("kill", agent.id, f"budget {name}")
        if not asking:
            raise Refused("budget", words)
        if asker.asking != short.place:
            self._leave_line(asker)
            self._leave_asking(asker)
            asker.asking = short.place
            self._join(self._asking, short.place, asker)
        asker.approval = self._ask(asker, agent, short, words)
        asker.holding.because(Waiting.BUDGET, words)
        if short.action == "freeze" and agent.freeze is None:
            asker.froze.add(name)
            self._jobs("freeze", agent.id, f"budget {name}")

    def _ask(self, asker: Asker, agent: Agent, short: Short, words: str) -> str:
        """The open question about this agent and budget; asked now, if it was not yet."""
        name, fleet = short.place[0], self._books.pending
        if (approval := open_question(fleet, agent, "budget", name)) is not None:
            return approval
        approval = new_approval(fleet.approvals)
        self._books.post(
            ev.ApprovalRequested(
                agent=agent.id,
                approval=approval,
                call=asker.started.call,
                about="budget",
                budget=name,
                session=conversation(asker.started),
                question=words,
                **_figures(short, asker.need),
            )
        )
        return approval

    def _withdrawn(self, asker: Asker) -> list[ev.Event]:
        """The question that this call need not ask any more, unless another call asks it, too."""
        approval = asker.approval
        if approval is None or approval not in self._books.pending.approvals:
            return []
        if any(other.approval == approval for other in self._others(asker)):
            return []
        asker.approval = None
        return [ev.ApprovalAnswered(agent=asker.started.agent, approval=approval, answer="withdrawn")]

    def _others(self, asker: Asker) -> list[Asker]:
        return [other for other in self._by_agent.get(asker.started.agent, ()) if other is not asker]

    def waits(self, approval: Approval) -> bool:
        """Whether a call still waits for this answer."""
        return any(asker.approval == approval.id for asker in self._by_agent.get(approval.agent, ()))

    def held(self) -> dict[str, int]:
        """How many calls each budget holds, by its name."""
        found: dict[str, int] = {}
        for groups in (self._asking, self._lines):
            for (name, _), group in groups.items():
                found[name] = found.get(name, 0) + len(group)
        return found

    # --- leaving ---------------------------------------------------------------------------------

    def _leave(self, asker: Asker) -> None:
        self._leave_line(asker)
        self._leave_asking(asker)

    def _leave_line(self, asker: Asker) -> None:
        if asker.line is None:
            return
        place, asker.line = asker.line, None
        line = self._lines[place]
        first = next(iter(line)) is asker
        del line[asker]
        if not line:
            del self._lines[place]
        elif first:
            self._wake_first(place)

    def _leave_asking(self, asker: Asker) -> None:
        if asker.asking is None:
            return
        place, asker.asking = asker.asking, None
        asker.approval = None
        del self._asking[place][asker]
        if not self._asking[place]:
            del self._asking[place]

    # --- money comes back ------------------------------------------------------------------------

    def _wake_first(self, place: Place) -> None:
        if line := self._lines.get(place):
            next(iter(line)).woken.set()

    def _wake_budget(self, name: str) -> None:
        for place in [place for place in self._asking if place[0] == name]:
            _wake(self._asking[place])
        for place in [place for place in self._lines if place[0] == name]:
            self._wake_first(place)

    def _wake_all(self) -> None:
        for groups in (self._asking, self._lines):
            for group in groups.values():
                _wake(group)

    def _posted(self, event: ev.Event) -> None:
        if isinstance(event, ev.BudgetSet | ev.BudgetExtended | ev.BudgetRemoved):
            self._moved = True  # questions that nobody waits for may be needless now
            self._timer.set()
        if not self._lines and not self._asking:
            return
        match event:
            case ev.CallSettled():
                self._settled(event.agent)
            case ev.BudgetSet():
                self._wake_budget(event.budget.name)
            case ev.BudgetExtended() | ev.BudgetRemoved():
                self._wake_budget(event.name)
            case ev.ApprovalAnswered():
                self._answered(event)
            case ev.AgentChanged():
                self._wake_all()
            case ev.RunExited() | ev.AgentRemoved():
                _wake(self._by_agent.get(event.agent, ()))
            case ev.RunStarting():
                for name in self._books.pending.cover.of(self._books.pending, event.agent):
                    if self._books.pending.budgets[name].budget.window == "task":
                        self._wake_budget(name)

    def _settled(self, agent: str) -> None:
        if not self._lines:
            return
        fleet = self._books.pending
        if agent not in fleet.agents:
            for place in list(self._lines):
                self._wake_first(place)
            return
        for name in fleet.cover.of(fleet, agent):
            self._wake_first((name, agent if fleet.budgets[name].per_agent else ""))

    def _answered(self, event: ev.ApprovalAnswered) -> None:
        for asker in list(self._by_agent.get(event.agent, ())):
            if asker.approval == event.approval:
                if event.answer == "deny":
                    self._note_denied(asker)
                    asker.refused = Refused("budget", f"a person refused this call: {asker.holding.detail}")
                elif event.answer == "kill":
                    asker.refused = Refused("ended", "a person ended this agent")
                asker.woken.set()

    def _note_denied(self, asker: Asker) -> None:
        """Claude Code and Gemini CLI ask once more when they are refused in the middle of a stream."""
        if asker.asking is not None:
            now = self._clock.monotonic()
            self._denied = {key: until for key, until in self._denied.items() if until > now}
            self._denied[asker.started.agent, asker.asking[0]] = now + DENIED

    # --- time ------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """When a window ends, or part of it, that somebody waits for."""
        now, found = self.now, []
        for name, key in {*self._asking, *self._lines, *self._deserted()}:
            state = self._books.pending.budgets.get(name)
            account = state.accounts.get(key) if state is not None else None
            if state is not None and account is not None:
                found.append(state.next_return(account, now))
        return min((moment for moment in found if moment is not None), default=None)

    def _deserted(self) -> set[Place]:
        """Accounts of open questions whose clients gave up."""
        fleet = self._books.pending
        places = set()
        for approval in fleet.approvals.values():
            state = fleet.budgets.get(approval.budget or "")
            if state is not None:
                places.add((state.budget.name, approval.agent if state.per_agent else ""))
        return places

    async def run(self) -> None:
        """Let calls go on when their windows end. One task, owned by the desk."""
        while True:
            if self._moved:
                self._moved = False
                self.sweep()
            due = self.due()
            wait = LOOK if due is None else min(LOOK, max(0.0, due - self.now))
            self._timer = anyio.Event()
            with anyio.move_on_after(wait + 0.001):
                await self._timer.wait()
            if due is not None and self.now >= due:
                self._wake_all()
                self._moved = True

    def sweep(self) -> None:
        """Withdraw questions whose calls would fit now and have nobody waiting: their agents may go on."""
        fleet = self._books.pending
        for approval in list(fleet.approvals.values()):
            if approval.about != "budget" or self.waits(approval):
                continue
            if self._would_fit(approval):
                self._say(ev.ApprovalAnswered(agent=approval.agent, approval=approval.id, answer="withdrawn"))
                by = f"budget {approval.budget}"
                self._jobs("thaw", approval.agent, by)
                self._jobs("resume", approval.agent, by)

    def _would_fit(self, approval: Approval) -> bool:
        fleet = self._books.pending
        usd = None if approval.needed_usd is None else nanos(approval.needed_usd)
        need = Need(usd, approval.needed_tokens or 0)
        found = shortages(fleet, approval.agent, need, self.now, "pass", lambda place: False)
        return not any(short.alone for short in found)

    def _say(self, *events: ev.Event) -> None:
        """Write down what follows from facts; the call's own event will tell if that fails."""
        try:
            self._books.post(*events)
        except JournalUnavailable as error:
            log.debug("not noted: %s", error)


def _asks(short: Short) -> bool:
    """Whether it is a person's answer that lets a call through here."""
    return short.alone and short.action in ("ask", "freeze")


def _reserving(started: CallStarted, need: Need, given: Iterable[str] = ()) -> CallStarted:
    """The call with what is reserved for it, and the passes it uses."""
    reserved: dict[str, float | int | str | None] = {
        "reserved_usd": None if need.usd is None else dollars(need.usd),
        "reserved_tokens": need.tokens,
    }
    if approvals := " ".join(filter(None, (started.approval, *given))):
        reserved["approval"] = approvals
    return started.model_copy(update=reserved)


def _wake(askers: Iterable[Asker]) -> None:
    for asker in list(askers):
        asker.woken.set()


def _figures(short: Short, need: Need) -> dict[str, float | int | None]:
    """Both figures of a breach: what the call needs, and what is left."""
    return {
        "needed_usd": None if need.usd is None or short.usd is None else dollars(need.usd),
        "left_usd": None if short.usd is None else dollars(max(0, short.left.usd)),
        "needed_tokens": None if short.tokens is None else need.tokens,
        "left_tokens": None if short.tokens is None else max(0, short.left.tokens),
    }
