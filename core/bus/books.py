"""What the bus knows: a fold of the rows in its store, in the order of their numbers.

The same rows give the same books, whether they arrive one by one or at a restart. What is only in
memory is who was handed what: after a restart everything unacknowledged is visible again.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from .mailbox import Mailbox
from .message import Limits, Message, unpack
from .topics import Topics
from .waits import Waits

ACKED, DEAD, REVIVED, DROPPED, LAPSED, CLOSED = "acked", "dead", "revived", "dropped", "lapsed", "closed"

PAST = 20_000


class Mark(NamedTuple):
    """Something that happened to a message in a mailbox, as its row is stored.

    ``note`` is the reason of ``dead`` and ``closed``; with ``acked`` it is when it was delivered.
    """

    message: int
    mailbox: int
    seq: int
    at: float
    what: str
    note: str | float | None


class Request(NamedTuple):
    """A message somebody waits for the reply of. ``deadline`` is wall clock seconds."""

    seq: int
    asker: str
    asked: str
    mailbox: int
    deadline: float


class Ended(NamedTuple):
    """How a request ended: with the message ``reply``, or with a reason."""

    request: Request
    reply: int | None
    reason: str


class Books:
    """The state of the bus.

    ``arrived``, ``ended``, ``rings`` and ``finished`` are for whoever applies to take away.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.seq = 0
        self.boxes: dict[int, Mailbox] = {}
        self.names: dict[str, Mailbox] = {}
        #: Mailboxes that were closed and not opened again; their dead letters are kept.
        self.closed: dict[str, Mailbox] = {}
        self.topics: Topics[int] = Topics()
        self.messages: dict[int, Message] = {}
        self.keys: dict[tuple[str, str], tuple[int, float]] = {}
        self.requests: dict[int, Request] = {}
        self.waits = Waits()
        #: Wall clock seconds at which a message expires or a request's deadline passes, and which.
        self.due: list[tuple[float, int]] = []
        self.bytes = 0
        #: Hops and trace of messages that are finished, the newest: others may name them as their cause.
        self.past: dict[int, tuple[int, str]] = {}
        self.arrived: set[int] = set()
        self.ended: list[Ended] = []
        self.rings: list[list[str]] = []
        self.finished: list[int] = []
        self.finished_keys: list[tuple[str, str, int, float]] = []
        self._open: dict[int, int] = {}

    def open(self, number: int, name: str) -> Mailbox:
        """An agent has a mailbox from now on; the one of this number, if it was closed."""
        box = self.boxes.get(number) or Mailbox(number, name)
        self.boxes[number] = box
        self.names[name] = box
        self.closed.pop(name, None)
        return box

    def close(self, number: int) -> None:
        """Nothing is delivered to this mailbox any more; its dead letters stay until the rows go."""
        box = self.boxes[number]
        self.names.pop(box.name, None)
        self.closed[box.name] = box
        self.topics.drop(number)

    def box_of(self, name: str) -> Mailbox | None:
        """The mailbox of an agent, open or closed."""
        return self.names.get(name) or self.closed.get(name)

    def open_in(self, seq: int) -> int:
        """In how many mailboxes a message still waits or is dead."""
        return self._open.get(seq, 0)

    def apply(self, item: Message | Mark) -> None:
        """Fold one row in."""
        if isinstance(item, Message):
            self.arrived_message(item, 0)
        else:
            self.marked(item)

    def arrived_message(self, message: Message, reserved: int) -> str | None:
        """Fold a message in, in place of ``reserved`` reservations in each mailbox; returns its key."""
        seq, at, sender, _, _, _, priority, payload, _, _, _, reply_to, deadline, expires, key, to = message
        self.seq = seq
        numbers = unpack(to)
        lane = (sender, priority)
        boxes, arrived = self.boxes, self.arrived
        for number in numbers:
            box = boxes[number]
            box.reserved -= reserved
            box.push(seq, lane)
            arrived.add(number)
        self._open[seq] = len(numbers)
        size = len(payload) if payload is not None else 0
        if self.bytes + size > self._limits.memory:
            message = message._replace(payload=None)
        else:
            self.bytes += size
        self.messages[seq] = message
        if key is not None:
            self.keys[sender, key] = (seq, at)
        if expires is not None:
            heapq.heappush(self.due, (expires, seq))
        if deadline is not None:
            self._asked(message, numbers[0])
        if reply_to is not None:
            self._end(reply_to, seq, "")
        if not numbers:
            self._finish(seq)
        return key

    def _asked(self, message: Message, number: int) -> None:
        assert message.deadline is not None
        request = Request(message.seq, message.sender, message.to, number, message.deadline)
        self.requests[message.seq] = request
        heapq.heappush(self.due, (message.deadline, message.seq))
        ring = self.waits.add(message.seq, message.sender, message.to)
        if ring:
            self.rings.append(ring)

    def marked(self, mark: Mark) -> None:
        """Fold a mark in."""
        self.seq = max(self.seq, mark.seq)
        box = self.boxes.get(mark.mailbox)
        if box is None or mark.message not in self.messages:
            return
        what, seq = mark.what, mark.message
        if what == ACKED:
            if box.remove(seq) is not None:
                self._less(seq)
        elif what == LAPSED:
            self._lapsed(box, mark)
        elif what == DEAD:
            if box.dying:
                box.dying -= 1
            if box.bury(seq, str(mark.note)):
                self._end(seq, None, str(mark.note))
        elif what == REVIVED:
            if box.revive(seq, mark.seq):
                self.arrived.add(mark.mailbox)
        elif what == DROPPED:
            if box.drop(seq):
                self._less(seq)
        elif what == CLOSED:
            gone = box.remove(seq) is not None
            self._end(seq, None, str(mark.note))
            if gone:
                self._less(seq)
        if box.letters:
            self.arrived.add(mark.mailbox)

    def _lapsed(self, box: Mailbox, mark: Mark) -> None:
        letter = box.letters.get(mark.message)
        if letter is None:
            return
        # At a restart nobody has counted how often it was handed out; the mark says it.
        letter.attempts = max(letter.attempts, int(mark.note or 0))

    def _end(self, seq: int, reply: int | None, reason: str) -> None:
        request = self.requests.pop(seq, None)
        if request is None:
            return
        self.waits.remove(seq, request.asker, request.asked)
        self.ended.append(Ended(request, reply, reason))
        if not self._open.get(seq):
            self._finish(seq)

    def _less(self, seq: int) -> None:
        self._open[seq] -= 1
        if not self._open[seq] and seq not in self.requests:
            self._finish(seq)

    def _finish(self, seq: int) -> None:
        message = self.messages.pop(seq, None)
        if message is None:
            return
        del self._open[seq]
        if message.payload is not None:
            self.bytes -= len(message.payload)
        self.finished.append(seq)
        if message.key is not None:
            self.finished_keys.append((message.sender, message.key, seq, message.at))
        self.past[seq] = (message.hops, message.trace)
        if len(self.past) > PAST:
            del self.past[next(iter(self.past))]

    def trim_keys(self, now: float) -> list[tuple[str, str]]:
        """Forget keys that are too old or too many; returns them."""
        over = len(self.keys) - self._limits.keys
        oldest = now - self._limits.remembered
        gone = []
        for place, (pair, (_, at)) in enumerate(self.keys.items()):
            if place >= over and at >= oldest:
                break
            gone.append(pair)
        for pair in gone:
            del self.keys[pair]
        return gone
