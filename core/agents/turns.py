"""Mail at the next turn: agents that do not read their mailbox are told what is in it.

At a terminal it is pasted in where the program waits at its prompt: not into a question, not while a person
types. A headless program is told when it goes on with its conversation: at its next run, which a message
begins by itself where the spec says ``wake``. Mail is leased meanwhile, and acknowledged when the agent
makes a call after it was told. Whatever dies before that, the mail is told once more: at least once.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio

from ..bus.books import Mark
from ..bus.bus import Bus
from ..bus.delivery import Delivery
from ..bus.errors import NoSuchMailbox, NoSuchMessage
from ..bus.message import Message, unpack
from ..clock import Clock
from ..errors import AgentTopError
from ..journal import events as ev
from ..journal.books import Books
from ..journal.events import Event, Record
from . import mailtext
from .agent import Agent
from .states import State, Waiting
from .supervisor import Supervisor
from .terminals import Terminals

log = logging.getLogger(__name__)

#: Seconds for which told mail is nobody else's; a call comes within that, or it is told again.
LEASE = 300.0

#: Seconds that a person at a terminal must have pressed no key.
QUIET = 20.0

#: Seconds between two runs that messages begin, of one agent.
WAKE_EVERY = 10.0

#: How many agents are told at once.
AT_ONCE = 4

#: Seconds between two looks at an agent that could not be told.
AGAIN = 2.0

BY = "mail"
"""Who stands in the journal for what is typed and begun here."""

_TOLD = frozenset({"turn", "wake"})


@dataclass(slots=True)
class _Told:
    """Mail that an agent was told and has not made a call after."""

    run: int
    seqs: list[int]
    until: float
    """Monotonic seconds; without a call until then it is told again."""


class Turns:
    """``run`` is one task of the kernel.

    Args:
        name: Of a mailbox's owner.
        conversation: What an agent's next run can go on with; ``None``: nothing.
        calls: Whether an agent's program makes model calls: whoever makes none has it once it is typed.
    """

    def __init__(
        self,
        books: Books,
        bus: Bus,
        supervisor: Supervisor,
        terminals: Terminals,
        clock: Clock,
        *,
        name: Callable[[str], str],
        conversation: Callable[[Agent], str | None],
        calls: Callable[[Agent], bool],
    ) -> None:
        self._books = books
        self._bus = bus
        self._supervisor = supervisor
        self._terminals = terminals
        self._clock = clock
        self._name = name
        self._conversation = conversation
        self._calls = calls
        self._told: dict[str, _Told] = {}
        self._due: dict[str, float] = {}
        """Whom to look at, by monotonic seconds."""
        self._busy: set[str] = set()
        self._woken: dict[str, float] = {}
        self._over: list[tuple[str, _Told, bool]] = []
        """What was told and is decided: whether the agent has it."""
        self._news = anyio.Event()
        self._slots = anyio.CapacityLimiter(AT_ONCE)
        books.listen(self._committed)
        bus.pipeline.listen(self._posted)

    # --- a run begins ----------------------------------------------------------------------------

    async def first(self, agent: Agent) -> str | None:
        """What a headless run that goes on with a conversation is told; ``None``: its mailbox is empty.

        Its mail is leased from then on; a start that fails gives it back.
        """
        run = agent.run
        if run is None or run.resume is None or agent.spec.backend == "terminal":
            return None
        if agent.spec.mail not in _TOLD or (agent.origin is not None and agent.provider is None):
            return None
        deliveries = await self._take(agent)
        if not deliveries:
            return None
        self._tells(agent.id, run.number, deliveries)
        return mailtext.told(deliveries, self._name)

    def _tells(self, agent: str, run: int, deliveries: Sequence[Delivery]) -> _Told:
        """What it does from now on is caused by this mail, also once that is acknowledged."""
        until = self._clock.monotonic() + LEASE
        told = self._told[agent] = _Told(run, [one.message.seq for one in deliveries], until)
        self._bus.desk.began(agent, max((one.message for one in deliveries), key=lambda one: one.hops))
        return told

    async def _take(self, agent: Agent) -> list[Delivery]:
        mail = self._bus.mail
        mail.telling.add(agent.id)  # one frozen for being idle is thawed to be told
        try:
            return await mail.take(agent.id, mailtext.MOST, run=mailtext.MOST, visible_after=LEASE)
        except NoSuchMailbox:
            return []
        finally:
            mail.telling.discard(agent.id)

    # --- following -------------------------------------------------------------------------------

    def _posted(self, items: Sequence[Message | Mark]) -> None:
        boxes = self._bus.pipeline.books.boxes
        for item in items:
            if type(item) is Message:
                for number in unpack(item.boxes):
                    if number in boxes:
                        self._look(boxes[number].name)

    def _committed(self, batch: Sequence[tuple[Record, Event]]) -> None:
        for record, event in batch:
            agent = record.agent
            if agent is None:
                continue
            told = self._told.get(agent)
            if told is not None and _called(event, told.run):
                self._decide(agent, had=True)
            elif told is not None and isinstance(event, ev.RunExited) and event.run == told.run:
                self._decide(agent, had=False)
            elif isinstance(event, ev.AgentRemoved):
                self._woken.pop(agent, None)
                self._told.pop(agent, None)
            if _begins_anew(event):
                self._bus.desk.over(agent)
            if agent in self._books.committed.agents:
                self._look(agent)

    def _decide(self, agent: str, *, had: bool) -> None:
        self._over.append((agent, self._told.pop(agent), had))
        self._news.set()

    def _look(self, mailbox: str, after: float = 0.0) -> None:
        """Look at an agent soon, if it is one that is told its mail and there is some."""
        agent = self._books.pending.agents.get(mailbox)
        if agent is None or agent.spec.mail not in _TOLD or not self._waits(mailbox):
            return
        due = self._clock.monotonic() + after
        if self._due.get(mailbox, due + 1) > due:
            self._due[mailbox] = due
            self._news.set()

    def _waits(self, mailbox: str) -> bool:
        box = self._bus.pipeline.books.names.get(mailbox)
        return box is not None and bool(box.letters)

    async def run(self) -> None:
        """Tell everybody what is theirs, for as long as the kernel lives."""
        for agent in list(self._books.committed.agents):
            self._look(agent)
        async with anyio.create_task_group() as tasks:
            while True:
                self._news = anyio.Event()
                over, self._over = self._over, []
                for agent_id, told, had in over:
                    tasks.start_soon(self._settle, agent_id, told, had)
                now = self._clock.monotonic()
                for agent_id in [key for key, due in self._due.items() if due <= now]:
                    del self._due[agent_id]
                    if agent_id not in self._busy:
                        self._busy.add(agent_id)
                        tasks.start_soon(self._consider, agent_id, name=f"mail {agent_id}")
                nearest = min(self._due.values(), default=None)
                with anyio.move_on_after(None if nearest is None else max(0.0, nearest - now)):
                    await self._news.wait()

    async def _settle(self, agent: str, told: _Told, had: bool) -> None:
        """Acknowledge what the agent has, or give back what it has not."""
        try:
            if had:
                await self._bus.mail.ack(agent, told.seqs)
            else:
                self._give_back(agent, told.seqs)
        except NoSuchMailbox:
            pass  # closed meanwhile
        except AgentTopError as error:
            log.warning("mail of %s was told and will be told again: %s", agent, error)
        self._look(agent)

    def _give_back(self, agent: str, seqs: Sequence[int]) -> None:
        for seq in seqs:
            with contextlib.suppress(NoSuchMessage):  # it has lapsed, or was given back with one before it
                self._bus.mail.release(agent, seq)

    async def _consider(self, agent_id: str) -> None:
        async with self._slots:
            again: float | None = None
            try:
                agent = self._books.pending.agents.get(agent_id)
                self._let_lapse(agent_id)
                if agent is not None and agent_id not in self._told and self._ready(agent_id):
                    again = await (self._type(agent) if _at_prompt(agent) else self._wake(agent))
            except AgentTopError as error:
                log.info("%s was not told its mail: %s", agent_id, error)
                again = AGAIN
            finally:
                self._busy.discard(agent_id)
            if again is not None:
                self._look(agent_id, again)
            elif (told := self._told.get(agent_id)) is not None:
                self._look(agent_id, max(AGAIN, told.until - self._clock.monotonic()))

    def _let_lapse(self, agent: str) -> None:
        """What was told and led to no call is told again, unless the agent is stopped meanwhile."""
        told = self._told.get(agent)
        if told is not None and told.until <= self._clock.monotonic() and not self._bus.mail.held(agent):
            self._decide(agent, had=False)

    def _ready(self, agent: str) -> bool:
        """Whether something in its mailbox is in nobody's hands."""
        box = self._bus.pipeline.books.names.get(agent)
        return box is not None and any(not one.until and not one.leaving for one in box.letters.values())

    # --- at a terminal ---------------------------------------------------------------------------

    async def _type(self, agent: Agent) -> float | None:
        """Tell an agent at its prompt; seconds to wait where that must not be now."""
        run = self._supervisor.runs.get(agent.id)
        if run is None or self._books.pending.halted:
            return AGAIN
        quiet = await self._quiet(agent)
        if quiet < QUIET:
            return QUIET - quiet
        deliveries = await self._take(agent)
        record = self._books.pending.agents.get(agent.id)
        if not deliveries:
            return None
        if record is None or not _at_prompt(record):  # meanwhile
            self._give_back(agent.id, [one.message.seq for one in deliveries])
            return AGAIN
        told = self._tells(agent.id, run.number, deliveries)
        try:
            await self._terminals.tell(record, mailtext.told(deliveries, self._name), BY)
        except BaseException:
            if self._told.get(agent.id) is told:
                self._decide(agent.id, had=False)
            raise
        if self._told.get(agent.id) is told and not self._calls(record):
            self._decide(agent.id, had=True)
        return None

    async def _quiet(self, agent: Agent) -> float:
        """Seconds since a person may have typed something that is not sent yet."""
        run = self._supervisor.runs[agent.id]
        keyed = await run.backend.keyed(run.ref)
        quiet = self._terminals.quiet_since(agent.id)
        # Keys pressed before its last turn were sent with that.
        if keyed is not None and keyed > agent.since:
            quiet = min(quiet, time.time() - keyed)
        return quiet

    # --- headless --------------------------------------------------------------------------------

    async def _wake(self, agent: Agent) -> float | None:
        """Begin the run of an agent that a message may begin; seconds to wait where not now."""
        if agent.spec.mail != "wake" or not agent.over or agent.spec.backend == "terminal":
            return None
        if agent.run is None or agent.run.cause != "exit":
            return None  # a person ended it, or it never ran
        if self._books.pending.halted:
            return AGAIN
        session = self._conversation(agent)
        if session is None:
            return None
        now = self._clock.monotonic()
        wait = self._woken.get(agent.id, now - WAKE_EVERY) + WAKE_EVERY - now
        if wait > 0:
            return wait
        self._woken[agent.id] = now
        await self._supervisor.start(agent.id, "resume", BY, session)
        return None


def _called(event: Event, run: int) -> bool:
    """Whether an agent asks its model something: what it was told before is part of that."""
    return isinstance(event, ev.CallHeld) or (isinstance(event, ev.CallStarted) and event.run == run)


def _begins_anew(event: Event) -> bool:
    """Whether what an agent does from here on has nothing to do with the mail it was told before."""
    if isinstance(event, ev.TerminalTyped):
        return event.by != BY
    return isinstance(event, ev.RunExited | ev.AgentRemoved)


def _at_prompt(agent: Agent) -> bool:
    """Whether its program waits at its prompt for whatever comes: no call, no question, nobody's freeze."""
    return (
        agent.live
        and agent.run is not None
        and agent.run.keyboard
        and agent.state is State.WAITING
        and agent.reason is Waiting.INPUT
        and not agent.detail
        and not agent.calls
        and not agent.approvals
        and agent.stopping is None
        and agent.hold is None
        and (agent.freeze is None or agent.freeze.idle)
    )
