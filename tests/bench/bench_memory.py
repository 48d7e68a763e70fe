"""How fast memory is: recall of a million entries searched, remembered, forgotten; notes compared by meaning.

Rival: a ``LIKE`` over the same table, in the same run.
Run on a quiet machine: ``python tests/bench/bench_memory.py [ENTRIES]``.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from agenttop.core.clock import SystemClock
from agenttop.core.memory.memory import Memory
from agenttop.core.memory.model import Said, Who
from agenttop.core.memory.names import access_by_teams

PERSON = Who(None)
AGENTS = 100
VOCABULARY = 50_000
WORDS = 40
BATCH = 500
SEARCHES = 100
COUNTED = 20


def sentence(chance: random.Random) -> str:
    """Words as natural text has them: few common, many rare (Zipf)."""
    return " ".join(f"w{min(int(chance.paretovariate(0.7)), VOCABULARY)}" for _ in range(WORDS))


async def timed(what: str, number: int, job: Callable[[int], Awaitable[object]]) -> None:
    took = []
    for at in range(number):
        begun = time.perf_counter()
        await job(at)
        took.append((time.perf_counter() - begun) * 1e3)
    took.sort()
    print(f"{what:46} p50 {took[len(took) // 2]:8.2f} ms   p95 {took[int(len(took) * 0.95)]:8.2f} ms")


async def fill(memory: Memory, entries: int) -> None:
    chance = random.Random(1)
    begun = time.perf_counter()
    for start in range(0, entries, BATCH):
        said = [
            Said(f"a{chance.randrange(AGENTS)}", "user", sentence(chance), 1e9 + at)
            for at in range(start, min(entries, start + BATCH))
        ]
        await memory.remember(said)
    seconds = time.perf_counter() - begun
    print(f"{entries} entries remembered, {BATCH} at a time (with making them): {entries / seconds:,.0f}/s")


async def counted(memory: Memory) -> None:
    """What remembering costs in batches."""
    chance = random.Random(3)
    busy = 0.0
    for batch in range(COUNTED):
        said = [Said("a1", "user", sentence(chance), 3e9 + batch * BATCH + at) for at in range(BATCH)]
        begun = time.process_time()
        await memory.remember(said)
        busy += time.process_time() - begun
    print(f"an entry in batches of {BATCH}: {busy / COUNTED / BATCH * 1e6:.1f} us of CPU")


async def main(entries: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.db"
        async with Memory(path, SystemClock(), access_by_teams(lambda _: [])) as memory:
            await fill(memory, entries)
            print(f"file: {path.stat().st_size / 1e6:.0f} MB")
            chance = random.Random(2)
            rare = lambda _: memory.recall(PERSON, f"w{chance.randrange(1000, VOCABULARY)}")  # noqa: E731
            await timed("a rare word", SEARCHES, rare)
            await timed("a common word", SEARCHES, lambda _: memory.recall(PERSON, "w1"))
            await timed("two words", SEARCHES, lambda at: memory.recall(PERSON, f"w{2 + at} w{300 + at}"))
            one = [f"a{number}" for number in range(AGENTS)]
            await timed(
                "two words, one agent, a tenth of the time",
                SEARCHES,
                lambda at: memory.recall(
                    PERSON, f"w{2 + at % 9} w{20 + at}", agents=[one[at]], since=1e9, until=1e9 + entries / 10
                ),
            )
            await timed(
                "words no entry has together", SEARCHES, lambda at: memory.recall(PERSON, f"w{at} zz yy")
            )
            await timed(
                "a phrase of two common words", 20, lambda at: memory.recall(PERSON, f'"w1 w{at + 2}"')
            )
            said = Said("a1", "user", sentence(chance), 2e9)
            await timed(
                "one entry made durable", SEARCHES, lambda at: memory.remember([said._replace(at=2e9 + at)])
            )
            await timed("how full an agent's tiers are", SEARCHES, lambda at: memory.fill(PERSON, one[at]))
            await timed("the newest of everybody", SEARCHES, lambda at: memory.recall(PERSON))
            await counted(memory)
            begun, busy = time.perf_counter(), time.process_time()
            await memory.forget_entries(PERSON, ids=[int(1e9 * 1e6)])
            took, busy = time.perf_counter() - begun, time.process_time() - busy
            print(f"one entry forgotten, to the last byte: {took:.2f} s, {busy:.2f} s of CPU")
        db = sqlite3.connect(path)
        begun = time.perf_counter()
        db.execute("SELECT id FROM entry WHERE text LIKE '%w31415 %' LIMIT 20").fetchall()
        print(f"rival, LIKE over the same rows: {(time.perf_counter() - begun) * 1e3:.0f} ms")
        db.close()


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
