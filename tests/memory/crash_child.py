"""Writes to a memory for ever, and prints what was acknowledged; the test kills it."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from agenttop.core.clock import SystemClock
from agenttop.core.memory.memory import Memory
from agenttop.core.memory.model import Limits, Said, Who
from agenttop.core.memory.names import access_by_teams

WHO = Who("a1")


async def main(path: Path, begin: int, in_place: int) -> None:
    limits = Limits(block_tokens=50, agent_tokens=120, block_versions=3)
    clock = SystemClock()
    access = access_by_teams(lambda _: [])
    async with Memory(path, clock, access, limits=limits, in_place=in_place) as memory:
        for number in range(begin, begin + 100_000):
            await memory.remember([Said("a1", "user", f"said{number} word", clock.time(), key=f"k{number}")])
            await memory.write_block(WHO, "a1", f"b{number % 3}", f"block{number}", append=True)
            await memory.write_note(WHO, "shared", f"n{number % 5}", f"note{number}")
            print("kept", number, flush=True)
            if number % 7 == 0:
                await memory.forget_entries(WHO, text=f"said{number}")
                print("gone", number, flush=True)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
