"""The books after a restart are the books before it, whatever happened."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from agenttop.core.bus.books import Books
from agenttop.core.bus.bus import Bus
from agenttop.core.bus.message import Draft, Limits
from agenttop.core.clock import ManualClock
from agenttop.core.errors import AgentTopError

pytestmark = pytest.mark.anyio

NAMES = ("a", "b", "c")
LIMITS = Limits(depth=6, dead=4, hops=50, attempts=2, visible_after=5.0)


def picture(books: Books) -> dict[str, Any]:
    """All that must survive."""
    return {
        "messages": books.messages,
        "keys": books.keys,
        "requests": books.requests,
        "waits": books.waits.waiting(),
        "bytes": books.bytes,
        "open": books._open,
        "boxes": {
            number: (
                box.name,
                {lane: [letter.seq for letter in queue] for lane, queue in box._lanes.items()},
                [(letter.seq, letter.reason) for letter in box.dead.values()],
            )
            for number, box in books.boxes.items()
        },
        "patterns": {number: books.topics.patterns(number) for number in books.boxes},
    }


async def step(bus: Bus, clock: ManualClock, chance: random.Random) -> None:
    """One thing that agents, people or time may do; refusals are part of it."""
    name, other = chance.choice(NAMES), chance.choice(NAMES)
    draft = Draft(
        b"%d" % chance.randrange(9), priority=chance.randrange(3), key=chance.choice(["", "", "k1", "k2"])
    )
    books = bus.pipeline.books
    waiting = [seq for box in books.names.values() if box.name == name for seq in box.letters] or [1]
    dead = [seq for box in books.names.values() if box.name == name for seq in box.dead] or [1]
    what = chance.randrange(12)
    if what <= 2:
        expires = chance.choice([None, 3.0])
        bus.post(name, other, Draft(draft.payload, priority=draft.priority, key=draft.key, expires=expires))
    elif what == 3:
        bus.post_all(name, chance.choice([None, "t/x"]), draft)
    elif what == 4:
        bus.post(name, other, Draft(b"1"), deadline=clock.time() + chance.choice([2.0, 50.0]))
    elif what == 5:
        await bus.mail.take(name, 4, run=2)
    elif what == 6:
        bus.mail.post_ack(name, waiting[:2])
    elif what == 7:
        await bus.reply(name, chance.choice(list(books.requests) or [1]), Draft(b"2"))
    elif what == 8:
        clock.advance(chance.choice([1.0, 6.0]))
        bus.tick()
    elif what == 9:
        await chance.choice([bus.mail.revive, bus.mail.drop])(name, chance.choice(dead))
    elif what == 10:
        await chance.choice([bus.subscribe, bus.unsubscribe])(name, chance.choice(["t/*", "**"]))
    elif chance.random() < 0.2:
        await bus.close_mailbox(name)
        await bus.open_mailbox(name)
    else:
        await bus.pipeline.purge()


@pytest.mark.parametrize("seed", range(12))
async def test_a_restart_changes_nothing(tmp_path: Path, seed: int) -> None:
    clock, chance = ManualClock(), random.Random(seed)
    done = 0
    async with await Bus.open(tmp_path / "mail.db", clock, LIMITS) as bus:
        for name in NAMES:
            await bus.open_mailbox(name)
        for _ in range(250):
            try:
                await step(bus, clock, chance)
                done += 1
            except AgentTopError:
                continue
        await bus.pipeline.run(lambda db: None)
        before = picture(bus.pipeline.books)
        async with await Bus.open(tmp_path / "mail.db", clock, LIMITS) as again:
            assert picture(again.pipeline.books) == before
    assert done > 100
