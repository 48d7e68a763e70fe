"""The bus against bad luck and those who mean it harm: rings closed twice, too much."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from agenttop.core.bus.bus import Bus
from agenttop.core.bus.delivery import ANSWER
from agenttop.core.bus.errors import BusUnavailable, Deadlock
from agenttop.core.bus.message import Draft, Limits
from agenttop.core.bus.topics import Topics
from agenttop.core.clock import ManualClock

pytestmark = pytest.mark.anyio

DRAFT = Draft(b"1")


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    async with await Bus.open(tmp_path / "mail.db", ManualClock(), on_deadlock=lambda _: True) as bus:
        for name in ("a", "b"):
            await bus.open_mailbox(name)
        yield bus


async def test_a_ring_that_is_closed_twice_at_once_is_broken_all_the_same(bus: Bus) -> None:
    ended: list[str] = []

    async def ask(asker: str, asked: str) -> None:
        try:
            await bus.ask(asker, asked, DRAFT, 60)
        except Deadlock:
            ended.append(asker)

    async with anyio.create_task_group() as tasks:
        for asker, asked in ("ab", "ba", "ba"):  # one turn of the loop, one commit
            tasks.start_soon(ask, asker, asked)
        with anyio.fail_after(30):
            while not ended:
                await anyio.lowlevel.checkpoint()
            await bus.pipeline.run(lambda db: None)
            await bus.pipeline.run(lambda db: None)
        assert bus.pipeline.books.waits.ring("a", "b") == []
        tasks.cancel_scope.cancel()
    assert set(ended) == {"b"}


async def test_one_answer_holds_so_many_bytes_and_the_next_one_the_rest(bus: Bus) -> None:
    size = 200_000
    await bus.open_mailbox("c")
    for number in range(100):
        bus.post("ac"[number % 2], "b", Draft(b'"%s"' % (b"x" * size), priority=number % 5))
    await bus.pipeline.run(lambda db: None)
    got = 0
    while found := await bus.mail.take("b", 500, run=500):
        assert {one.attempt for one in found} == {1}
        assert 1 < len(found) <= ANSWER // size + 1
        got += await bus.mail.ack("b", [one.message.seq for one in found])
    assert got == 100


def test_what_is_remembered_of_topics_is_bounded_by_their_subscribers() -> None:
    topics: Topics[int] = Topics()
    for number in range(5_000):
        topics.add("**", number)
    for number in range(100):
        assert len(topics.subscribers(f"results/{number}")) == 5_000
    assert sum(map(len, topics._found.values())) <= 200_000


async def test_what_waits_for_the_disk_is_bounded_in_bytes(bus: Bus) -> None:
    big = Draft(b'"%s"' % (b"x" * 250_000))
    for _ in range(bus.limits.waiting_bytes // len(big.payload) + 1):
        posted = bus.post("a", "b", big)
    with pytest.raises(BusUnavailable, match="wait for the disk"):
        bus.post("a", "b", big)
    await posted.batch
    await bus.send("a", "b", DRAFT)


async def test_what_is_published_to_a_full_mailbox_costs_one_mark_to_bury_and_one_to_make_room(
    tmp_path: Path,
) -> None:
    limits = Limits(depth=1, dead=10, burst=10_000)
    async with await Bus.open(tmp_path / "full.db", ManualClock(), limits) as bus:
        await bus.open_mailbox("b")
        await bus.subscribe("b", "**")
        for _ in range(4):
            before = bus.pipeline.next_seq
            for _ in range(100):
                posted, _, _ = bus.post_all("a", "news", DRAFT)
            await posted.batch
            assert bus.pipeline.next_seq - before <= 300
        for _ in range(3):
            posted, _, _ = bus.post_all("a", "news", DRAFT)
            await posted.batch
        assert len(bus.pipeline.books.names["b"].dead) == limits.dead
