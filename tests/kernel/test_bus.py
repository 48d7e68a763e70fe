"""The bus on its real store: what senders and receivers are promised."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from agenttop.core.bus.bus import Bus
from agenttop.core.bus.errors import (
    BadMessage,
    BusUnavailable,
    Deadlock,
    MailboxFull,
    NoReply,
    NoSuchMailbox,
    NoSuchMessage,
    OutOfOrder,
    TooFast,
    TooManyHops,
)
from agenttop.core.bus.message import Draft, Limits
from agenttop.core.clock import ManualClock, SystemClock
from agenttop.core.errors import Conflict, Forbidden

pytestmark = pytest.mark.anyio

LIMITS = Limits(depth=5, dead=3, hops=4, attempts=3, visible_after=10.0, rate=1000.0, burst=1000)


def draft(value: object = 1, **more: object) -> Draft:
    return Draft(str(value).encode(), **more)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def bus(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bus]:
    async with await Bus.open(tmp_path / "mail.db", clock, LIMITS) as bus:
        for name in ("a", "b", "c"):
            await bus.open_mailbox(name)
        yield bus


async def again(bus: Bus) -> Bus:
    """The bus after a restart."""
    await bus.close()
    return await Bus.open(bus.pipeline.path, bus.clock, bus.limits)


async def settle(bus: Bus) -> None:
    """Return when everything posted is in the books."""
    await bus.pipeline.run(lambda db: None)


async def values(bus: Bus, name: str, limit: int = 10, run: int = 10) -> list[int]:
    return [int(one.message.payload or b"") for one in await bus.mail.take(name, limit, run=run)]


async def test_a_message_waits_for_its_receiver_across_a_restart(bus: Bus) -> None:
    sent = await bus.send("a", "b", draft(7))
    bus = await again(bus)
    (got,) = await bus.mail.take("b")
    assert (got.message.id, got.message.sender, got.message.payload, got.attempt) == (sent, "a", b"7", 1)
    await bus.mail.ack("b", [got.message.seq])
    bus = await again(bus)
    assert await bus.mail.take("b") == []
    await bus.close()


async def test_a_number_is_never_given_twice_even_after_a_purge(bus: Bus) -> None:
    first = await bus.send("a", "b", draft())
    await bus.mail.ack("b", [int(first[1:])])
    assert await bus.pipeline.purge() == 1
    bus = await again(bus)
    assert int((await bus.send("a", "b", draft()))[1:]) > int(first[1:]) + 1
    await bus.close()


async def test_what_is_not_acknowledged_holds_back_what_is_behind_it(bus: Bus, clock: ManualClock) -> None:
    for value in (1, 2):
        await bus.send("a", "b", draft(value))
    await bus.send("c", "b", draft(3))
    await bus.send("a", "b", draft(4, priority=9))
    assert await values(bus, "b", run=1) == [4, 1, 3]
    assert await values(bus, "b") == []
    clock.advance(11)
    bus.tick()
    assert await values(bus, "b", limit=2, run=1) == [4, 1]


async def test_acknowledging_out_of_order_is_refused_and_twice_is_harmless(bus: Bus) -> None:
    one, two = [int((await bus.send("a", "b", draft(v)))[1:]) for v in (1, 2)]
    await values(bus, "b")
    with pytest.raises(OutOfOrder, match=f"m{one}"):
        await bus.mail.ack("b", [two])
    assert await bus.mail.ack("b", [one, two]) == 2
    assert await bus.mail.ack("b", [one, two, 999]) == 0


async def test_mail_that_fells_every_receiver_becomes_a_dead_letter_and_can_be_put_back(
    bus: Bus, clock: ManualClock
) -> None:
    bad = int((await bus.send("a", "b", draft(1)))[1:])
    await bus.send("a", "b", draft(2))
    for attempt in (1, 2, 3):
        got = await bus.mail.take("b", 5, run=5)
        assert [(one.message.seq == bad, one.attempt) for one in got] == [(True, attempt), (False, 1)]
        clock.advance(11)
        bus.tick()
        await settle(bus)
        if attempt == 2:
            bus = await again(bus)
    (dead,) = bus.mail.dead("b")
    assert (dead.message.seq, dead.attempts) == (bad, 3)
    assert "3 times" in dead.reason
    assert await values(bus, "b") == [2]
    await bus.mail.revive("b", bad)
    bus = await again(bus)
    assert await values(bus, "b") == [2, 1]
    with pytest.raises(NoSuchMessage):
        await bus.mail.revive("b", bad)
    await bus.close()


async def test_the_same_key_is_the_same_message_before_and_after_the_commit_and_a_restart(bus: Bus) -> None:
    first = bus.post("a", "b", draft(1, key="k"))
    second = bus.post("a", "b", draft(1, key="k"))
    assert (second.seq, second.again) == (first.seq, True)
    await first.batch
    assert await bus.send("a", "b", draft(1, key="k")) == f"m{first.seq}"
    assert await bus.send("c", "b", draft(1, key="k")) != f"m{first.seq}"
    await bus.mail.take("b")
    await bus.mail.ack("b", [first.seq])
    await bus.pipeline.purge()
    bus = await again(bus)
    assert await bus.send("a", "b", draft(1, key="k")) == f"m{first.seq}"
    assert len(await values(bus, "b")) == 1
    await bus.close()


async def test_a_full_mailbox_holds_its_senders_until_there_is_room(bus: Bus) -> None:
    for value in range(5):
        bus.post("a", "b", draft(value))
    with pytest.raises(MailboxFull):
        bus.post("a", "b", draft())
    await settle(bus)
    with pytest.raises(MailboxFull):
        await bus.send("a", "b", draft())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: bus.send("a", "b", draft(5), patience=30))
        (got,) = await bus.mail.take("b")
        await anyio.lowlevel.checkpoint()
        await bus.mail.ack("b", [got.message.seq])
    assert await values(bus, "b") == [1, 2, 3, 4, 5]


async def test_what_expires_is_a_dead_letter_and_stays_wanted_when_put_back(
    bus: Bus, clock: ManualClock
) -> None:
    sent = int((await bus.send("a", "b", draft(1, expires=5.0)))[1:])
    clock.advance(6)
    bus.tick()
    await settle(bus)
    assert [one.reason for one in bus.mail.dead("b")] == ["expired"]
    await bus.mail.revive("b", sent)
    bus = await again(bus)
    bus.tick()
    await settle(bus)
    assert await values(bus, "b") == [1]
    await bus.close()


async def test_a_topic_reaches_its_subscribers_once_each_and_after_a_restart(bus: Bus) -> None:
    await bus.subscribe("b", "build/*/failed")
    await bus.subscribe("b", "build/**")
    await bus.subscribe("c", "other/**")
    bus = await again(bus)
    _, count, full = await bus.publish("a", "build/api/failed", draft(1))
    assert (count, full) == (1, 0)
    assert await values(bus, "b") == [1]
    assert await values(bus, "c") == []
    await bus.unsubscribe("b", "build/**")
    assert (await bus.publish("a", "build/api", draft(2)))[1:] == (0, 0)
    await bus.close()


async def test_a_broadcast_reaches_all_others_and_passes_a_full_mailbox_by(bus: Bus) -> None:
    for _ in range(5):
        await bus.send("a", "b", draft(0))
    _, count, full = await bus.broadcast("a", draft(1))
    assert (count, full) == (2, 1)
    assert await values(bus, "c") == [1]
    assert [one.reason for one in bus.mail.dead("b")] == ["mailbox full"]
    for _ in range(5):
        await bus.broadcast("c", draft(2))
    assert len(bus.mail.dead("b")) == LIMITS.dead


async def test_a_request_is_answered_and_acknowledged_in_one(bus: Bus) -> None:
    async def answer() -> None:
        (got,) = await bus.mail.take("b", wait=30)
        assert got.message.deadline is not None
        await bus.reply("b", got.message.seq, draft(42))
        with pytest.raises(Conflict):
            await bus.reply("b", got.message.seq, draft(43))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        reply = await bus.ask("a", "b", draft(1), 30)
    assert reply.message.payload == b"42"
    assert reply.message.cause == reply.message.reply_to
    assert await values(bus, "a") == await values(bus, "b") == []
    assert bus.pipeline.books.messages == {}


async def test_a_request_without_a_reply_ends_at_its_deadline(bus: Bus, clock: ManualClock) -> None:
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(NoReply, match="deadline"):
                await bus.ask("a", "b", draft(1), 5)

        tasks.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        await settle(bus)
        clock.advance(6)
        bus.tick()
    assert [one.reason for one in bus.mail.dead("b")] == ["deadline"]
    with pytest.raises(Conflict):
        await bus.reply("b", bus.mail.dead("b")[0].message.seq, draft())


async def test_a_cancelled_request_leaves_nothing_behind(bus: Bus) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bus.ask, "a", "b", draft(1), 60)
        await anyio.lowlevel.checkpoint()
        await settle(bus)
        assert bus.pipeline.books.waits.waiting() == {"a": ["b"]}
        tasks.cancel_scope.cancel()
    await settle(bus)
    assert bus.pipeline.books.waits.waiting() == {}
    assert await values(bus, "b") == []


async def test_only_who_was_asked_may_reply(bus: Bus) -> None:
    posted = bus.post("a", "b", draft(), deadline=bus.clock.time() + 9)
    await posted.batch
    with pytest.raises(Forbidden):
        await bus.reply("c", posted.seq, draft())
    with pytest.raises(Conflict):
        await bus.reply("c", 999, draft())


@pytest.mark.parametrize("breaks", [True, False])
async def test_a_ring_of_requests_is_named_and_broken_where_policy_says_so(
    tmp_path: Path, clock: ManualClock, breaks: bool
) -> None:
    rings: list[list[str]] = []

    def on_deadlock(ring: list[str]) -> bool:
        rings.append(ring)
        return breaks

    async with await Bus.open(tmp_path / "ring.db", clock, LIMITS, on_deadlock=on_deadlock) as bus:
        for name in "abc":
            await bus.open_mailbox(name)
        ended: list[str] = []

        async def ask(asker: str, asked: str) -> None:
            try:
                await bus.ask(asker, asked, draft(), 60)
            except Deadlock:
                ended.append(asker)

        async with anyio.create_task_group() as tasks:
            for asker, asked in ("ab", "bc", "ca"):
                tasks.start_soon(ask, asker, asked)
                await anyio.lowlevel.checkpoint()
                await settle(bus)
            await settle(bus)
            await settle(bus)
            tasks.cancel_scope.cancel()
        assert rings == [["c", "a", "b"]]
        assert ended == (["c"] if breaks else [])


async def test_a_chain_of_causes_ends_even_if_nobody_names_them(bus: Bus) -> None:
    sender, receiver = "a", "b"
    for hops in range(LIMITS.hops + 1):
        sent = await bus.send(sender, receiver, draft(priority=hops))
        (got,) = await bus.mail.take(receiver)
        assert (got.message.id, got.message.hops) == (sent, hops)
        sender, receiver = receiver, sender
    with pytest.raises(TooManyHops):
        await bus.send(sender, receiver, draft())


async def test_an_answer_belongs_to_the_trace_of_what_caused_it(bus: Bus) -> None:
    first = await bus.send("a", "b", draft())
    await bus.mail.take("b")
    await bus.mail.ack("b", [int(first[1:])])
    await bus.send("b", "c", draft(cause=first))
    (got,) = await bus.mail.take("c")
    assert (got.message.hops, got.message.cause) == (1, int(first[1:]))


async def test_a_sender_over_its_rate_is_told_how_long_to_wait(tmp_path: Path, clock: ManualClock) -> None:
    async with await Bus.open(tmp_path / "r.db", clock, Limits(rate=10, burst=2)) as bus:
        await bus.open_mailbox("b")
        bus.post("a", "b", draft())
        bus.post("a", "b", draft())
        with pytest.raises(TooFast, match=r"0\.100 s"):
            bus.post("a", "b", draft())


async def test_policy_is_asked_before_anything_is_kept(tmp_path: Path, clock: ManualClock) -> None:
    def permit(sender: str, mode: str, to: str, type_: str) -> None:
        if to != "b":
            raise Forbidden(f"{sender} may not write to {to}")

    async with await Bus.open(tmp_path / "p.db", clock, permit=permit) as bus:
        await bus.open_mailbox("b")
        await bus.send("a", "b", draft())
        with pytest.raises(Forbidden):
            await bus.broadcast("a", draft())
        assert len(bus.pipeline.books.messages) == 1


async def test_mail_to_nobody_and_mail_that_is_no_json_are_refused(bus: Bus) -> None:
    with pytest.raises(NoSuchMailbox):
        await bus.send("a", "nobody", draft())
    with pytest.raises(BadMessage):
        await bus.send("a", "b", Draft(b"{"))
    with pytest.raises(BadMessage):
        await bus.send("a", "b", Draft(b'"' + b"x" * LIMITS.payload + b'"'))
    await bus.send("a", "a", draft(3))
    assert await values(bus, "a") == [3]


async def test_the_mail_of_the_dead_becomes_dead_letters_and_who_asked_them_is_told(bus: Bus) -> None:
    await bus.send("a", "b", draft())
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(NoReply, match="closed"):
                await bus.ask("c", "b", draft(1), 60)

        tasks.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        await settle(bus)
        await bus.close_mailbox("b")
    assert [one.reason for one in bus.mail.dead("b")] == ["closed", "closed"]
    with pytest.raises(NoSuchMailbox):
        await bus.send("a", "b", draft())
    await bus.open_mailbox("b")
    await bus.send("a", "b", draft(9))
    bus = await again(bus)
    assert await values(bus, "b") == [9]
    await bus.close()


async def test_payloads_over_the_memory_bound_come_from_the_store(tmp_path: Path, clock: ManualClock) -> None:
    async with await Bus.open(tmp_path / "m.db", clock, Limits(memory=3)) as bus:
        await bus.open_mailbox("b")
        for value in (111, 222, 333):
            await bus.send("a", "b", draft(value))
        assert bus.pipeline.books.bytes == 3
        assert await values(bus, "b") == [111, 222, 333]


async def test_a_failed_commit_acknowledges_nothing_and_the_bus_comes_back(bus: Bus) -> None:
    await bus.send("a", "b", draft(1))
    await bus.pipeline.run(lambda db: db.execute("PRAGMA query_only = on") and None)
    with pytest.raises(BusUnavailable):
        await bus.send("a", "b", draft(2))
    with pytest.raises(BusUnavailable):
        bus.post("a", "b", draft(3))
    await bus.reopen()
    await bus.send("a", "b", draft(4))
    assert await values(bus, "b") == [1, 4]


async def test_the_running_bus_redelivers_by_itself(tmp_path: Path) -> None:
    async with await Bus.open(tmp_path / "run.db", SystemClock()) as bus, anyio.create_task_group() as tasks:
        tasks.start_soon(bus.run)
        await bus.open_mailbox("b")
        await bus.send("a", "b", draft(1))
        await bus.mail.take("b", visible_after=0.05)
        (got,) = await bus.mail.take("b", wait=30)
        assert got.attempt == 2
        tasks.cancel_scope.cancel()


async def test_the_store_is_private_and_keeps_a_payload_once(bus: Bus) -> None:
    for name in ("b", "c"):
        await bus.subscribe(name, "t")
    await bus.publish("a", "t", draft('"hello"'))
    path = bus.pipeline.path
    assert path.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM messages").fetchone() == (1,)
    db.close()
