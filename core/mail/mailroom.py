"""The bus as the kernel has it: opened with its limits and rules, and with all that follows it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Set
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ..agents.agent import Agent
from ..bus.books import Books as MailBooks
from ..bus.bus import Bus
from ..bus.errors import MailDamaged
from ..bus.message import unpack
from ..clock import Clock
from ..errors import JournalUnavailable
from ..journal import events as ev
from ..journal.books import Books
from . import shapes
from .deadlocks import Deadlocks
from .directory import Directory
from .gauge import MailGauge, ReplyWait
from .mailboxes import Mailboxes
from .rules import Rules
from .seals import Sealer
from .trace import Trace

if TYPE_CHECKING:
    from ..config import Config

log = logging.getLogger(__name__)

#: Seconds between two looks at what happened, and between two seals.
SPACING, SEAL = 0.2, 1.0

#: Dead letters that have an event of their own at one look, by mailbox and reason; the others share one.
DEATHS = 50

#: Events that are kept while the journal takes none.
OWED = 1_000

#: Seconds a kernel with nothing else to do waits for an agent that could go on to be given its mail.
UNREAD = 300.0


class Mailroom:
    """One per kernel. ``open`` it, then ``run`` it as a task; ``finish`` before the journal is closed."""

    def __init__(self, books: Books, clock: Clock, config: Config, owner: str, key: bytes) -> None:
        """``key`` is the state key, ``owner`` the person this kernel belongs to."""
        self._books = books
        self.clock = clock
        self._config = config
        settings = config.bus
        self.directory = Directory(books, owner)
        self.rules = Rules(settings.rules, self.directory.agent, self.directory.name)
        self.deadlocks = Deadlocks(self.directory, breaks=settings.deadlock == "break")
        self.trace = Trace(lambda: self.bus.pipeline.books, clock)
        self.resumable: Callable[[Agent], bool] = lambda agent: False
        """Whether an ended agent's next run could go on with its conversation."""
        self.touched: Callable[[Iterable[str]], None] = lambda agents: None
        """Told whose rows show something else now."""
        self.news = anyio.Event()
        """Set when something happened on the bus; another one each time."""
        self.bus: Bus
        self.mailboxes: Mailboxes
        self._key = key
        self._sealer = Sealer(key, books.committed.sealed)
        self._sealed = 0.0
        self._writing = anyio.Lock()
        self._owed: list[ev.Event] = []
        """What the journal has not taken yet."""
        self._waiting: frozenset[str] = frozenset()
        self._damaged = ""
        books.on_post(self._posted)

    async def open(self, path: Path) -> Bus:
        """Open the mail store.

        Raises:
            BusUnavailable: It cannot be opened. StoreTooNew: a newer version wrote it.
            ConfigError: The schema of a message type is none.
        """
        self.trace.news = self.deadlocks.news = self._something
        try:
            self.bus = await self._open(path)
        except MailDamaged as error:
            # Agents' calls are metered and forwarded by this kernel, too: they do not wait for a repair.
            aside = await anyio.to_thread.run_sync(_put_aside, path, self.clock.time())
            self._damaged = f"the mail store was damaged ({error.why}) and put aside as {aside}"
            log.error("%s; what was not read yet is in there", self._damaged)
            self.bus = await self._open(path)
        try:
            shapes.register(self._config, self.bus.schemas)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.bus.close()
            raise
        self.bus.desk.called = self.directory.name
        self.mailboxes = Mailboxes(
            self._books, self.bus, self.directory, self.clock, lambda agent: self.resumable(agent)
        )
        books = self.bus.pipeline.books
        messages = [books.messages[seq] for seq in sorted(books.messages)]
        # What an earlier kernel was killed before it could seal.
        unsealed = [message for message in messages if message.seq > self._books.committed.sealed]
        if unsealed:
            self._sealer.add(await self.bus.mail.whole(unsealed))
        self.trace.fill(messages)
        self.trace.seal = self._sealer.add
        self.bus.pipeline.listen(self.trace.heard)
        return self.bus

    async def _open(self, path: Path) -> Bus:
        return await Bus.open(
            path,
            self.clock,
            self._config.bus.limits(),
            self.rules.permit,
            self.deadlocks.found,
            self._books.committed.sealed,
        )

    @property
    def problem(self) -> str:
        """Why no mail is taken now, or what was lost; empty where all is well."""
        ailing = self.bus.pipeline.problem
        return "; ".join(text for text in (str(ailing) if ailing is not None else "", self._damaged) if text)

    async def run(self) -> None:
        """Keep mailboxes and agents together, and tell of what happens, for as long as the kernel lives."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.bus.run, name="bus")
            tasks.start_soon(self.mailboxes.run, name="mailboxes")
            tasks.start_soon(self._follow, name="mail trace")

    async def finish(self) -> None:
        """Write down what is not yet, the last seal too.

        Raises:
            JournalUnavailable: The journal takes nothing.
        """
        self.trace.digest()
        self._sealed = 0.0
        await self._write()

    # --- following -------------------------------------------------------------------------------

    def _something(self) -> None:
        self.news.set()

    async def _follow(self) -> None:
        while True:
            due = self._sealed + SEAL - self.clock.monotonic() if self._sealer.count else None
            with anyio.move_on_after(None if due is None else max(0.0, due)):
                await self.news.wait()
            self.news = anyio.Event()
            self.trace.digest()
            self._touch()
            try:
                await self._write()
            except JournalUnavailable as error:
                log.debug("the journal was not told of mail, and will be: %s", error)
                await anyio.sleep(SEAL)
            await anyio.sleep(SPACING)

    def _touch(self) -> None:
        """Rows whose mail or wait changed."""
        touched, self.trace.touched = self.trace.touched, set()
        boxes = self.bus.pipeline.books.boxes
        numbers = {number for one in touched for number in ((one,) if isinstance(one, int) else unpack(one))}
        waiting = self.bus.pipeline.books.waits.askers()
        names = {boxes[number].name for number in numbers if number in boxes} | (waiting ^ self._waiting)
        names.update(one for ring in self.deadlocks.changed(self.bus) for one in ring)
        self._waiting = waiting
        if rows := [name for name in names if not name.startswith("@")]:
            self.touched(rows)

    async def _write(self) -> None:
        events: list[ev.Event] = [*self.deadlocks.take(), *self._dead()]
        if self._sealer.count and self.clock.monotonic() - self._sealed >= SEAL:
            self._sealed = self.clock.monotonic()
            if (seal := self._sealer.take()) is not None:
                events.append(seal)
        self._owed = [*self._owed, *events][-OWED:]
        async with self._writing:
            if self._owed:
                owed, self._owed = self._owed, []
                try:
                    await self._books.commit(*owed)
                except BaseException:
                    self._owed = [*owed, *self._owed]
                    raise

    def _dead(self) -> list[ev.MailDied]:
        found = list(self.trace.take_dead().items())
        books = self.bus.pipeline.books
        events = []
        for (number, reason), died in found[:DEATHS]:
            mailbox = books.boxes[number].name
            message = self.trace.messages.get(died.message)
            sender = self.directory.name(message.sender) if message is not None else "?"
            events.append(
                ev.MailDied(
                    agent=None if mailbox.startswith("@") else mailbox,
                    mailbox=mailbox,
                    name=self.directory.name(mailbox),
                    message=died.message,
                    sender=sender,
                    reason=reason,
                    count=died.many,
                )
            )
        if rest := found[DEATHS:]:
            (_, reason), first = rest[0]
            events.append(
                ev.MailDied(
                    mailbox="*",
                    name=f"{len(rest)} more mailboxes",
                    message=first.message,
                    sender="several",
                    reason=f"{reason}, and others",
                    count=sum(died.many for _, died in rest),
                )
            )
        return events

    def _posted(self, event: ev.Event) -> None:
        if isinstance(event, ev.AgentCreated | ev.AgentChanged | ev.AgentRemoved):
            self.rules.forget()
            if not isinstance(event, ev.AgentRemoved):
                self.directory.remember(event.agent, event.spec.name)

    # --- what is shown ---------------------------------------------------------------------------

    def gauge(self, agent: Agent) -> MailGauge:
        """What is shown of an agent's mail."""
        books = self.bus.pipeline.books
        box = books.box_of(agent.id)
        if box is None:
            return MailGauge()
        return MailGauge(
            len(box.letters) if agent.id in books.names else None,
            books.messages[box.oldest].at if box.oldest is not None else None,
            len(box.dead),
            self._reply_wait(books, agent.id) if agent.live else None,
        )

    def _reply_wait(self, books: MailBooks, mailbox: str) -> ReplyWait | None:
        asked = books.waits.of(mailbox)
        if not asked:
            return None
        first = min(seq for requests in asked.values() for seq in requests)
        ring = next((ring for ring in self.deadlocks.standing(self.bus) if mailbox in ring), None)
        if ring is not None:
            text = f"deadlock: {self.deadlocks.turned(ring, mailbox)}"
        else:
            text = "reply of " + ", ".join(sorted(self.directory.name(one) for one in asked))
        return ReplyWait(text, books.messages[first].at, ring is not None)

    def topics(self) -> list[tuple[str, list[str], float]]:
        """Topics and patterns, who subscribes (mailboxes), and messages in the last minute; by name."""
        books = self.bus.pipeline.books
        found: dict[str, tuple[Set[int], float]] = {
            topic: (books.topics.subscribers(topic), rate) for topic, rate in self.trace.topics().items()
        }
        for pattern, numbers in books.topics.every().items():
            found.setdefault(pattern, (numbers, 0.0))
        return [
            (topic, sorted(books.boxes[number].name for number in numbers), rate)
            for topic, (numbers, rate) in sorted(found.items())
        ]

    @property
    def awaited(self) -> bool:
        """Whether an agent that can still read has mail: a reason for a kernel to stay.

        Not people's own mail, nor what lay unread for ``UNREAD`` seconds: it is on the disk, and the next
        kernel delivers it as well as this one.
        """
        books = self.bus.pipeline.books
        young = self.clock.time() - UNREAD
        for name, box in books.names.items():
            if box.letters and not name.startswith("@"):
                newest = books.messages.get(next(reversed(box.letters)))
                if newest is not None and newest.at > young:
                    return True
        return False


def _put_aside(path: Path, now: float) -> Path:
    """Rename a damaged store with all that belongs to it; nothing of it is deleted."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}")
    for end in ("-wal", "-shm", ""):
        old = path.with_name(path.name + end)
        if old.exists():
            old.rename(aside.with_name(aside.name + end))
    return aside
