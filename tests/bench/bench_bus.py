"""The bus against one SQLite commit a message. Run: python tests/bench/bench_bus.py"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import anyio
import anyio.lowlevel

from agenttop.core import pace
from agenttop.core.bus import tables
from agenttop.core.bus.bus import Bus
from agenttop.core.bus.message import Draft, Limits, Message, next_trace, pack
from agenttop.core.clock import SystemClock

ROUNDS = 3
MESSAGES = 60_000
BOXES = 50
PUBLISHES = 600
SUBSCRIBERS = 100
ROWS = 3_000
ALONE = 1_000
BODY = b'"' + b"x" * 298 + b'"'
DRAFT = Draft(BODY)
LIMITS = Limits(depth=1 << 30, rate=1e9, burst=1 << 30, waiting=1 << 30)


def loop_of_commits(folder: Path) -> float:
    """Messages a second of the rival: the same rows, one commit each."""
    path = folder / "loop.db"
    db = tables.connect(path)
    begun = time.perf_counter()
    for seq in range(1, ROWS + 1):
        row = Message(
            seq,
            time.time(),
            "a",
            "direct",
            "b",
            "text",
            4,
            BODY,
            next_trace(""),
            None,
            0,
            None,
            None,
            None,
            None,
            pack([1]),
        )
        tables.insert(db, [row], [])
    seconds = time.perf_counter() - begun
    db.close()
    return ROWS / seconds


async def opened(path: Path, count: int) -> Bus:
    bus = await Bus.open(path, SystemClock(), LIMITS)
    for number in range(count):
        await bus.open_mailbox(f"r{number}")
    return bus


async def accepts(path: Path, at_once: int) -> tuple[float, float]:
    """Durable accepts a second, and CPU microseconds each; ``at_once`` posted in a turn of the loop."""
    async with await opened(path, BOXES) as bus:
        begun, cpu = time.perf_counter(), time.process_time()
        posted = None
        for number in range(MESSAGES):
            posted = bus.post(f"s{number % BOXES}", f"r{number % BOXES}", DRAFT)
            if number % at_once == at_once - 1:
                await anyio.lowlevel.checkpoint()
        assert posted is not None
        await posted.batch
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        return MESSAGES / seconds, cpu / MESSAGES * 1e6


async def senders(path: Path, count: int) -> tuple[float, float]:
    """Messages a second of ``count`` tasks that wait for each of theirs, and the 99 % wait in ms."""
    async with await opened(path, BOXES) as bus:
        waits: list[float] = []

        async def one(name: str, to: str) -> None:
            for _ in range(MESSAGES // 2 // count):
                then = time.perf_counter()
                await bus.send(name, to, DRAFT)
                waits.append(time.perf_counter() - then)

        begun = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(one, f"s{number}", f"r{number % BOXES}")
        return len(waits) / (time.perf_counter() - begun), statistics.quantiles(waits, n=100)[98] * 1e3


async def fan_out(path: Path) -> tuple[float, float]:
    """Deliveries a second into the mailboxes of subscribers; then of taking and acknowledging them."""
    async with await opened(path, SUBSCRIBERS) as bus:
        for number in range(SUBSCRIBERS):
            await bus.subscribe(f"r{number}", "build/**")
        begun = time.perf_counter()
        posted = None
        for _ in range(PUBLISHES):
            posted, _, _ = bus.post_all("s", "build/api", DRAFT)
            await anyio.lowlevel.checkpoint()
        assert posted is not None
        await posted.batch
        into = PUBLISHES * SUBSCRIBERS / (time.perf_counter() - begun)
        begun = time.perf_counter()
        batch = None
        for number in range(SUBSCRIBERS):
            name = f"r{number}"
            got = await bus.mail.take(name, PUBLISHES, run=PUBLISHES)
            assert len(got) == PUBLISHES
            _, batch = bus.mail.post_ack(name, [one.message.seq for one in got])
        assert batch is not None
        await batch
        assert not bus.pipeline.books.messages
        return into, PUBLISHES * SUBSCRIBERS / (time.perf_counter() - begun)


async def alone(path: Path) -> float:
    """The median wait, in ms, of one sender that waits for each message."""
    async with await opened(path, 1) as bus:
        taken = []
        for _ in range(ALONE):
            begun = time.perf_counter()
            await bus.send("s", "r0", DRAFT)
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1e3


def main() -> None:
    pace.steady()  # as in a kernel: the collector and the interpreter's turns
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rival = loop_of_commits(folder)
            print(f"round {number + 1}: one commit a message {rival:,.0f}/s")
            for at_once in (50, 1_000):
                rate, cpu = anyio.run(accepts, folder / f"accept{at_once}.db", at_once)
                print(f"  accepts, {at_once} at once: {rate:,.0f}/s, {rate / rival:.1f} x, {cpu:.1f} µs each")
            for count in (50, 1_000):
                rate, late = anyio.run(senders, folder / f"senders{count}.db", count)
                print(f"  {count} senders, each waiting: {rate:,.0f}/s, p99 {late:.2f} ms")
            into, out = anyio.run(fan_out, folder / "fan.db")
            print(
                f"  {SUBSCRIBERS} subscribers: {into:,.0f} deliveries/s; taken and acknowledged {out:,.0f}/s"
            )
            print(f"  one sender alone: {anyio.run(alone, folder / 'alone.db'):.3f} ms median")


if __name__ == "__main__":
    main()
