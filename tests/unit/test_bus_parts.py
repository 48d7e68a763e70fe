"""The bus's pure parts: lanes, topics, waits, rates, bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pydantic import BaseModel

from agenttop.core.bus.errors import BadMessage
from agenttop.core.bus.mailbox import Letter, Mailbox
from agenttop.core.bus.message import Draft, Limits, check, next_trace, pack, seq_of, unpack
from agenttop.core.bus.rates import Rates
from agenttop.core.bus.schemas import Schemas
from agenttop.core.bus.topics import Topics, levels
from agenttop.core.bus.waits import Waits

LANES = st.tuples(st.sampled_from("ab"), st.integers(0, 2))


class MailboxAgainstLists(RuleBasedStateMachine):
    """A mailbox is, for each lane, a list whose front may be in somebody's hands."""

    def __init__(self) -> None:
        super().__init__()
        self.box = Mailbox(1, "r")
        self.seq = 0
        self.model: dict[tuple[str, int], list[int]] = {}
        self.held: set[int] = set()
        self.dead: dict[int, tuple[str, int]] = {}

    def order(self, seq: int) -> int:
        return self.box.letters[seq].order

    @rule(lane=LANES)
    def push(self, lane: tuple[str, int]) -> None:
        self.seq += 1
        self.box.push(self.seq, lane)
        self.model.setdefault(lane, []).append(self.seq)

    @rule(limit=st.integers(1, 5), run=st.integers(1, 3))
    def take(self, limit: int, run: int) -> None:
        free = [lane for lane, seqs in self.model.items() if seqs and seqs[0] not in self.held]
        free.sort(key=lambda lane: (-lane[1], self.order(self.model[lane][0])))
        expected: list[int] = []
        for lane in free:
            expected += self.model[lane][: min(run, limit - len(expected))]
        taken = [letter.seq for letter in self.box.take(limit, run, 0.0, 9.0)]
        assert taken == expected
        self.held.update(taken)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.held)))
        letter = self.box.letters[seq]
        front = self.model[letter.lane][0]
        earlier = self.box.before(letter)
        assert (earlier is None) == (front == seq)
        if earlier is None:
            assert self.box.remove(seq) is letter
            self.model[letter.lane].remove(seq)
            self.held.discard(seq)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.held)))
        lane = self.model[self.box.letters[seq].lane]
        self.box.release(seq)
        for other in lane[lane.index(seq) :]:
            if other not in self.held:
                break
            self.held.discard(other)

    @precondition(lambda self: any(self.model.values()))
    @rule(data=st.data())
    def bury(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(seq for seqs in self.model.values() for seq in seqs)))
        lane = self.box.letters[seq].lane
        assert self.box.bury(seq, "why")
        assert not self.box.bury(seq, "why")
        self.model[lane].remove(seq)
        self.held.discard(seq)
        self.dead[seq] = lane

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def revive(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.dead)))
        lane = self.dead.pop(seq)
        self.seq += 1
        assert self.box.revive(seq, self.seq)
        self.model.setdefault(lane, []).append(seq)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert sorted(self.box.letters) == sorted(seq for seqs in self.model.values() for seq in seqs)
        assert {letter.seq for letter in self.box.in_flight} == self.held
        assert set(self.box.dead) == set(self.dead)


TestMailbox = MailboxAgainstLists.TestCase
TestMailbox.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

LEVEL = st.sampled_from(["a", "b", "c"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
PATTERN = st.builds(
    lambda parts, rest: "/".join(parts + rest),
    st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4),
    st.sampled_from([[], ["**"]]),
)


def fits(pattern: str, topic: str) -> bool:
    parts = pattern.split("/")
    rest = parts[-1] == "**"
    levels_ = [("[^/]+" if part == "*" else part) for part in (parts[:-1] if rest else parts)]
    return re.fullmatch("/".join(levels_) + ("(/.+)?" if rest else ""), topic) is not None


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 2), PATTERN), max_size=20), st.lists(TOPIC, max_size=5)
)
def test_topics_find_whom_the_patterns_name(steps: list[tuple[bool, int, str]], asked: list[str]) -> None:
    topics: Topics[int] = Topics()
    model: set[tuple[int, str]] = set()
    for adds, who, pattern in steps:
        if adds:
            assert topics.add(pattern, who) == ((who, pattern) not in model)
            model.add((who, pattern))
        else:
            assert topics.remove(pattern, who) == ((who, pattern) in model)
            model.discard((who, pattern))
        for topic in asked:
            assert topics.subscribers(topic) == {one for one, given_ in model if fits(given_, topic)}
    for who in range(3):
        topics.drop(who)
    assert topics._root.empty


@pytest.mark.parametrize(
    "topic", ["", "a//b", "/a", "a/", "a/*", "a b", "a/\x1b[2J", "a/" * 20 + "b", "x" * 300]
)
def test_a_topic_out_of_bounds_is_refused(topic: str) -> None:
    with pytest.raises(BadMessage):
        levels(topic)


def test_a_pattern_may_end_with_the_rest_only() -> None:
    with pytest.raises(BadMessage):
        levels("a/**/b", pattern=True)
    assert levels("**", pattern=True) == ["**"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), max_size=25))
def test_a_ring_is_found_when_it_closes(steps: list[tuple[bool, int, int]]) -> None:
    waits = Waits()
    edges: list[tuple[int, str, str]] = []
    for number, (adds, asker, asked) in enumerate(steps):
        if not adds and edges:
            waits.remove(*edges.pop(asker % len(edges)))
            continue
        a, b = f"n{asker}", f"n{asked}"
        known = {(x, y) for _, x, y in edges}
        ring = waits.add(number, a, b)
        reach, grown = {b}, True
        while grown:
            more = {y for x, y in known if x in reach} - reach
            reach, grown = reach | more, bool(more)
        assert bool(ring) == (a in reach and (a, b) not in known)
        edges.append((number, a, b))
        known.add((a, b))
        if ring:
            assert ring[0] == a
            assert all(pair in known for pair in zip(ring, [*ring[1:], a], strict=True))
            assert number in waits.requests(ring)


def test_a_sender_gets_its_burst_and_then_its_rate() -> None:
    rates = Rates(10.0, 3)
    assert [rates.take("a", 0.0) for _ in range(3)] == [0, 0, 0]
    assert rates.take("a", 0.0) == pytest.approx(0.1)
    assert rates.take("b", 0.0) == 0
    assert rates.take("a", 0.1001) == 0
    rates.trim(100.0)
    assert len(rates) == 0


@given(st.text(max_size=30))
def test_only_message_ids_have_numbers(text: str) -> None:
    if re.fullmatch("m[0-9]{1,19}", text):
        assert seq_of(text) == int(text[1:])
    else:
        with pytest.raises(BadMessage):
            seq_of(text)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_mailbox_numbers_come_back(numbers: list[int]) -> None:
    assert list(unpack(pack(numbers))) == numbers


def test_a_message_is_a_span_in_the_trace_of_its_cause() -> None:
    first = next_trace("")
    second = next_trace(first)
    assert first[:36] == second[:36]
    assert first[36:52] != second[36:52]
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", second)


@pytest.mark.parametrize(
    "trace",
    ["x", f"00-{'0' * 32}-{'1' * 16}-01", f"ff-{'1' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'1' * 16}-01-x"],
)
def test_a_malformed_trace_is_refused(trace: str) -> None:
    with pytest.raises(BadMessage):
        next_trace(trace)


@pytest.mark.parametrize(
    "draft",
    [
        Draft(b"1" * 101),
        Draft(b"1", type="a b"),
        Draft(b"1", type=""),
        Draft(b"1", priority=10),
        Draft(b"1", priority=-1),
        Draft(b"1", key="k" * 129),
        Draft(b"1", key="\ud800"),
        Draft(b"1", expires=0.0),
        Draft(b"1", expires=float("nan")),
    ],
)
def test_a_draft_out_of_bounds_is_refused(draft: Draft) -> None:
    with pytest.raises(BadMessage):
        check(draft, Limits(payload=100))


class Verdict(BaseModel):
    passed: bool


def test_a_payload_must_fit_the_schema_of_its_type() -> None:
    schemas = Schemas()
    schemas.register("verdict", Verdict)
    schemas.check("verdict", b'{"passed": true}')
    with pytest.raises(BadMessage, match="passed"):
        schemas.check("verdict", b'{"passed": "perhaps"}')
    schemas.check("other", b'{"passed": "perhaps"}')
    with pytest.raises(BadMessage):
        schemas.check("other", b"{")
    assert schemas.json_schema("verdict") is not None


def test_acknowledging_a_long_lane_walks_through_it_once() -> None:
    box = Mailbox(1, "b")
    for seq in range(1, 501):
        box.push(seq, ("a" if seq % 2 else "c", 4))
    rests: dict[tuple[str, int], Iterator[Letter]] = {}
    for seq in (1, 2, 3, 5, 4, 6, 7):
        letter = box.letters[seq]
        assert box.before(letter, rests) is None
        letter.leaving = True
    first = box.before(box.letters[13], rests)
    assert first is not None
    assert first.seq == 9
    assert next(rests["c", 4]).seq == 8
