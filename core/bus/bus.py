"""The bus: everything the kernel's doors may do with messages. One per mail store, on one event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Container, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio

from ..clock import Clock
from ..errors import Conflict, Forbidden
from .books import CLOSED
from .delivery import Deliveries, Delivery
from .errors import BusUnavailable, MailboxFull
from .mailbox import Mailbox
from .message import BROADCAST, DIRECT, REPLY, TOPIC, Draft, Limits
from .pipeline import Pipeline, Posted
from .posting import Desk, Permit, anyone, known
from .requests import OnDeadlock, Requests
from .schemas import Schemas
from .topics import levels

#: Seconds between two rounds when nothing is known to be due, and at least between two purges.
_ROUND = 5.0
_PURGE = 1.0


class Bus:
    """Send, publish, ask, take, acknowledge: ``async with await Bus.open(...)``, with ``run`` in a task."""

    def __init__(
        self, path: Path, clock: Clock, limits: Limits, permit: Permit, on_deadlock: OnDeadlock
    ) -> None:
        """Use ``open``."""
        self.clock = clock
        self.limits = limits
        self.schemas = Schemas()
        self.pipeline = Pipeline(path, clock, limits)
        self.desk = Desk(limits, clock, self.schemas, permit)
        self.mail = Deliveries(self.pipeline, self.desk)
        self.requests = Requests(self.pipeline, self.mail, on_deadlock)
        self._space: dict[int, list[asyncio.Future[None]]] = {}
        self._opening = anyio.Lock()
        self._nudge = anyio.Event()
        self._wake = 0.0
        self.pipeline.on_arrived = self._arrived
        self.pipeline.on_ended = self.requests.ended
        self.pipeline.on_rings = self.requests.rings
        self.mail.on_due = self._soon

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Clock,
        limits: Limits | None = None,
        permit: Permit = anyone,
        on_deadlock: OnDeadlock = lambda _: False,
        after: int = 0,
    ) -> Bus:
        """Open or create the mail store at ``path`` (mode 0600) and fold it.

        Numbers up to ``after`` are not given again, whatever the store knows of them.

        Raises:
            BusUnavailable: It cannot be opened; ``MailDamaged``: it cannot be read.
            StoreTooNew: A newer version wrote it.
        """
        bus = cls(path, clock, limits or Limits(), permit, on_deadlock)
        bus.pipeline.after = after
        try:
            await bus.pipeline.open()
            await bus._clear_closed()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await bus.close()
            raise
        return bus

    async def reopen(self) -> None:
        """Take work again after a failed commit, with books folded from what is on the disk.

        Raises:
            BusUnavailable: It still cannot be written or read.
        """
        await self.pipeline.open()
        self.desk.reading.clear()
        self.requests.reopened()
        self._arrived(self.pipeline.books.boxes)
        await self._clear_closed()

    async def close(self) -> None:
        """Commit what was posted and close the store."""
        await self.pipeline.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- mailboxes and subscriptions -------------------------------------------------------

    async def open_mailbox(self, name: str) -> None:
        """Give ``name`` a mailbox, durably; nothing if it has one."""
        await self.open_mailboxes((name,))

    async def open_mailboxes(self, names: Iterable[str]) -> None:
        """Give all of ``names`` mailboxes, durably; closed ones are opened again with their dead letters."""
        async with self._opening:
            books = self.pipeline.books
            lacking = [name for name in dict.fromkeys(names) if name not in books.names]
            if not lacking:
                return
            now = self.clock.time()
            old = [box for name in lacking if (box := books.closed.get(name)) is not None]
            first = max(books.boxes, default=0) + 1
            new = list(enumerate((name for name in lacking if name not in books.closed), first))

            def job(db: Any) -> None:
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    sql = "UPDATE mailboxes SET closed = NULL WHERE number = ?"
                    db.executemany(sql, [(box.number,) for box in old])
                    sql = "INSERT INTO mailboxes VALUES (?, ?, ?, NULL)"
                    db.executemany(sql, [(number, name, now) for number, name in new])

            await self.pipeline.run(job)
            for number, name in (*((box.number, box.name) for box in old), *new):
                self.pipeline.books.open(number, name)

    async def close_mailbox(self, name: str) -> None:
        """The agent has ended for good: its mail becomes dead letters, its requests and subscriptions end.

        Raises:
            NoSuchMailbox: It has none.
        """
        async with self._opening:
            books = self.pipeline.books
            box = known(books, name)
            self.pipeline.check()
            # From here on nothing is sent to it; what was posted before is in the books after the commit.
            books.close(box.number)
            now = self.clock.time()

            def job(db: Any) -> None:
                db.execute("BEGIN IMMEDIATE")
                db.execute("UPDATE mailboxes SET closed = ? WHERE number = ?", (now, box.number))
                db.execute("DELETE FROM subscriptions WHERE mailbox = ?", (box.number,))
                db.execute("COMMIT")

            await self.pipeline.run(job)
            self.desk.reading.pop(name, None)
            await self._clear(box)

    async def _clear_closed(self) -> None:
        """End what a crash in ``close_mailbox`` left."""
        books = self.pipeline.books
        for box in tuple(books.boxes.values()):
            if box.letters and books.names.get(box.name) is not box:
                await self._clear(box)

    async def _clear(self, box: Mailbox) -> None:
        batch = None
        for letter in tuple(box.letters.values()):
            if not letter.leaving:
                batch = self.mail.bury(box, letter, "closed")
        for request in tuple(self.pipeline.books.requests.values()):
            if request.asker == box.name or (
                request.mailbox == box.number and request.seq not in box.letters
            ):
                batch = self.pipeline.mark(request.seq, request.mailbox, CLOSED, "closed")
        if batch is not None:
            await batch

    async def subscribe(self, name: str, pattern: str) -> None:
        """Deliver to ``name`` what is published to topics that fit ``pattern``, from now on and durably.

        Raises:
            BadMessage: It is no pattern. NoSuchMailbox: there is none.
        """
        levels(pattern, pattern=True)
        number, now = known(self.pipeline.books, name).number, self.clock.time()
        sql = "INSERT OR IGNORE INTO subscriptions VALUES (?, ?, ?)"
        await self.pipeline.run(lambda db: db.execute(sql, (number, pattern, now)) and None)
        self.pipeline.books.topics.add(pattern, number)

    async def unsubscribe(self, name: str, pattern: str) -> None:
        """End a subscription; nothing if there is none."""
        number = known(self.pipeline.books, name).number
        sql = "DELETE FROM subscriptions WHERE mailbox = ? AND pattern = ?"
        await self.pipeline.run(lambda db: db.execute(sql, (number, pattern)) and None)
        self.pipeline.books.topics.remove(pattern, number)

    # --- sending ---------------------------------------------------------------------------

    def post(
        self,
        sender: str,
        to: str,
        draft: Draft,
        *,
        reply_to: int | None = None,
        deadline: float | None = None,
    ) -> Posted:
        """Accept a direct message; it is durable when the batch returned has been awaited.

        Raises:
            BadMessage, Forbidden, TooFast, TooManyHops, NoSuchMailbox, MailboxFull, BusUnavailable:
            Not accepted, and nothing of it is kept.
        """
        self.pipeline.check()
        self.desk.admit(sender, DIRECT if reply_to is None else REPLY, to, draft)
        if draft.key and (before := self._before(sender, draft.key)) is not None:
            return before
        books = self.pipeline.books
        box = known(books, to)
        if reply_to is None:  # replies are bounded by the requests that are open
            self.desk.room(box)
        seq = self.pipeline.next_seq
        message = self.desk.message(books, seq, sender, DIRECT, to, draft, (box,), reply_to, deadline)
        posted = self.pipeline.message(message, (box,))
        if draft.expires is not None or deadline is not None:
            self._due(message.expires, deadline)
        return posted

    def _before(self, sender: str, key: str) -> Posted | None:
        """The message this sender sent with this key already."""
        pending = self.pipeline.pending_keys.get((sender, key))
        if pending is not None:
            return Posted(pending.seq, pending.batch, again=True)
        found = self.pipeline.books.keys.get((sender, key))
        if found is None:
            return None
        return Posted(found[0], self.pipeline.settled, again=True)

    async def send(self, sender: str, to: str, draft: Draft, *, patience: float = 0.0) -> str:
        """Send a direct message and return its id when it is durable.

        A full mailbox is waited for up to ``patience`` seconds. Raises as ``post``.
        """
        give_up = self.clock.monotonic() + patience
        while True:
            try:
                posted = self.post(sender, to, draft)
                break
            except MailboxFull:
                left = give_up - self.clock.monotonic()
                if left <= 0:
                    raise
                with anyio.move_on_after(left):
                    await self._room(known(self.pipeline.books, to))
        await posted.batch
        return f"m{posted.seq}"

    async def _room(self, box: Mailbox) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._space.setdefault(box.number, []).append(waiter)
        await waiter

    def post_all(
        self, sender: str, topic: str | None, draft: Draft, spared: Container[str] = ()
    ) -> tuple[Posted, int, int]:
        """Accept a message for a topic's subscribers, or (``None``) for all but the sender and ``spared``.

        A subscriber whose mailbox is full gets it as a dead letter. Returns the message, how many
        get it, and how many of those mailboxes were full. Raises as ``post``.
        """
        self.pipeline.check()
        mode, to = (BROADCAST, "*") if topic is None else (TOPIC, topic)
        self.desk.admit(sender, mode, to, draft)
        if draft.key and (before := self._before(sender, draft.key)) is not None:
            return before, 0, 0
        books = self.pipeline.books
        if topic is None:
            boxes = [box for box in books.names.values() if box.name != sender and box.name not in spared]
        else:
            every = books.boxes
            boxes = [every[number] for number in sorted(books.topics.subscribers(topic))]
        depth = self.limits.depth
        full = [box for box in boxes if box.depth >= depth]
        message = self.desk.message(books, self.pipeline.next_seq, sender, mode, to, draft, boxes)
        posted = self.pipeline.message(message, boxes)
        for box in full:
            self.mail.refuse(box, message.seq)
        self._due(message.expires, None)
        return posted, len(boxes), len(full)

    async def publish(self, sender: str, topic: str, draft: Draft) -> tuple[str, int, int]:
        """``post_all`` for a topic, returning with the id when durable."""
        posted, count, full = self.post_all(sender, topic, draft)
        await posted.batch
        return f"m{posted.seq}", count, full

    async def broadcast(self, sender: str, draft: Draft) -> tuple[str, int, int]:
        """``post_all`` for everybody but the sender, returning with the id when durable."""
        posted, count, full = self.post_all(sender, None, draft)
        await posted.batch
        return f"m{posted.seq}", count, full

    # --- asking ----------------------------------------------------------------------------

    async def ask(self, sender: str, to: str, draft: Draft, timeout: float) -> Delivery:
        """Send a request and wait up to ``timeout`` seconds for its reply; cancelling cancels both.

        Raises:
            NoReply: There was none in time. Deadlock: it would have waited for itself.
            Conflict: its idempotency key was used before. Others as ``post``.
        """
        known(self.pipeline.books, sender)
        posted = self.post(sender, to, draft, deadline=self.clock.time() + timeout)
        if posted.again:
            raise Conflict(
                f"m{posted.seq} was asked with this key already",
                "Whoever asked it waits for its reply, or finds that in the inbox",
                "Look into the inbox, or ask with another key",
            )
        return await self.requests.reply_to(posted, known(self.pipeline.books, to).number)

    async def reply(self, sender: str, request: int, draft: Draft) -> str:
        """Answer a request and acknowledge it, in one commit; returns the reply's id when durable.

        Raises:
            Conflict: Nobody waits for it any more. Forbidden: somebody else was asked. Others as ``post``.
        """
        if draft.key and (before := self._before(sender, draft.key)) is not None:
            await before.batch
            return f"m{before.seq}"
        asked = self.pipeline.books.requests.get(request)
        if asked is None or request in self.requests.answering:
            raise Conflict(
                f"nobody waits for a reply to m{request}",
                "It was answered or cancelled, its deadline passed, or it was no request",
                "Send a message instead",
            )
        if asked.asked != sender:
            raise Forbidden(f"m{request} was put to {asked.asked}, not to {sender}")
        self.mail.check_order(sender, request)
        posted = self.post(sender, asked.asker, draft, reply_to=request)
        self.mail.post_ack(sender, [request])
        self.requests.answering.add(request)
        try:
            await posted.batch
        finally:
            if posted.batch.done:
                self.requests.answering.discard(request)
        return f"m{posted.seq}"

    # --- time ------------------------------------------------------------------------------

    def _arrived(self, numbers: Any) -> None:
        self.mail.arrived(numbers)
        for number in [number for number in self._space if number in numbers]:
            room = self.limits.depth - self.pipeline.books.boxes[number].depth
            waiters = self._space.pop(number)
            for waiter in waiters[: max(room, 0)]:
                if not waiter.done():
                    waiter.set_result(None)
            if waiters[max(room, 0) :]:
                self._space[number] = waiters[max(room, 0) :]

    def _due(self, *moments: float | None) -> None:
        for moment in moments:
            if moment is not None:
                self._soon(self.clock.monotonic() + moment - self.clock.time())

    def _soon(self, moment: float) -> None:
        if moment < self._wake:
            self._nudge.set()

    def tick(self) -> float:
        """Do what time has brought: redelivery, expiry, deadlines. Returns monotonic seconds of the next.

        Raises:
            BusUnavailable: The store takes nothing now; what was due stays due.
        """
        self.pipeline.check()
        now, wall = self.clock.monotonic(), self.clock.time()
        next_lapse = self.mail.lapse(now)
        next_due = self.mail.fall_due(wall)
        self.desk.rates.trim(now)
        return min(next_lapse, math.inf if next_due == math.inf else now + next_due - wall)

    async def run(self) -> None:
        """Keep time for ever, and open the store again when it failed. The owner's task group ends it."""
        purged = 0.0
        while True:
            self._nudge = anyio.Event()
            now = self.clock.monotonic()
            try:
                if self.pipeline.problem is not None:
                    await self.reopen()
                self._wake = min(self.tick(), now + _ROUND)
                if now - purged >= _PURGE:
                    purged = now
                    await self.pipeline.purge()
            except BusUnavailable:
                self._wake = now + 1.0
            with anyio.move_on_after(max(0.0, self._wake - self.clock.monotonic())):
                await self._nudge.wait()
