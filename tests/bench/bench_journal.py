"""The journal against a loop that commits one row at a time. Run: python tests/bench/bench_journal.py"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import anyio

from agenttop.core import store
from agenttop.core.clock import SystemClock
from agenttop.core.journal.chain import GENESIS, link
from agenttop.core.journal.events import RunReady
from agenttop.core.journal.journal import QUEUE, Journal
from agenttop.core.journal.writer import INSERT

ROUNDS = 3
EVENTS = 100_000
ROWS = 5_000
SINGLE = 500
EVENT = RunReady(agent="a1b2c3", run=1)


def loop_of_commits(folder: Path) -> float:
    """Rows a second of the rival: the same rows, the same chain, one commit each."""
    path = folder / "loop.db"
    db = store.connect(path)
    store.migrate(db, path)
    previous = GENESIS
    begun = time.perf_counter()
    for seq in range(1, ROWS + 1):
        ts, body = time.time(), EVENT.__pydantic_serializer__.to_json(EVENT)
        previous = link(previous, seq, ts, EVENT.kind, EVENT.agent, body)
        db.execute(INSERT, (seq, ts, EVENT.kind, EVENT.agent, body, previous))
    seconds = time.perf_counter() - begun
    db.close()
    return ROWS / seconds


async def group_commit(path: Path, size: int) -> float:
    """Durable events a second, appended ``size`` at a time, by one task."""
    async with await Journal.open(path, SystemClock()) as journal:
        batch = [EVENT] * size
        begun = time.perf_counter()
        for number in range(EVENTS // size):
            ticket = journal.append(*batch)
            if number % (QUEUE // size // 2) == 0:
                await journal.room()
        await ticket
        return EVENTS / (time.perf_counter() - begun)


async def alone(path: Path) -> list[float]:
    """Seconds of each append that is awaited at once."""
    taken = []
    async with await Journal.open(path, SystemClock()) as journal:
        for _ in range(SINGLE):
            begun = time.perf_counter()
            await journal.append(EVENT)
            taken.append(time.perf_counter() - begun)
    return sorted(taken)


async def opening(path: Path) -> float:
    """Seconds to open a journal that is there."""
    begun = time.perf_counter()
    journal = await Journal.open(path, SystemClock())
    seconds = time.perf_counter() - begun
    await journal.close()
    return seconds


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="agenttop-bench-") as name:
        folder = Path(name)
        rival = statistics.median(loop_of_commits(Path(tempfile.mkdtemp(dir=folder))) for _ in range(ROUNDS))
        print(f"one commit a row, sqlite3      {rival:10,.0f} events/s   1.0x")
        for size in (1, 10, 100):
            rates = [await group_commit(folder / f"{size}-{number}.db", size) for number in range(ROUNDS)]
            rate = statistics.median(rates)
            print(f"journal, {size:3} an append        {rate:10,.0f} events/s   {rate / rival:.1f}x")
        taken = await alone(folder / "alone.db")
        print(
            f"journal, one append awaited    {taken[SINGLE // 2] * 1e3:10.2f} ms median,"
            f" {taken[SINGLE * 99 // 100] * 1e3:.2f} ms p99"
        )
        print(f"opening a journal of {EVENTS:,}   {await opening(folder / '1-0.db') * 1e3:10.1f} ms")


if __name__ == "__main__":
    anyio.run(main)
