"""Handing out mail and taking acknowledgements: at least once, in order, with a way out for poison."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import anyio

from . import tables
from .books import ACKED, CLOSED, DEAD, DROPPED, LAPSED, REVIVED
from .errors import NoSuchMessage, OutOfOrder
from .mailbox import Lane, Letter, Mailbox
from .message import Message, unpack
from .pipeline import Pipeline
from .posting import Desk, known
from .writer import Batch

#: Bytes of payload that are handed out at once: what everybody else waits for while it is written.
ANSWER = 8 << 20


class Delivery(NamedTuple):
    """A message as it is handed to its receiver; ``attempt`` is 1 the first time."""

    message: Message
    attempt: int


class DeadLetter(NamedTuple):
    """A message that was given up, and why."""

    message: Message
    reason: str
    attempts: int


class Deliveries:
    """What receivers do: take, acknowledge, give back; and what happens to what they leave."""

    def __init__(self, pipeline: Pipeline, desk: Desk) -> None:
        self._pipe = pipeline
        self._desk = desk
        self._news: dict[int, anyio.Event] = {}
        self._watching: dict[int, list[Callable[[], None]]] = {}
        self._leases: list[tuple[float, int, int]] = []
        #: Called with monotonic seconds at which there will be something to do.
        self.on_due: Callable[[float], None] = lambda _: None
        #: Whether a receiver is stopped: it is handed nothing, and what it has does not run out.
        self.held: Callable[[str], bool] = lambda _: False
        #: Receivers that are handed theirs although they are stopped: they go on to be told of it.
        self.telling: set[str] = set()

    def let_go(self, names: Iterable[str] | None = None) -> None:
        """These receivers (default: all) are stopped no longer."""
        open_ = self._pipe.books.names
        boxes = open_.values() if names is None else [open_[name] for name in names if name in open_]
        self.arrived([box.number for box in boxes])

    def arrived(self, numbers: Iterable[int]) -> None:
        """There may be something to take in these mailboxes."""
        if self._news:
            for number in numbers:
                news = self._news.pop(number, None)
                if news is not None:
                    news.set()
        if self._watching:
            for number in numbers:
                for call in self._watching.pop(number, ()):
                    call()

    def watch(self, name: str, call: Callable[[], None]) -> Callable[[], None]:
        """Call back once when there may be something to take; returns a function that ends it.

        Raises:
            NoSuchMailbox: There is none (any more).
        """
        number = known(self._pipe.books, name).number
        self._watching.setdefault(number, []).append(call)

        def end() -> None:
            calls = self._watching.get(number)
            if calls is not None and call in calls:
                calls.remove(call)
                if not calls:
                    del self._watching[number]

        return end

    async def take(
        self,
        name: str,
        limit: int = 1,
        *,
        run: int = 1,
        wait: float = 0.0,
        visible_after: float | None = None,
    ) -> list[Delivery]:
        """Hand out up to ``limit`` messages, waiting up to ``wait`` seconds for the first.

        ``run`` of one lane at most (see ``mailbox.py``); what is not acknowledged within
        ``visible_after`` seconds is handed out again.

        Raises:
            NoSuchMailbox: There is none (any more).
            BusUnavailable: A payload cannot be read.
        """
        letters = self.hand_out(name, limit, run, visible_after)
        if not letters and wait > 0:
            with anyio.move_on_after(wait):
                while not letters:
                    box = known(self._pipe.books, name)
                    await self._news.setdefault(box.number, anyio.Event()).wait()
                    letters = self.hand_out(name, limit, run, visible_after)
        return await self._with_payloads(letters)

    def hand_out(self, name: str, limit: int, run: int, visible_after: float | None = None) -> list[Letter]:
        """``take`` without waiting: what there is now, its payloads perhaps in the store only.

        Raises:
            NoSuchMailbox: There is none (any more).
        """
        box = known(self._pipe.books, name)
        if self.held(name) and name not in self.telling:
            return []
        clock = self._pipe.clock
        seconds = self._pipe.limits.visible_after if visible_after is None else visible_after
        until = clock.monotonic() + seconds
        letters = box.take(limit, run, clock.time(), until)
        if len(letters) * self._pipe.limits.payload > ANSWER:
            letters = self._fitting(box, letters)
        for letter in letters:
            heapq.heappush(self._leases, (until, box.number, letter.seq))
        if letters:
            last = self._pipe.books.messages[letters[-1].seq]
            self._desk.reading[name] = (last.seq, last.hops, last.trace)
            self.on_due(until)
        return letters

    def _fitting(self, box: Mailbox, letters: list[Letter]) -> list[Letter]:
        """As many of these as one answer may hold, one at least; the others were never handed out."""
        messages, left = self._pipe.books.messages, ANSWER
        for count, letter in enumerate(letters):
            payload = messages[letter.seq].payload
            # One that is in the store only may be as large as any.
            left -= self._pipe.limits.payload if payload is None else len(payload)
            if left < 0 and count:
                box.put_back(letters[count:])
                return letters[:count]
        return letters

    async def _with_payloads(self, letters: Sequence[Letter]) -> list[Delivery]:
        found = self.deliveries(letters)
        if all(one.message.payload is not None for one in found):
            return found
        whole = await self.whole([one.message for one in found])
        return [Delivery(message, one.attempt) for message, one in zip(whole, found, strict=True)]

    def deliveries(self, letters: Sequence[Letter]) -> list[Delivery]:
        """What was handed out, just now."""
        messages = self._pipe.books.messages
        return [Delivery(messages[one.seq], one.attempts) for one in letters]

    async def whole(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with those payloads read from the store that are not in memory.

        One that is finished and was deleted meanwhile keeps ``None``.

        Raises:
            BusUnavailable: The store cannot be read.
        """
        absent = [message.seq for message in messages if message.payload is None]
        if not absent:
            return list(messages)
        payloads = await self._pipe.run(partial(tables.payloads, seqs=absent))
        assert isinstance(payloads, dict)
        return [
            message._replace(payload=payloads.get(message.seq)) if message.payload is None else message
            for message in messages
        ]

    def post_ack(self, name: str, seqs: Iterable[int]) -> tuple[int, Batch | None]:
        """Acknowledge, in the order given; returns how many were waiting, and the batch to await.

        What is not here (any more) is not counted: a second acknowledgement is harmless.

        Raises:
            OutOfOrder: An earlier message of the same lane is not acknowledged; nothing after it was.
            NoSuchMailbox: There is none.
        """
        box = known(self._pipe.books, name)
        count, batch = 0, None
        rests: dict[Lane, Iterator[Letter]] = {}
        reading = self._desk.reading.get(name)
        for seq in seqs:
            letter = box.letters.get(seq)
            if letter is None or letter.leaving:
                continue
            _check_order(box, letter, rests)
            batch = self._pipe.mark(seq, box.number, ACKED, letter.taken or None)
            letter.leaving = True
            count += 1
            if reading is not None and reading[0] == seq:
                self._desk.reading.pop(name, None)
        return count, batch

    def check_order(self, name: str, seq: int) -> None:
        """Raises ``OutOfOrder`` where ``post_ack`` would."""
        box = known(self._pipe.books, name)
        letter = box.letters.get(seq)
        if letter is not None:
            _check_order(box, letter)

    async def ack(self, name: str, seqs: Iterable[int]) -> int:
        """``post_ack``, returning when durable.

        Raises:
            BusUnavailable: The disk did not acknowledge it; they will be delivered again.
        """
        count, batch = self.post_ack(name, seqs)
        if batch is not None:
            await batch
        return count

    def release(self, name: str, seq: int) -> None:
        """Give a message back unread: it is visible again at once, as an attempt that failed.

        Raises:
            NoSuchMessage: It was not handed out.
        """
        box = known(self._pipe.books, name)
        letter = box.letters.get(seq)
        if letter is None or not letter.until or letter.leaving:
            raise NoSuchMessage(f"m{seq} is not in the hands of {name}", "It was acknowledged or has lapsed")
        self._lapse(box, letter)

    def lapse(self, now: float) -> float:
        """Take back what was handed out too long ago; returns when there is more to do (monotonic)."""
        while self._leases and self._leases[0][0] <= now:
            until, number, seq = heapq.heappop(self._leases)
            box = self._pipe.books.boxes.get(number)
            letter = box.letters.get(seq) if box is not None else None
            if box is None or letter is None or letter.until != until or letter.leaving:
                continue
            if self.held(box.name):
                letter.until = now + self._pipe.limits.visible_after
                heapq.heappush(self._leases, (letter.until, number, seq))
            else:
                self._lapse(box, letter)
        return self._leases[0][0] if self._leases else math.inf

    def _lapse(self, box: Mailbox, letter: Letter) -> None:
        message = self._pipe.books.messages[letter.seq]
        old = message.expires is not None and message.expires <= self._pipe.clock.time()
        expired = old and letter.order == letter.seq
        box.release(letter.seq)
        if expired or letter.attempts >= self._pipe.limits.attempts:
            reason = f"delivered {letter.attempts} times, never acknowledged"
            self.bury(box, letter, "expired" if expired else reason)
        else:
            self._pipe.mark(letter.seq, box.number, LAPSED, letter.attempts)
            self.arrived((box.number,))

    def bury(self, box: Mailbox, letter: Letter, reason: str) -> Batch:
        """Make a dead letter of it; the oldest ones go when there are too many."""
        letter.leaving = True
        self._make_room(box)
        return self._pipe.mark(letter.seq, box.number, DEAD, reason)

    def _make_room(self, box: Mailbox) -> None:
        """Another one will be dead in there: the oldest go, each once however many are on their way."""
        box.dying += 1
        over = len(box.dead) - box.dropping + box.dying - self._pipe.limits.dead
        if over > 0:
            for seq in list(islice(box.dead, box.dropping, box.dropping + over)):
                if not box.dead[seq].leaving:
                    box.dead[seq].leaving = True
                    box.dropping += 1
                    self._pipe.mark(seq, box.number, DROPPED)

    def refuse(self, box: Mailbox, seq: int) -> None:
        """A published message finds the mailbox full: it becomes a dead letter as it arrives."""
        self._make_room(box)
        self._pipe.mark(seq, box.number, DEAD, "mailbox full")

    def fall_due(self, now: float) -> float:
        """Expire what is too old and end requests whose deadline passed; returns when the next is (wall)."""
        due = self._pipe.books.due
        while due and due[0][0] <= now:
            _, seq = heapq.heappop(due)
            message = self._pipe.books.messages.get(seq)
            if message is None:
                continue
            if message.deadline is not None and message.deadline <= now and seq in self._pipe.books.requests:
                self.end_request(seq, "deadline")
            elif message.expires is not None and message.expires <= now:
                self._expire(message)
        return due[0][0] if due else math.inf

    def _expire(self, message: Message) -> None:
        for number in unpack(message.boxes):
            box = self._pipe.books.boxes[number]
            letter = box.letters.get(message.seq)
            # What a person put back after it expired is wanted all the same.
            fresh = letter is not None and letter.order == letter.seq
            if letter is not None and fresh and not letter.until and not letter.leaving:
                self.bury(box, letter, "expired")

    def end_request(self, seq: int, reason: str) -> Batch | None:
        """End an open request without a reply; unread after its deadline it is a dead letter."""
        request = self._pipe.books.requests.get(seq)
        if request is None:
            return None
        box = self._pipe.books.boxes[request.mailbox]
        letter = box.letters.get(seq)
        if reason == "deadline" and letter is not None and not letter.leaving:
            return self.bury(box, letter, reason)
        return self._pipe.mark(seq, request.mailbox, CLOSED, reason)

    def dead(self, name: str) -> list[DeadLetter]:
        """Dead letters of an agent, closed mailboxes too, oldest first; payloads may be in the store only."""
        books = self._pipe.books
        boxes = [box for box in books.boxes.values() if box.name == name] or [known(books, name)]
        dead = [one for box in boxes for one in box.dead.values()]
        return [DeadLetter(books.messages[one.seq], one.reason, one.attempts) for one in dead]

    async def revive(self, name: str, seq: int) -> None:
        """Put a dead letter back into its mailbox, behind what waits there, as if it were new.

        Raises:
            NoSuchMessage: It is not dead there.
            MailboxFull: There is no room for it.
        """
        await self.post_revive(name, seq)

    def post_revive(self, name: str, seq: int) -> Batch:
        """``revive``, returning the batch to await. What is posted and not durable takes no room yet."""
        box = known(self._pipe.books, name)
        self._dead_one(box, seq)
        self._desk.room(box)
        return self._pipe.mark(seq, box.number, REVIVED)

    async def drop(self, name: str, seq: int) -> None:
        """Throw a dead letter away.

        Raises:
            NoSuchMessage: It is not dead there.
        """
        await self.post_drop(name, seq)

    def post_drop(self, name: str, seq: int) -> Batch:
        """``drop``, returning the batch to await; of closed mailboxes, too."""
        box = self._pipe.books.box_of(name) or known(self._pipe.books, name)
        self._dead_one(box, seq)
        return self._pipe.mark(seq, box.number, DROPPED)

    @staticmethod
    def _dead_one(box: Mailbox, seq: int) -> None:
        if seq not in box.dead:
            raise NoSuchMessage(f"m{seq} is no dead letter of {box.name}", "It was put back or thrown away")

    async def collect(self, name: str, seq: int) -> Delivery:
        """Take one message out of its turn and acknowledge it: a reply somebody waits for.

        Raises:
            NoSuchMessage: It is not there: another reader of the mailbox has it.
            BusUnavailable: The disk did not acknowledge it.
        """
        box = known(self._pipe.books, name)
        letter = box.letters.get(seq)
        if letter is None or letter.leaving:
            raise NoSuchMessage(f"m{seq} is not in the mailbox of {name}", "Another reader took it")
        letter.attempts += 1
        letter.leaving = True
        message = self._pipe.books.messages[seq]
        found = await self._with_payloads([letter])
        await self._pipe.mark(seq, box.number, ACKED, self._pipe.clock.time())
        self._desk.answered(name, message)
        return found[0]


def _check_order(box: Mailbox, letter: Letter, rests: dict[Lane, Iterator[Letter]] | None = None) -> None:
    earlier = box.before(letter, rests)
    if earlier is not None:
        raise OutOfOrder(
            f"m{letter.seq} cannot be acknowledged yet",
            f"m{earlier.seq} of the same sender and priority comes before it",
            f"Acknowledge m{earlier.seq} first",
        )
