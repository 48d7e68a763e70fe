"""The canned fleet's bus: the messages, mailboxes and topics of the pictures, at one moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, cast

from agenttop.core.api import Outcome
from agenttop.core.api.bus import (
    AskRequest,
    BoxRow,
    BusChange,
    BusSums,
    BusWatchRequest,
    DeadActRequest,
    DeadInfo,
    DeadRequest,
    Kind,
    MessageInfo,
    MessageRequest,
    MessageRow,
    PairRow,
    PublishRequest,
    SendRequest,
    SentInfo,
    TopicRow,
    WaitRow,
)
from agenttop.core.errors import NoSuchAgent

from .sample_fleet import NOW, ROWS

IDS = {row.name: row.id for row in ROWS}
TALK = "4bf92f3577b34da6a3ce929d0e0e4736"


def message(
    seq: int, ago: float, sender: str, to: str, kind: str, state: str, text: str, **given: Any
) -> MessageRow:
    """A line of the trace, ``ago`` seconds before ``NOW``."""
    values: dict[str, Any] = {
        "type": "text", "size": len(text) + 2, "latency": None, "note": "", "deadline": None,
        "trace": f"{seq:032x}", "reply_to": None,
    }  # fmt: skip
    return MessageRow(seq, NOW - ago, sender, to, kind, state=state, text=text, **(values | given))


MESSAGES = (
    message(
        9119, 306, "lead", "*", "broadcast", "acked 3/4", "freeze of main at 16:00; docs has not read it"
    ),
    message(
        9120,
        221,
        "api",
        "review",
        "direct",
        "acked",
        "diff ready: orders.py, orders.sql",
        latency=0.3,
        trace=TALK,
    ),
    message(
        9121,
        191,
        "api",
        "api-tests",
        "request",
        "replied",
        "cover retry, replay and expiry of the key",
        latency=1.1,
        trace=TALK,
        deadline=NOW - 91,
    ),
    message(
        9122,
        190,
        "api-tests",
        "api",
        "reply",
        "acked",
        "started; 3 cases: retry, replay, expiry",
        latency=0.8,
        trace=TALK,
        reply_to=9121,
    ),
    message(
        9123,
        123,
        "review",
        "api",
        "request",
        "delivered",
        "is retry safe here?",
        trace=TALK,
        deadline=NOW + 477,
    ),
    message(
        9124, 86, "kernel", "scrape", "direct", "dead", "price list moved to /v2", note="receiver in error"
    ),
    message(
        9125, 23, "triage", "lead", "direct", "accepted", "4127 looks like the idempotency work, want it?"
    ),
    message(
        9126,
        19,
        "lead",
        "ui",
        "direct",
        "acked",
        "cart needs the new error codes, see orders.md",
        latency=0.4,
    ),
    message(
        9127,
        2,
        "triage",
        "#issues",
        "topic",
        "delivered",
        "new: 4127 bug, area/checkout (3 subscribers)",
        type="issue",
    ),
)

BOXES = tuple(
    BoxRow(IDS[name], name, unread, 50, None if ago is None else NOW - ago, dead)
    for name, unread, ago, dead in (
        ("triage", 7, 41, 0), ("migrate", 2, 240, 0), ("lead", 1, 23, 0), ("api", 1, 123, 0),
        ("docs", 1, 306, 0), ("scrape", 0, None, 3),
        *((name, 0, None, 0) for name in ("api-tests", "ui", "review", "embed", "nightly", "flaky-hunt")),
    )
)  # fmt: skip
TOPICS = (TopicRow("issues", 3, 4.1), TopicRow("builds", 5, 0.8), TopicRow("alerts", 2, 0.0))
WAITS = (WaitRow("review", "api", 9123, NOW - 123, NOW + 477),)
PAIRS = (
    PairRow("lead", "api", 41, NOW - 700),
    PairRow("lead", "ui", 38, NOW - 19),
    PairRow("lead", "*", 4, NOW - 306),
    PairRow("api", "api-tests", 22, NOW - 191),
    PairRow("api-tests", "api", 21, NOW - 190),
    PairRow("api", "review", 17, NOW - 221),
    PairRow("review", "api", 16, NOW - 123),
    PairRow("triage", "#issues", 188, NOW - 2),
    PairRow("triage", "lead", 26, NOW - 23),
    PairRow("kernel", "scrape", 3, NOW - 86),
    PairRow("@ana", "lead", 9, NOW - 5_400),
)
SUMS = BusSums(388, 0.1, 0.9, 12, 3)


def info(row: MessageRow, payload: Any = None) -> MessageInfo:
    """A line of the trace as a whole message."""
    return MessageInfo(
        id=f"m{row.seq}",
        at=row.at,
        sender=IDS.get(row.sender, row.sender),
        sender_name=row.sender,
        from_person=row.sender[:1] == "@",
        kind=cast("Kind", row.kind),
        to=IDS.get(row.to, row.to.lstrip("#")),
        to_name=row.to,
        type=row.type,
        priority=4,
        payload=row.text if payload is None else payload,
        size=row.size,
        trace=f"00-{row.trace}-00f067aa0ba902b7-01",
        cause="m9122" if row.seq == 9123 else None,
        hops=3 if row.seq == 9123 else 0,
        reply_to=f"m{row.reply_to}" if row.reply_to else None,
        deadline=row.deadline,
        attempt=1 if row.state != "accepted" else 0,
    )


class SampleBus:
    """Answers of a bus that stands still until something is done to it; ``push`` tells who watches."""

    def __init__(self) -> None:
        self.rows = {row.seq: row for row in MESSAGES}
        self.boxes, self.topics, self.waits, self.pairs = BOXES, TOPICS, WAITS, PAIRS
        self.rings: tuple[tuple[str, ...], ...] = ()
        self.sums = SUMS
        self.dead = [
            DeadInfo(message=info(row), agent="4d15", name="scrape", reason=row.note, attempts=tries)
            for row, tries in (
                (
                    message(
                        9008,
                        4_100,
                        "lead",
                        "scrape",
                        "direct",
                        "dead",
                        "fetch the new list",
                        note="not acknowledged",
                    ),
                    5,
                ),
                (
                    message(
                        9077, 1_900, "triage", "scrape", "direct", "dead", "still at it?", note="expired"
                    ),
                    0,
                ),
                (self.rows[9124], 5),
            )
        ]
        self.payloads: dict[int, Any] = {}
        self.failing: dict[str, Exception] = {}
        """What a verb fails with, by its name."""
        self.replies: asyncio.Queue[MessageInfo] | None = None
        self._watchers: list[tuple[BusWatchRequest, asyncio.Queue[BusChange | None]]] = []

    def answers(self) -> dict[str, Any]:
        """By the names of the verbs."""
        found: dict[str, Callable[[Any], Any]] = {
            "bus.watch": self._watch, "bus.message": self._message, "bus.dead": self._dead,
            "bus.revive": lambda request: self._act(request, "put back"),
            "bus.drop": lambda request: self._act(request, "thrown away"),
            "bus.send": self._send, "bus.publish": self._publish, "bus.ask": self._ask,
        }  # fmt: skip
        return {name: self._unless_failing(name, answer) for name, answer in found.items()}

    def _unless_failing(self, name: str, answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def answered(request: Any) -> Any:
            if name in self.failing:
                raise self.failing[name]
            return answer(request)

        return answered

    # --- for tests -----------------------------------------------------------------------------

    def change(self, *rows: MessageRow, whole: bool = False) -> BusChange:
        """What a watch is told."""
        everything = (self.boxes, self.topics, self.waits, self.rings, self.pairs)
        return BusChange(NOW, rows, *(everything if whole else (None,) * 5), self.sums)  # type: ignore[arg-type]

    def push(self, *rows: MessageRow, whole: bool = False) -> None:
        """New or changed lines for everybody who watches."""
        for row in rows:
            self.rows[row.seq] = row
        for request, queue in self._watchers:
            queue.put_nowait(self.change(*[row for row in rows if self._fits(row, request)], whole=whole))

    def fail(self) -> None:
        """Every watch ends."""
        for _, queue in self._watchers:
            queue.put_nowait(None)
        self._watchers.clear()

    @staticmethod
    def _fits(row: MessageRow, request: BusWatchRequest) -> bool:
        if request.trace and request.trace != row.trace:
            return False
        return any(request.text.lower() in part.lower() for part in (row.sender, row.to, row.type, row.text))

    # --- the verbs -----------------------------------------------------------------------------

    async def _watch(self, request: BusWatchRequest) -> AsyncIterator[BusChange]:
        queue: asyncio.Queue[BusChange | None] = asyncio.Queue()
        self._watchers.append((request, queue))
        fit = [row for _, row in sorted(self.rows.items()) if self._fits(row, request)]
        yield self.change(*fit[-request.rows :], whole=True)
        while (change := await queue.get()) is not None:
            yield change

    def _message(self, request: MessageRequest) -> MessageInfo:
        row = self.rows.get(int(request.id[1:]))
        letters = [letter.message for letter in self.dead if letter.message.id == request.id]
        if row is None and not letters:
            raise NoSuchAgent(f"no message {request.id}", "It is finished and was removed", "")
        return info(row, self.payloads.get(row.seq)) if row is not None else letters[0]

    def _dead(self, request: DeadRequest) -> list[DeadInfo]:
        return list(self.dead)

    def _act(self, request: DeadActRequest, done: str) -> list[Outcome]:
        of = [one for one in self.dead if request.agent in (one.agent, one.name)]
        gone = [one for one in of if not request.ids or one.message.id in request.ids]
        self.dead = [one for one in self.dead if one not in gone]
        return [
            Outcome(ref=one.message.id, id=one.message.id, name=one.message.id, done=done) for one in gone
        ]

    def _sent(
        self, sender: str, to: str, kind: Literal["direct", "topic", "request"], request: Any
    ) -> SentInfo:
        seq = max(self.rows) + 1
        text = request.payload if isinstance(request.payload, str) else "{…}"
        self.push(message(seq, 0, sender, to, kind, "accepted", text, type=request.type))
        return SentInfo(id=f"m{seq}", to=IDS.get(to, to))

    def _send(self, request: SendRequest) -> SentInfo:
        if request.to not in IDS and request.to[:1] not in "@*":
            raise NoSuchAgent(f"no mailbox {request.to}", "No agent has this name", "agenttop ps lists them")
        return self._sent("@ana", request.to, "direct", request)

    def _publish(self, request: PublishRequest) -> SentInfo:
        return self._sent("@ana", f"#{request.topic}", "topic", request).model_copy(update={"receivers": 3})

    async def _ask(self, request: AskRequest) -> MessageInfo:
        self.replies = asyncio.Queue()
        self._sent("@ana", request.to, "request", request)
        return await self.replies.get()
