from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agenttop.core.gateway.lanes.fair import MEMORY, FairQueue, Place
from agenttop.core.nice import WEIGHTS, weight


def everywhere(group: str | None) -> bool:
    return True


def place(agent: str, number: int = 0, **fields: object) -> Place:
    given = {"queue": "interactive", "nice": 0, "tokens": 1000, **fields}
    return Place(f"{agent}{number}", agent, **given)  # type: ignore[arg-type]


def test_the_weights_are_those_of_linux() -> None:
    assert len(WEIGHTS) == 40
    assert (weight(-20), weight(-5), weight(0), weight(5), weight(19)) == (88761, 3121, 1024, 335, 15)
    assert (weight(-99), weight(99)) == (88761, 15)


def test_an_agents_calls_go_in_the_order_they_came() -> None:
    queue: FairQueue[Place] = FairQueue()
    places = [place("a", number) for number in range(5)]
    for one in places:
        queue.push(one, 0.0)
    assert [queue.pop(everywhere, 0.0) for _ in range(5)] == places
    assert queue.pop(everywhere, 0.0) is None


def test_a_call_that_comes_back_goes_before_its_agents_others() -> None:
    queue: FairQueue[Place] = FairQueue()
    first, second, third = (place("a", number) for number in range(3))
    for one in (first, second):
        queue.push(one, 0.0)
    assert queue.pop(everywhere, 0.0) is first
    assert queue.pop(everywhere, 0.0) is second
    queue.push(third, 0.0)
    for one in (second, first):
        queue.settle(one, 0, 0.0)
        queue.push(one, 0.0)
    assert [queue.pop(everywhere, 0.0) for _ in range(3)] == [first, second, third]


def test_batch_waits_for_every_interactive_call() -> None:
    queue: FairQueue[Place] = FairQueue()
    queue.push(place("slow", queue="batch", nice=-20), 0.0)
    for number in range(3):
        queue.push(place("a", number, nice=19), 0.0)
    assert [queue.pop(everywhere, 0.0).agent for _ in range(4)] == ["a", "a", "a", "slow"]  # type: ignore[union-attr]


def test_what_may_not_go_keeps_its_place_and_holds_nobody_up() -> None:
    queue: FairQueue[Place] = FairQueue()
    blocked, free = place("a", 1, group="opus"), place("a", 2, group="haiku")
    queue.push(blocked, 0.0)
    queue.push(free, 0.0)
    assert queue.pop(lambda group: group != "opus", 0.0) is free
    assert queue.pop(lambda group: group != "opus", 0.0) is None
    assert queue.pop(everywhere, 0.0) is blocked


def test_the_true_use_replaces_the_estimate() -> None:
    queue: FairQueue[Place] = FairQueue()
    for number in range(4):
        queue.push(place("guessed", number, tokens=10_000), 0.0)
        queue.push(place("known", number, tokens=1000), 0.0)
    order = []
    for _ in range(8):
        one = queue.pop(everywhere, 0.0)
        assert one is not None
        order.append(one.agent)
        queue.settle(one, 1000, 0.0)
    assert all(set(pair) == {"guessed", "known"} for pair in zip(order[::2], order[1::2], strict=True))


def test_another_nice_counts_for_what_waits_already() -> None:
    queue: FairQueue[Place] = FairQueue()
    # It has had a lot at the lowest weight, and would wait for the other to have as much.
    for number in range(20):
        queue.push(place("late", number, nice=19), 0.0)
    for _ in range(10):
        one = queue.pop(everywhere, 0.0)
        assert one is not None
        queue.settle(one, 1000, 0.0)
    for number in range(40):
        queue.push(place("other", number), 0.0)
    before = [queue.pop(everywhere, 0.0).agent for _ in range(10)]  # type: ignore[union-attr]
    assert before.count("late") <= 1
    queue.renice("late", -20)
    after = [queue.pop(everywhere, 0.0).agent for _ in range(10)]  # type: ignore[union-attr]
    assert after.count("late") >= 9


def test_nobody_saves_up_by_staying_away() -> None:
    queue: FairQueue[Place] = FairQueue()
    now = 0.0
    sleeper = place("sleeper", 0)
    queue.push(sleeper, now)
    assert queue.pop(everywhere, now) is sleeper
    queue.settle(sleeper, 1000, now)
    for number in range(100):  # five minutes in which only the other one calls
        now += 3.0
        busy = place("busy", number)
        queue.push(busy, now)
        assert queue.pop(everywhere, now) is busy
        queue.settle(busy, 1000, now)
    for number in range(10):
        queue.push(place("sleeper", 1 + number), now)
        queue.push(place("busy", 100 + number), now)
    first = [queue.pop(everywhere, now).agent for _ in range(10)]  # type: ignore[union-attr]
    assert 4 <= first.count("sleeper") <= 6


def test_small_calls_now_and_then_save_up_no_more_than_a_minute() -> None:
    queue: FairQueue[Place] = FairQueue()
    now, number = 0.0, 0
    for _ in range(60):  # each of them less than a minute after the last
        for agent, many in (("rare", 1), ("busy", 50)):
            for _ in range(many):
                number += 1
                now += 0.5
                one = place(agent, number)
                queue.push(one, now)
                assert queue.pop(everywhere, now) is one
                queue.settle(one, 1000, now)
    for _ in range(400):
        number += 1
        queue.push(place("rare", number), now)
        queue.push(place("busy", number), now)
        queue.push(place("new", number), now)
    first = [queue.pop(everywhere, now).agent for _ in range(300)]  # type: ignore[union-attr]
    counts = Counter(first)
    # A minute's worth of turns is 120 at most; after that all three take turns.
    assert counts["rare"] <= 120 + 90
    assert counts["new"] >= 50
    assert counts["busy"] >= 30


def test_estimates_of_calls_that_run_do_not_set_newcomers_back() -> None:
    queue: FairQueue[Place] = FairQueue()
    running = []
    for number in range(100):
        queue.push(place("many", number, tokens=100_000), 0.0)
    for _ in range(50):
        one = queue.pop(everywhere, 0.0)
        assert one is not None
        running.append(one)
    for one in running:
        queue.settle(one, 100, 0.0)
    for number in range(5):
        queue.push(place("new", number, tokens=100_000), 0.0)
    soon = [queue.pop(everywhere, 0.0).agent for _ in range(10)]  # type: ignore[union-attr]
    assert soon.count("new") == 5


@settings(deadline=None, max_examples=60)
@given(
    nices=st.lists(st.integers(-10, 10), min_size=2, max_size=6),
    sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=5),
)
def test_tokens_are_shared_by_weight(nices: list[int], sizes: list[int]) -> None:
    queue: FairQueue[Place] = FairQueue()
    got: Counter[int] = Counter()
    number = 0

    def push(agent: int) -> None:
        nonlocal number
        number += 1
        queue.push(
            place(str(agent), number, nice=nices[agent], tokens=sizes[(agent + number) % len(sizes)]), 0.0
        )

    for agent in range(len(nices)):
        push(agent)
        push(agent)
    for _ in range(4000):
        one = queue.pop(everywhere, 0.0)
        assert one is not None
        got[int(one.agent)] += one.tokens
        queue.settle(one, one.tokens, 0.0)
        push(int(one.agent))
    # As in any such queue each is off by a few calls of the largest size at most (both sides of a pair).
    shares = {agent: got[agent] * 1024 / weight(nice) for agent, nice in enumerate(nices)}
    for agent, nice in enumerate(nices):
        slack = 2 * max(sizes) * 1024 / weight(nice) + 2 * max(sizes) * 1024 / min(weight(n) for n in nices)
        assert abs(shares[agent] - min(shares.values())) <= slack


class QueueMachine(RuleBasedStateMachine):
    """Any order of everything: nothing is lost, nothing twice, and whatever may go goes."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[Place] = FairQueue()
        self.now = 0.0
        self.number = 0
        self.waiting: dict[str, Place] = {}
        self.running: list[Place] = []
        self.back: list[Place] = []

    @rule(
        agent=st.sampled_from("abcd"),
        nice=st.integers(-20, 19),
        queue=st.sampled_from(["interactive", "batch"]),
        group=st.sampled_from([None, "x", "y"]),
        tokens=st.integers(0, 100_000),
    )
    def push(self, agent: str, nice: int, queue: str, group: str | None, tokens: int) -> None:
        self.number += 1
        one = place(agent, self.number, nice=nice, queue=queue, group=group, tokens=tokens)
        self.queue.push(one, self.now)
        self.waiting[one.call] = one

    @rule(allowed=st.sets(st.sampled_from([None, "x", "y"])))
    def pop(self, allowed: set[str | None]) -> None:
        may = [one for one in self.waiting.values() if one.group in allowed]
        one = self.queue.pop(allowed.__contains__, self.now)
        assert (one is None) == (not may)
        if one is None:
            return
        assert one in may
        if one.queue == "batch":
            assert all(other.queue == "batch" for other in may)
        older = [o for o in may if (o.agent, o.queue) == (one.agent, one.queue) and o.seq < one.seq]
        assert older == []
        del self.waiting[one.call]
        self.running.append(one)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), used=st.integers(0, 200_000), again=st.booleans())
    def settle(self, data: st.DataObject, used: int, again: bool) -> None:
        one = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.queue.settle(one, 0 if again else used, self.now)
        if again:
            self.queue.push(one, self.now)
            self.waiting[one.call] = one

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(sorted(self.waiting)))
        self.queue.remove(self.waiting.pop(call), self.now)

    @rule(agent=st.sampled_from("abcd"), nice=st.integers(-20, 19))
    def renice(self, agent: str, nice: int) -> None:
        self.queue.renice(agent, nice)

    @rule(seconds=st.floats(0, 2 * MEMORY))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert self.queue.tokens == sum(one.tokens for one in self.waiting.values())
        assert self.queue.groups() == {one.group for one in self.waiting.values()}
        for group in (None, "x", "y"):
            assert self.queue.count(group) == sum(one.group == group for one in self.waiting.values())


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(deadline=None, max_examples=80, stateful_step_count=60)


@settings(deadline=None, max_examples=40)
@given(
    nices=st.lists(st.integers(-20, 19), min_size=2, max_size=5),
    order=st.lists(st.integers(0, 4), min_size=1, max_size=50),
)
def test_nobody_in_a_class_starves(nices: list[int], order: list[int]) -> None:
    """Whoever waits goes before the others have had what the weights allow, and a call each."""
    queue: FairQueue[Place] = FairQueue()
    number = 0

    def push(agent: int) -> None:
        nonlocal number
        number += 1
        queue.push(place(str(agent), number, nice=nices[agent]), 0.0)

    for agent in order:
        push(agent % len(nices))
    waiting = place("last", 0, nice=0)
    queue.push(waiting, 0.0)
    bound = sum(max(1, 2 * weight(nice) // 1024 + 2) for nice in nices) + len(order)
    for _ in range(bound):
        one = queue.pop(everywhere, 0.0)
        assert one is not None
        if one is waiting:
            return
        queue.settle(one, one.tokens, 0.0)
        push(int(one.agent))
    pytest.fail(f"it still waits after {bound} calls of others")


def test_agents_that_left_are_forgotten() -> None:
    queue: FairQueue[Place] = FairQueue()
    now = 0.0
    for number in range(5000):
        now += 1.0
        one = place(f"agent{number}", 0)
        queue.push(one, now)
        assert queue.pop(everywhere, now) is one
        queue.settle(one, 10, now)
    assert len(queue._classes["interactive"].accounts) <= 2 * MEMORY + 2


def test_a_client_that_comes_and_goes_leaves_nothing_behind() -> None:
    queue: FairQueue[Place] = FairQueue()
    queue.push(place("a", 0), 0.0)
    for number in range(1, 5000):
        one = place("a", number)
        queue.push(one, 0.0)
        queue.remove(one, 0.0)
    (line,) = queue._classes["interactive"].accounts["a"].lines.values()
    assert len(line.heap) < 200
    assert all(len(heap) < 200 for heap in queue._classes["interactive"].groups.values())
