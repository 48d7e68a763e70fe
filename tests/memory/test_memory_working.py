"""Blocks: versions, the write race, and pressure that loses nothing."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttop.core.clock import ManualClock
from agenttop.core.errors import Forbidden
from agenttop.core.memory.memory import Memory
from agenttop.core.memory.model import Limits, MemoryRefused, NotRemembered, Who, WriteRace
from agenttop.core.memory.names import access_by_teams

pytestmark = pytest.mark.anyio
PERSON = Who(None)
A1 = Who("a1", 1)


async def test_a_write_based_on_an_old_version_is_refused_and_says_the_new_one(memory: Memory) -> None:
    await memory.write_block(A1, "a1", "plan", "one", expected=0)
    await memory.write_block(PERSON, "a1", "plan", "two", expected=1)
    with pytest.raises(WriteRace) as race:
        await memory.write_block(A1, "a1", "plan", "three", expected=1)
    assert race.value.version == 2
    assert (await memory.block(A1, "a1", "plan")).text == "two"


async def test_of_writers_with_the_same_version_exactly_one_wins(memory: Memory) -> None:
    await memory.write_block(A1, "a1", "plan", "zero")
    won: list[int] = []

    async def write(number: int) -> None:
        try:
            await memory.write_block(A1, "a1", "plan", str(number), expected=1)
        except WriteRace:
            return
        won.append(number)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(write, number)
    block = await memory.block(A1, "a1", "plan")
    assert [block.text] == [str(number) for number in won]
    assert block.version == 2


async def test_what_overflows_a_block_is_found_in_recall_and_listed_as_moved(memory: Memory) -> None:
    for number in range(10):
        written = await memory.write_block(A1, "a1", "plan", f"finding number{number} matters", append=True)
        assert written.block.tokens <= 20
    block = await memory.block(A1, "a1", "plan")
    assert "number9" in block.text
    assert "number0" not in block.text
    found = await memory.recall(A1, "number0")
    assert {entry.source.partition("@")[0] for entry in found.entries} == {"working:plan"}
    assert "working:plan" in {entry.source for entry in found.entries}
    moves = await memory.moves(A1, ["a1"])
    assert {(move.what, move.source, move.target) for move in moves} == {("plan", "working", "recall")}


async def test_least_recently_used_blocks_go_first_and_pinned_ones_never(
    memory: Memory, clock: ManualClock
) -> None:
    for name, pinned in (("pinned", True), ("old", False), ("new", False)):
        await memory.write_block(A1, "a1", name, f"{name} " + "x" * 68, pinned=pinned)
        clock.advance(1)
    assert {block.name for block in await memory.blocks(A1, "a1")} == {"pinned", "new"}
    assert (await memory.recall(A1, "old")).entries
    with pytest.raises(MemoryRefused):
        await memory.write_block(A1, "a1", "pinned", "y" * 100)


async def test_an_agent_may_not_touch_the_blocks_of_another(memory: Memory) -> None:
    await memory.write_block(A1, "a1", "plan", "mine")
    with pytest.raises(Forbidden):
        await memory.block(Who("a2"), "a1", "plan")
    with pytest.raises(Forbidden):
        await memory.write_block(Who("a2"), "a1", "plan", "yours")


async def test_a_summary_stands_on_top_and_the_text_itself_is_in_recall(tmp_path: Path) -> None:
    asked: list[str] = []

    async def summarise(agent: str, block: str, text: str, room: int) -> str:
        asked.append(text)
        return "in short"

    access = access_by_teams(lambda _: [])
    limits = Limits(block_tokens=20)
    async with Memory(tmp_path / "m.db", ManualClock(), access, limits=limits, summarise=summarise) as memory:
        written = await memory.write_block(A1, "a1", "plan", "".join(f"line {n} here\n" for n in range(12)))
        block = await memory.summarise(written)
        assert block is not None
        assert block.text.startswith("in short\n")
        assert asked == [written.moved[0].text]
        assert (await memory.recall(A1, '"line 0"')).entries[0].text == asked[0]


async def test_dropping_a_block_keeps_its_text_and_every_version_in_recall(memory: Memory) -> None:
    for text in ("alpha", "beta", "gamma", "delta", "epsilon"):
        await memory.write_block(A1, "a1", "plan", text)
    await memory.drop_block(A1, "a1", "plan")
    with pytest.raises(NotRemembered):
        await memory.block(A1, "a1", "plan")
    for text in ("alpha", "beta", "gamma", "delta", "epsilon"):
        assert (await memory.recall(A1, text)).entries, text


_WRITES = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(1, 30), st.booleans()), max_size=25
)


@settings(max_examples=25, deadline=None)
@given(_WRITES)
def test_no_written_word_is_ever_lost(writes: list[tuple[str, bool, int, bool]]) -> None:
    async def run(folder: Path) -> None:
        clock = ManualClock()
        limits = Limits(block_tokens=15, agent_tokens=30, block_versions=2)
        path = folder / "memory.db"
        words: list[str] = []
        async with Memory(path, clock, access_by_teams(lambda _: []), limits=limits) as memory:
            for number, (name, append, size, newline) in enumerate(writes):
                clock.advance(1)
                text = [f"w{number}x{at}" for at in range(size)]
                joined = ("\n" if newline else " ").join(text)
                written = await memory.write_block(A1, "a1", name, joined, append=append)
                assert written.block.tokens <= 15
                words += text
                assert sum(block.tokens for block in await memory.blocks(A1, "a1")) <= 30
        with sqlite3.connect(path) as db:
            rows = db.execute("SELECT text FROM entry ORDER BY id").fetchall()
            kept = db.execute("SELECT text FROM block_version").fetchall()
        db.close()
        everything = "".join(text for (text,) in rows) + " " + " ".join(text for (text,) in kept)
        # A block that was cut in the middle of a word has its halves in two places.
        whole = [word for word in words if word in everything]
        assert len(words) - len(whole) <= len(writes)

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run, Path(folder))
