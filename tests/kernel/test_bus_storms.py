"""Hops: agents that answer each other for ever are stopped, and nobody else is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from agenttop.core.bus.bus import Bus
from agenttop.core.bus.errors import TooManyHops
from agenttop.core.bus.message import Draft, Limits, next_trace
from agenttop.core.clock import ManualClock

pytestmark = pytest.mark.anyio

LIMITS = Limits(hops=4)
DRAFT = Draft(b"1")


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    async with await Bus.open(tmp_path / "mail.db", ManualClock(), LIMITS) as bus:
        for name in ("a", "b", "@me"):
            await bus.open_mailbox(name)
        yield bus


async def answering(bus: Bus, name: str) -> None:
    """Reply to whatever is asked."""
    while True:
        for one in await bus.mail.take(name, wait=600):
            await bus.reply(name, one.message.seq, DRAFT)


async def test_questions_one_after_the_other_are_no_chain(bus: Bus) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answering, bus, "b")
        hops = [(await bus.ask("a", "b", DRAFT, 60)).message.hops for _ in range(3 * LIMITS.hops)]
        tasks.cancel_scope.cancel()
    assert set(hops) == {1}


async def test_whoever_was_asked_may_answer_however_long_the_chain(bus: Bus) -> None:
    bus.desk.reading["a"] = (1, LIMITS.hops - 1, next_trace(""))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answering, bus, "b")
        assert (await bus.ask("a", "b", DRAFT, 60)).message.hops == LIMITS.hops + 1
        tasks.cancel_scope.cancel()


async def test_a_person_begins_anew_whatever_was_read_before(bus: Bus) -> None:
    await bus.send("b", "@me", DRAFT)
    (got,) = await bus.mail.take("@me")
    bus.desk.reading["@me"] = (got.message.seq, LIMITS.hops, got.message.trace)
    await bus.send("@me", "a", DRAFT)
    (got,) = await bus.mail.take("a")
    assert got.message.hops == 0
    assert got.message.cause is not None


async def test_what_a_message_began_is_caused_by_it_after_its_acknowledgement_too(bus: Bus) -> None:
    bus.desk.reading["b"] = (1, LIMITS.hops - 1, next_trace(""))
    await bus.send("b", "a", DRAFT)
    (got,) = await bus.mail.take("a")
    bus.desk.began("a", got.message)
    await bus.mail.ack("a", [got.message.seq])
    with pytest.raises(TooManyHops):
        await bus.send("a", "b", DRAFT)
    bus.desk.over("a")
    await bus.send("a", "b", DRAFT)
