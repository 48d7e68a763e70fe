"""While the books are folded again, what was known before can still be looked at."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.clock import SystemClock
from agenttop.core.journal import events as ev
from agenttop.core.journal.books import Books
from agenttop.core.journal.journal import Journal

pytestmark = pytest.mark.anyio


async def test_nobody_ever_sees_books_that_are_half_folded(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal.db", SystemClock())
    try:
        books = Books(journal)
        await books.open()
        spec = AgentSpec(name="hello", command=["true"])
        await books.commit(ev.AgentCreated(agent="a1", spec=spec, owner="ana"))
        await books.commit(*(ev.NiceChanged(agent="a1", nice=number % 20) for number in range(6_001)))
        seen: set[tuple[int, int]] = set()
        done = False

        async def look() -> None:
            while not done:
                for fleet in (books.committed, books.pending):
                    assert fleet.agents["a1"].nice == 0, "6,000 is a multiple of 20"
                    seen.add((fleet.seq, len(fleet.agents)))
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await books.open()
            done = True
        assert len(seen) == 1
    finally:
        await journal.close()
