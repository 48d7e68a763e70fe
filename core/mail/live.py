"""The live picture of the bus: one whole, then what changed, five times a second at most.

What a reader costs does not grow with the traffic: of what came since it was last told only the newest
lines are looked at, and lists of everybody are compared once a second.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, NamedTuple

import anyio

from ..api.bus import (
    BoxRow,
    BusChange,
    BusSums,
    BusWatchRequest,
    MessageRow,
    PairRow,
    TopicRow,
    WaitRow,
)
from ..bus.books import Mark
from ..bus.message import BROADCAST, DIRECT, TOPIC, Message
from . import trace

if TYPE_CHECKING:
    from .mailroom import Mailroom

#: Seconds between two changes, and between two looks at what is about everybody.
SPACING, WHOLE = 0.2, 1.0

#: New messages that are held against a filter at one look; older ones among them are passed over.
LOOKED_AT = 5_000

#: Lines of each list about everybody: those with most to tell.
LISTED = 1_000

_FINAL = frozenset(("acked", "replied", "dead", "closed"))


class _Shown(NamedTuple):
    """A line a reader has, and what it was made from."""

    row: MessageRow
    mark: Mark | None
    final: bool


class Picture:
    """What one reader has seen."""

    def __init__(self, room: Mailroom, request: BusWatchRequest) -> None:
        self._room = room
        self._request = request
        self._text = request.text.casefold()
        self._shown: dict[int, _Shown] = {}
        self._seen = 0
        self._whole = -math.inf
        self._boxes: tuple[BoxRow, ...] | None = None
        self._topics: tuple[TopicRow, ...] | None = None
        self._waits: tuple[WaitRow, ...] | None = None
        self._rings: tuple[tuple[str, ...], ...] | None = None
        self._pairs: tuple[PairRow, ...] | None = None
        self._sums: BusSums | None = None

    def change(self, now: float, moment: float) -> BusChange | None:
        """What changed since the last time; ``None``: nothing. ``moment`` is monotonic seconds."""
        self._room.trace.digest()
        rows = self._rows()
        boxes, topics, pairs = self._boxes, self._topics, self._pairs
        waits, rings, sums = self._waits, self._rings, self._sums
        self._waits, self._rings = self._wait_rows(), self._ring_rows()
        if moment - self._whole >= WHOLE:
            self._whole = moment
            self._boxes, self._topics, self._pairs = self._box_rows(), self._topic_rows(), self._pair_rows()
            self._sums = self._sum()
        change = BusChange(
            now,
            rows,
            self._boxes if self._boxes != boxes else None,
            self._topics if self._topics != topics else None,
            self._waits if self._waits != waits else None,
            self._rings if self._rings != rings else None,
            self._pairs if self._pairs != pairs else None,
            self._sums or self._sum(),
        )
        same = not rows and all(part is None for part in change[2:7]) and self._sums == sums
        return None if same else change

    # --- lines -----------------------------------------------------------------------------------

    def _rows(self) -> tuple[MessageRow, ...]:
        changed = []
        for seq, shown in self._shown.items():
            mark = self._room.trace.last_mark(seq)
            if shown.final and mark is shown.mark:
                continue
            message = self._room.trace.messages.get(seq)
            if message is None:
                continue
            row = self._row(message)
            if row != shown.row:
                changed.append(row)
            self._shown[seq] = _Shown(row, mark, row.state in _FINAL)
        new = [self._row(message) for message in reversed(list(self._new()))]
        for row in new:
            self._shown[row.seq] = _Shown(row, self._room.trace.last_mark(row.seq), row.state in _FINAL)
        for seq in list(self._shown)[: max(0, len(self._shown) - self._request.rows)]:
            del self._shown[seq]
        return (*changed, *new)

    def _new(self) -> Iterator[Message]:
        """The newest that were not seen and fit, newest first."""
        seen = self._seen
        room = self._request.rows
        # The first picture may go all the way back; from then on what is new is looked at.
        looks = LOOKED_AT if seen else len(self._room.trace.messages)
        for seq in reversed(self._room.trace.messages):
            if seq <= seen or not room or not looks:
                break
            self._seen = max(self._seen, seq)
            looks -= 1
            message = self._room.trace.messages[seq]
            if self._fits(message):
                room -= 1
                yield message

    def _fits(self, message: Message) -> bool:
        if self._request.trace and message.trace[3:35] != self._request.trace:
            return False
        if not self._text:
            return True
        name = self._room.directory.name
        text = trace.beginning(message.payload, self._room.trace.size(message))
        return any(
            self._text in part.casefold()
            for part in (name(message.sender), self._to(message.mode, message.to), message.type, text)
        )

    def _to(self, mode: str, to: str) -> str:
        if mode == TOPIC:
            return f"#{to}"
        return to if mode == BROADCAST else self._room.directory.name(to)

    def _row(self, message: Message) -> MessageRow:
        state, latency, note = self._room.trace.standing(message)
        size = self._room.trace.size(message)
        kind = message.mode
        if kind == DIRECT and message.deadline is not None:
            kind = "request"
        elif kind == DIRECT and message.reply_to is not None:
            kind = "reply"
        return MessageRow(
            message.seq,
            message.at,
            self._room.directory.name(message.sender),
            self._to(message.mode, message.to),
            kind,
            message.type,
            size,
            state,
            latency,
            trace.beginning(message.payload, size),
            note,
            message.deadline,
            message.trace[3:35],
            message.reply_to,
        )

    # --- everybody -------------------------------------------------------------------------------

    def _box_rows(self) -> tuple[BoxRow, ...]:
        books, name = self._room.bus.pipeline.books, self._room.directory.name
        depth = self._room.bus.limits.depth
        boxes = [*books.names.values(), *(box for box in books.closed.values() if box.dead)]
        if len(boxes) > LISTED:
            boxes.sort(key=lambda box: (len(box.letters), len(box.dead)), reverse=True)
        rows = [
            BoxRow(
                box.name,
                name(box.name),
                len(box.letters),
                depth if box.name in books.names else 0,
                books.messages[box.oldest].at if box.oldest is not None else None,
                len(box.dead),
            )
            for box in boxes[:LISTED]
        ]
        return tuple(sorted(rows, key=lambda row: (row.name, row.agent)))

    def _topic_rows(self) -> tuple[TopicRow, ...]:
        return tuple(
            TopicRow(topic, len(subscribers), rate)
            for topic, subscribers, rate in self._room.topics()[:LISTED]
        )

    def _wait_rows(self) -> tuple[WaitRow, ...]:
        books, name = self._room.bus.pipeline.books, self._room.directory.name
        requests = list(books.requests.items())[:LISTED]
        return tuple(
            WaitRow(name(one.asker), name(one.asked), seq, books.messages[seq].at, one.deadline)
            for seq, one in requests
        )

    def _ring_rows(self) -> tuple[tuple[str, ...], ...]:
        name = self._room.directory.name
        standing = self._room.deadlocks.standing(self._room.bus)
        return tuple(tuple(name(one) for one in ring) for ring in standing)

    def _pair_rows(self) -> tuple[PairRow, ...]:
        name = self._room.directory.name
        pairs = list(self._room.trace.pairs.items())[-LISTED:]
        return tuple(
            PairRow(name(sender), self._to(mode, to), count, last)
            for (sender, mode, to), (count, last) in reversed(pairs)
        )

    def _sum(self) -> BusSums:
        seen, boxes = self._room.trace, self._room.bus.pipeline.books.boxes.values()
        return BusSums(
            seen.hour(),
            seen.per_second(),
            seen.p95(),
            sum(len(box.letters) for box in boxes),
            sum(len(box.dead) for box in boxes),
        )


async def watch(room: Mailroom, request: BusWatchRequest) -> AsyncIterator[BusChange]:
    """The picture, then its changes; ends with its reader only."""
    picture = Picture(room, request)
    clock = room.clock
    while True:
        news = room.news
        if (change := picture.change(clock.time(), clock.monotonic())) is not None:
            yield change
        await anyio.sleep(SPACING)
        # Averages fall and mail is taken without anybody being told.
        with anyio.move_on_after(WHOLE - SPACING):
            await news.wait()
