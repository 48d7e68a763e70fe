"""The newest messages with the beginning of what they say, and what became of them: kept in memory.

``heard`` is called with every commit of the bus, on its hot path, and only keeps the batch. It is looked
through when somebody looks, once a fifth of a second, or when there is a lot of it: then all that is paid
for a message is paid at once, which takes about a microsecond.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

import orjson

from ..bus.books import ACKED, CLOSED, DEAD, DROPPED, Books, Mark
from ..bus.message import TOPIC, Message, unpack
from ..clock import Clock

#: Messages that are kept, characters of each that are shown, and bytes from which its payload is cut to that.
KEPT, BEGINNING, LONG = 20_000, 240, 600

#: So many rows are looked through at once, so that nobody waits for long.
CHUNK = 1_000

#: Pairs of sender and receiver that are counted, and topics.
PAIRS, TOPICS = 5_000, 1_000

#: Acknowledgements whose latencies are looked at.
ACKS = 1_000

_SPARE = KEPT // 10
_pair = itemgetter(2, 3, 4)


class Standing(NamedTuple):
    """How far a message has come: ``api.bus.MessageRow``'s state, latency in seconds, and note."""

    state: str
    latency: float | None
    note: str


class Died(NamedTuple):
    """The first message that died in a mailbox for a reason, and how many did."""

    message: int
    many: int


class Trace:
    """The ring. ``books`` gives the bus's books of the moment."""

    def __init__(self, books: Callable[[], Books], clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self.messages: dict[int, Message] = {}
        """The newest by their number, their payloads cut to the beginning."""
        self.sizes: dict[int, int] = {}
        """Of payloads that were cut, in bytes."""
        self.pairs: dict[tuple[str, str, str], tuple[int, float]] = {}
        """Sender, mode and address: how many messages, and when the last; the least recent first."""
        self.news: Callable[[], None] = lambda: None
        """Called when there is something to look through, once until that was done."""
        self.seal: Callable[[Sequence[Message]], None] = lambda messages: None
        """Given all messages, whole, in their order, before they are cut."""
        self.touched: set[bytes | int] = set()
        """Mailboxes that something happened in; whoever needs them takes them away."""
        self._marks: dict[int, Mark] = {}
        self._replies: dict[int, int] = {}
        self._died: dict[tuple[int, str], Died] = {}
        self._acks: deque[Mark] = deque(maxlen=ACKS)
        self._seconds: deque[tuple[int, int]] = deque(maxlen=11)
        self._minutes: deque[tuple[int, int]] = deque(maxlen=61)
        self._topics: dict[str, deque[tuple[int, int]]] = {}
        self._backlog: list[Sequence[Message | Mark]] = []
        self._size = 0
        self._told = False

    # --- the hot path ----------------------------------------------------------------------------

    def heard(self, items: Sequence[Message | Mark]) -> None:
        """These are durable: what ``Pipeline.listen`` calls."""
        self._backlog.append(items)
        self._size += len(items)
        if not self._told:
            self._told = True
            self.news()
        if self._size >= CHUNK:
            self.digest()

    def digest(self) -> None:
        """Look through what was heard."""
        self._told = False
        if not self._size:
            return
        backlog, self._backlog = self._backlog, []
        self._size = 0
        new: list[Message] = []
        marks, acks, touched = self._marks, self._acks, self.touched
        for items in backlog:
            for item in items:
                if type(item) is Message:
                    new.append(item)
                else:
                    assert type(item) is Mark
                    marks[item.message] = item
                    touched.add(item.mailbox)
                    if item.what == ACKED:
                        acks.append(item)
                    elif item.what == DEAD:
                        self._note_death(item)
        if new:
            self._take(new)
        if len(marks) > KEPT + _SPARE:
            self._trim()

    def _take(self, new: list[Message]) -> None:
        self.seal(new)
        kept, touched = self.messages, self.touched
        for message in new:
            touched.add(message.boxes)
            payload = message.payload
            if payload is not None and len(payload) > LONG:
                self.sizes[message.seq] = len(payload)
                message = tuple.__new__(Message, (*message[:7], payload[:BEGINNING], *message[8:]))
            kept[message.seq] = message
            if message.reply_to is not None:
                self._replies[message.reply_to] = message.seq
        self._count(new)
        if len(kept) > KEPT + _SPARE:
            self._trim()

    def _count(self, new: list[Message]) -> None:
        at = new[-1].at
        _add(self._seconds, int(at), len(new))
        _add(self._minutes, int(at / 60), len(new))
        for pair, count in Counter(map(_pair, new)).items():
            before = self.pairs.pop(pair, (0, 0.0))[0]
            self.pairs[pair] = (before + count, at)
            if pair[1] == TOPIC:
                if pair[2] not in self._topics and len(self._topics) >= TOPICS:
                    del self._topics[next(iter(self._topics))]
                _add(self._topics.setdefault(pair[2], deque(maxlen=61)), int(at), count)
        for pair in list(islice(self.pairs, max(0, len(self.pairs) - PAIRS))):
            del self.pairs[pair]

    def _note_death(self, mark: Mark) -> None:
        key = (mark.mailbox, str(mark.note))
        first, count = self._died.get(key, (mark.message, 0))
        self._died[key] = Died(first, count + 1)

    def _trim(self) -> None:
        over = max(0, len(self.messages) - KEPT)
        for seq in list(islice(self.messages, over)):
            del self.messages[seq]
            self.sizes.pop(seq, None)
        for table in (self._marks, self._replies):
            for seq in list(islice(table, max(0, len(table) - KEPT))):
                del table[seq]

    # --- what is known ---------------------------------------------------------------------------

    def fill(self, messages: Iterable[Message]) -> None:
        """Begin with what the store has of an earlier kernel; in their order."""
        for message in messages:
            payload = message.payload or b""
            if len(payload) > LONG:
                self.sizes[message.seq] = len(payload)
                payload = payload[:BEGINNING]
            self.messages[message.seq] = message._replace(payload=payload)
        self._trim()

    def standing(self, message: Message) -> Standing:
        """What became of a message in the ring."""
        seq, books = message.seq, self._books()
        mark = self._marks.get(seq)
        if seq in self._replies:
            return Standing("replied", _latency(message, mark), "")
        numbers = unpack(message.boxes)
        if len(numbers) > 1:
            return self._among(message, mark, len(numbers))
        if mark is not None and mark.what == ACKED:
            return Standing("acked", _latency(message, mark), "")
        if mark is not None and mark.what in (CLOSED, DEAD):
            return Standing("closed" if mark.what == CLOSED else "dead", None, str(mark.note))
        if mark is not None and mark.what == DROPPED:
            return Standing("dead", None, "thrown away")
        box = books.boxes.get(numbers[0]) if numbers else None
        if box is None:
            return Standing("acked", None, "")
        if (dead := box.dead.get(seq)) is not None:
            return Standing("dead", None, dead.reason)
        letter = box.letters.get(seq)
        if letter is None and seq not in books.requests:
            return Standing("acked", None, "")  # before this kernel's time
        return Standing("delivered" if letter is None or letter.attempts else "accepted", None, "")

    def _among(self, message: Message, mark: Mark | None, count: int) -> Standing:
        left = self._books().open_in(message.seq)
        note = str(mark.note) if mark is not None and mark.what == DEAD else ""
        if not left:
            return Standing("acked", _latency(message, mark), note)
        return Standing("accepted" if left == count else f"acked {count - left}/{count}", None, note)

    def last_mark(self, seq: int) -> Mark | None:
        """What happened to a message last; the same object until something else does."""
        return self._marks.get(seq)

    def size(self, message: Message) -> int:
        """Bytes of a message's whole payload."""
        return self.sizes.get(message.seq, len(message.payload or b""))

    def take_dead(self) -> dict[tuple[int, str], Died]:
        """Who died since the last time, by mailbox and reason."""
        died, self._died = self._died, {}
        return died

    def hour(self) -> int:
        """Messages accepted in the last hour."""
        oldest = int(self._clock.time() / 60) - 59
        return sum(count for minute, count in self._minutes if minute >= oldest)

    def per_second(self) -> float:
        """Messages a second over the last ten."""
        now = int(self._clock.time())
        return sum(count for second, count in self._seconds if now - 10 < second <= now) / 10

    def p95(self) -> float | None:
        """Seconds to the acknowledgement that 95 of 100 of the last ones did not exceed."""
        found = sorted(
            mark.at - message.at
            for mark in self._acks
            if (message := self.messages.get(mark.message)) is not None
        )
        return found[int(0.95 * (len(found) - 1))] if found else None

    def topics(self) -> dict[str, float]:
        """Topics that were published to of late, with messages in the last minute."""
        oldest = int(self._clock.time()) - 60
        return {
            topic: float(sum(count for second, count in counts if second > oldest))
            for topic, counts in self._topics.items()
        }


def beginning(payload: bytes | None, size: int) -> str:
    """The beginning of a payload as text, hostile; a JSON string without its quotes."""
    data = payload or b""
    if data[:1] == b'"':
        if len(data) == size:
            return str(orjson.loads(data))[:BEGINNING]
        data = data[1:]
    return data[: 4 * BEGINNING].decode("utf-8", "replace")[:BEGINNING]


def _latency(message: Message, mark: Mark | None) -> float | None:
    return max(0.0, mark.at - message.at) if mark is not None and mark.what == ACKED else None


def _add(counts: deque[tuple[int, int]], place: int, count: int) -> None:
    if counts and counts[-1][0] >= place:
        place, before = counts.pop()
        count += before
    counts.append((place, count))
