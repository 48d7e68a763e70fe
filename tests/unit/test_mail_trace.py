"""The trace of the bus against a plain model: what became of each message, however it was heard."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttop.core.bus.books import ACKED, CLOSED, DEAD, DROPPED, LAPSED, REVIVED, Books, Mark
from agenttop.core.bus.message import Limits, Message, pack
from agenttop.core.clock import SystemClock
from agenttop.core.mail import trace
from agenttop.core.mail.seals import Sealer, digest

KEY = b"k" * 32
BOXES = 3

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ("send", "send", "ask", "reply", "all", ACKED, DEAD, REVIVED, DROPPED, CLOSED, LAPSED)
        ),
        st.integers(0, 30),
        st.integers(0, 400),
    ),
    max_size=60,
)


@dataclass
class Model:
    """One message as a person would tell of it."""

    message: Message
    waiting: set[int]
    dead: dict[int, str] = field(default_factory=dict)
    last: str = ""
    replied: bool = False
    handed: bool = False

    def state(self) -> str:
        if self.replied:
            return "replied"
        if self.message.boxes and len(self.message.boxes) > 4:
            left, count = len(self.waiting) + len(self.dead), BOXES
            return "acked" if not left else "accepted" if left == count else f"acked {count - left}/{count}"
        if self.dead or self.last == DROPPED:
            return "dead"
        if self.last == CLOSED:
            return "closed"
        if self.waiting:
            return "delivered" if self.handed else "accepted"
        return "acked"


class Walk:
    """Applies steps to books and model alike; gathers the rows."""

    def __init__(self) -> None:
        self.books = Books(Limits())
        self.names = [self.books.open(number, f"b{number}").name for number in range(1, BOXES + 1)]
        self.models: dict[int, Model] = {}
        self.rows: list[Message | Mark] = []
        self.seq = 0

    def row(self, item: Message | Mark) -> None:
        self.books.apply(item)
        self.rows.append(item)

    def send(self, boxes: list[int], size: int, **more: object) -> None:
        self.seq += 1
        mode = "direct" if len(boxes) == 1 else "broadcast"
        message = Message(
            self.seq, float(self.seq), "b1", mode, f"b{boxes[0]}", "text", 4, b'"' + b"x" * (2 * size) + b'"',
            f"00-{self.seq:032x}-{self.seq:016x}-01", None, 0, None, None, None, None, pack(boxes),
        )._replace(**more)  # type: ignore[arg-type]  # fmt: skip
        self.row(message)
        self.models[self.seq] = Model(message, set(boxes))

    def step(self, what: str, which: int, size: int) -> None:
        if what == "send":
            self.send([which % BOXES + 1], size)
        elif what == "ask":
            self.send([which % BOXES + 1], size, deadline=1e9)
        elif what == "all":
            self.send(list(range(1, BOXES + 1)), size)
        elif what == "reply":
            if self.books.requests:
                asked = sorted(self.books.requests)[which % len(self.books.requests)]
                self.send([1], size, reply_to=asked)
                self.models[asked].replied = True
        elif self.models:
            self.mark(what, sorted(self.models)[which % len(self.models)], size % BOXES + 1)

    def mark(self, what: str, seq: int, box: int) -> None:
        model = self.models[seq]
        if what == CLOSED:
            if seq not in self.books.requests:
                return
            model.waiting.clear()
            box = self.books.requests[seq].mailbox
        elif what in (ACKED, DEAD, LAPSED):
            if box not in model.waiting:
                return
            if what != LAPSED:
                model.waiting.discard(box)
            if what == DEAD:
                model.dead[box] = "why"
        elif box not in model.dead:
            return
        else:
            del model.dead[box]
            if what == REVIVED:
                model.waiting.add(box)
        model.last = what
        model.handed = what == LAPSED or (model.handed and what != REVIVED)
        self.seq += 1
        self.row(Mark(seq, box, self.seq, float(self.seq), what, "why" if what != LAPSED else 1))


@settings(max_examples=100, deadline=None)
@given(steps, st.integers(1, 7))
def test_what_became_of_each_message(walked: list[tuple[str, int, int]], together: int) -> None:
    walk = Walk()
    seen = trace.Trace(lambda: walk.books, SystemClock())
    sealer = Sealer(KEY, 0)
    seen.seal = sealer.add
    for step in walked:
        walk.step(*step)
    for start in range(0, len(walk.rows), together):
        seen.heard(walk.rows[start : start + together])
    seen.digest()
    messages = [row for row in walk.rows if isinstance(row, Message)]
    assert list(seen.messages) == [message.seq for message in messages]
    for message in messages:
        kept = seen.messages[message.seq]
        assert seen.standing(kept).state == walk.models[message.seq].state(), message
        assert seen.size(kept) == len(message.payload or b"")
        assert trace.beginning(kept.payload, seen.size(kept)).strip("x") == ""
    seal = sealer.take()
    assert (seal is None) == (not messages)
    if seal is not None:
        assert seal.digest == digest(KEY, messages)
        assert (seal.first, seal.last, seal.count) == (messages[0].seq, messages[-1].seq, len(messages))
    died = sum(isinstance(row, Mark) and row.what == DEAD for row in walk.rows)
    assert sum(one.many for one in seen.take_dead().values()) == died
    assert seen.take_dead() == {}


def test_the_trace_is_bounded_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "KEPT", 1_000)
    monkeypatch.setattr(trace, "_SPARE", 100)
    walk = Walk()
    seen = trace.Trace(lambda: walk.books, SystemClock())
    for start in range(0, 3 * trace.KEPT, 500):
        walk.rows.clear()
        for number in range(start, start + 500):
            walk.send([number % BOXES + 1], 350)
            walk.mark(ACKED, walk.seq, number % BOXES + 1)
        seen.heard(list(walk.rows))
        walk.models.clear()
    most = trace.KEPT + trace.KEPT // 10
    assert len(seen.messages) <= most
    assert len(seen.sizes) <= most
    assert len(seen._marks) <= most
    newest = next(reversed(seen.messages.values()))
    assert seen.standing(newest).state == "acked"
    assert len(newest.payload or b"") == trace.BEGINNING
    assert seen.size(newest) == 702
    assert seen.pairs == {
        ("b1", "direct", f"b{box}"): seen.pairs["b1", "direct", f"b{box}"] for box in (1, 2, 3)
    }
    assert sum(count for count, _ in seen.pairs.values()) == 3 * trace.KEPT


def test_the_beginning_of_hostile_payloads() -> None:
    assert trace.beginning(b'"a\\u001b[2J"', 12) == "a\x1b[2J"
    assert trace.beginning(b'"cut in \xc3', 5_000) == "cut in �"
    assert trace.beginning(None, 0) == ""
    assert trace.beginning(b'{"a":1}', 7) == '{"a":1}'
    assert len(trace.beginning(b"[" + b"1," * 5_000, 10_001)) == trace.BEGINNING
