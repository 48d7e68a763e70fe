"""Calls of agents that seem to run in circles: held, and a person asked."""

from __future__ import annotations

import anyio

from ..agents.agent import Agent
from ..agents.states import Waiting
from ..budget.state import Approval
from ..clock import Clock
from ..journal import events as ev
from ..journal.books import Books
from ..journal.events import CallStarted, conversation
from .approvals import new_approval, open_question
from .desk import Refused
from .gate import Gate
from .holding import Holding
from .runaway import Runaway


class _Question:
    """A question that calls wait for."""

    def __init__(self) -> None:
        self.calls = 0
        self.answer = ""
        self.answered = anyio.Event()


class Suspicion:
    """Asks about runaways. There is one open question for an agent; all its suspect calls wait for it."""

    def __init__(self, books: Books, clock: Clock, gate: Gate, runaway: Runaway) -> None:
        self._books = books
        self._clock = clock
        self._gate = gate
        self._runaway = runaway
        self._questions: dict[str, _Question] = {}
        self._using: dict[str, str] = {}
        """Passes that a call has and the journal does not know used yet → that call."""
        books.on_post(self._posted)
        books.on_refold(self._wake)

    async def cleared(self, started: CallStarted, fingerprint: int | None, holding: Holding) -> CallStarted:
        """Return when the call may go on: as it is, or with the approval that lets it through.

        ``left`` follows, however the call goes on.

        Raises:
            Refused: A person refused it, or its agent has ended.
            JournalUnavailable: Nobody can be asked.
        """
        why = self._runaway.asked(started.agent, fingerprint, self._clock.monotonic())
        while why is not None:
            agent = self._gate.agent(started.agent)
            for given in agent.passes:
                if given.about == "runaway" and given.approval not in self._using:
                    self._using[given.approval] = started.call
                    return started.model_copy(update={"approval": given.approval})
            holding.because(Waiting.APPROVAL, why)
            answer = await self._answer(agent, started, why)
            if answer == "allow":
                break
            if answer == "deny":
                raise Refused("policy", f"a person refused this call: {why}")
            if answer == "kill":
                raise Refused("ended", "a person ended this agent")
        return started

    def left(self, call: str) -> None:
        """The call was written down, or given up."""
        for approval in [key for key, user in self._using.items() if user == call]:
            del self._using[approval]

    async def _answer(self, agent: Agent, started: CallStarted, why: str) -> str:
        """Wait for an answer; empty where only something changed."""
        approval = open_question(self._books.pending, agent, "runaway")
        if approval is None:
            approval = new_approval(self._books.pending.approvals)
            self._books.post(
                ev.ApprovalRequested(
                    agent=agent.id,
                    approval=approval,
                    call=started.call,
                    about="runaway",
                    session=conversation(started),
                    question=why,
                )
            )
        question = self._questions.setdefault(approval, _Question())
        question.calls += 1
        self._runaway.paused(agent.id, self._clock.monotonic())
        try:
            await question.answered.wait()
        finally:
            question.calls -= 1
            if not question.calls:
                if self._questions.get(approval) is question:
                    del self._questions[approval]
                self._resumed(agent.id)
        return question.answer

    def _resumed(self, agent: str) -> None:
        record = self._books.pending.agents.get(agent)
        if record is None or record.pause is None:
            self._runaway.resumed(agent, self._clock.monotonic())

    def waits(self, approval: Approval) -> bool:
        """Whether a call still waits for this answer."""
        return approval.id in self._questions

    def answered(self, agent: str, fingerprint: int | None) -> None:
        """A call succeeded."""
        self._runaway.answered(agent, fingerprint, self._clock.monotonic())

    def forget(self, agent: str) -> None:
        """The agent is gone."""
        self._runaway.forget(agent)

    def _posted(self, event: ev.Event) -> None:
        match event:
            case ev.ApprovalAnswered():
                if event.answer == "allow":
                    self._runaway.allow(event.agent)
                self._tell(event.approval, event.answer)
            case ev.AgentPaused():
                self._runaway.paused(event.agent, self._clock.monotonic())
            case ev.AgentResumed():
                self._resumed(event.agent)
            case ev.RunExited() if self._questions:
                self._wake()

    def _tell(self, approval: str, answer: str) -> None:
        """Calls that come after ask anew."""
        if (question := self._questions.pop(approval, None)) is not None:
            question.answer = answer
            question.answered.set()

    def _wake(self) -> None:
        for approval in list(self._questions):
            self._tell(approval, "")
