"""What was forgotten is nowhere on the disk, and does not come back."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from array import array
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from agenttop.core.clock import ManualClock
from agenttop.core.errors import Forbidden
from agenttop.core.memory import forgetting
from agenttop.core.memory.memory import Memory
from agenttop.core.memory.model import Forgotten, Limits, MemoryRefused, Said, Who
from agenttop.core.memory.names import access_by_teams

pytestmark = pytest.mark.anyio
PERSON = Who(None)
A1 = Who("a1", 1)
NEEDLES = [b"xyzzyplugh", b"XYZZYPLUGH", "xyzzyplugh".encode("utf-16-le")]


def traces(folder: Path, needles: Sequence[bytes] = NEEDLES) -> list[str]:
    """Files with a trace of the needle; its words are stored by FTS5 with shared beginnings cut off."""
    wanted = [*needles, b"zzyplugh"]
    return [path.name for path in folder.iterdir() if any(needle in path.read_bytes() for needle in wanted)]


async def fill(memory: Memory, seed: int) -> None:
    chance = random.Random(seed)
    words = ["alpha", "beta", "gamma", "xyzzya", "xyzzyz", "delta"]
    said = [
        Said("a2", "tool", " ".join(chance.choices(words, k=chance.randint(1, 300))), 1000.0 + number)
        for number in range(300)
    ]
    for start in range(0, 300, 30):
        await memory.remember(said[start : start + 30])


class Letters:
    """Counts letters: near texts have near vectors."""

    model = "letters"

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return [[text.count(letter) + 0.01 for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


@pytest.mark.parametrize("in_place", [0, 1 << 40], ids=["copied", "in place"])
@pytest.mark.parametrize("seed", range(2))
async def test_no_file_has_a_trace_of_what_was_forgotten(tmp_path: Path, seed: int, in_place: int) -> None:
    access = access_by_teams(lambda _: [])
    limits = Limits(block_tokens=20, block_versions=2)
    path = tmp_path / "memory.db"
    async with Memory(
        path, ManualClock(), access, limits=limits, embedder=Letters(), in_place=in_place
    ) as memory:
        await fill(memory, seed)
        chance = random.Random(seed)
        for number in range(40):
            before, after = chance.randint(0, 200), chance.randint(0, 900)
            text = "padding " * before + "xyzzyplugh " + "more " * after
            await memory.remember(
                [Said("a1", "user", text, chance.uniform(900, 1400), key=text + str(number))]
            )
        for number in range(5):
            await memory.write_block(A1, "a1", "plan", f"xyzzyplugh {number} and much more text", append=True)
        for version in range(4):
            await memory.write_note(A1, "private/a1", "secret/xyzzyplugh", f"xyzzyplugh {version}")
        await memory.write_note(A1, "shared", "blob", b"xyzzyplugh\0" * 3_000)
        while await memory.embed():
            pass
        vector = array("f", (await Letters().embed(["xyzzyplugh 3"]))[0])
        length = sum(number * number for number in vector) ** 0.5
        stored = array("f", [number / length for number in vector]).tobytes()
        assert traces(tmp_path)
        assert traces(tmp_path, [stored])
        assert (await memory.forget_block(PERSON, "a1", "plan")).entries > 0
        assert (await memory.forget_entries(A1, text="xyzzyplugh")).entries >= 40
        assert await memory.forget_note(A1, "private/a1", "secret/xyzzyplugh") == Forgotten(notes=1)
        assert await memory.forget_note(A1, "shared", "blob") == Forgotten(notes=1)
        assert traces(tmp_path) == []
        assert traces(tmp_path, [stored]) == []
        assert (await memory.recall(PERSON, "xyzzyplugh")).entries == []
        assert len((await memory.recall(PERSON, "xyzzya", limit=200)).entries) > 0
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO entry_text (entry_text) VALUES ('integrity-check')")
        db.execute("INSERT INTO note_text (note_text) VALUES ('integrity-check')")
    db.close()


@pytest.mark.parametrize("in_place", [0, 1 << 40], ids=["copied", "in place"])
async def test_no_trace_is_left_where_the_tree_was_balanced(tmp_path: Path, in_place: int) -> None:
    # With this seed SQLite's secure_delete leaves a copy in a page from which a row had moved.
    chance = random.Random(18)
    access = access_by_teams(lambda _: [])
    async with Memory(tmp_path / "m.db", ManualClock(), access, in_place=in_place) as memory:
        for _ in range(30):
            said = []
            for _ in range(chance.randint(1, 40)):
                secret = chance.random() < 0.2
                text = "q" * chance.randint(0, 5) + "xyzzyplugh " if secret else "ordinary "
                text += "fill " * chance.choice([1, 10, 100, 500, 700])
                said.append(Said("a1" if secret else "a2", "user", text, chance.uniform(1, 1e6)))
            await memory.remember(said)
        assert traces(tmp_path)
        await memory.forget_entries(PERSON, agents=["a1"])
        assert traces(tmp_path) == []


async def test_a_forgotten_agent_has_nothing_left_but_what_it_shared(memory: Memory, tmp_path: Path) -> None:
    await memory.remember([Said("a1", "user", "xyzzyplugh", 1000.0)])
    await memory.write_block(A1, "a1", "plan", "xyzzyplugh")
    await memory.write_note(A1, "private/a1", "n", "xyzzyplugh")
    await memory.write_note(A1, "shared", "n", "common")
    assert await memory.forget_agent(PERSON, "a1") == Forgotten(1, 1, 1)
    assert traces(tmp_path) == []
    assert (await memory.note(PERSON, "shared", "n")).text == "common"


async def test_what_was_forgotten_does_not_come_back_with_the_next_call(memory: Memory) -> None:
    said = Said("a1", "user", "hello", 1000.0, key="m1")
    (id,) = await memory.remember([said])
    await memory.forget_entries(A1, ids=[id])
    assert await memory.remember([said]) == []


async def test_what_was_forgotten_does_not_come_back_with_a_copy_of_its_conversation(
    memory: Memory, clock: ManualClock
) -> None:
    """A client that goes on in a fork calls it another conversation, and repeats the first."""
    text = "xyzzyplugh " * 5_000  # more than one part
    now = clock.time()

    def said(conversation: str, source: str = "call:1") -> list[Said]:
        return [
            Said("a1", "user", text, now, source=source, key=f"said:{conversation}:user:0"),
            Said("a1", "user", "kept", now, source=source, key=f"said:{conversation}:user:1"),
        ]

    assert len(await memory.remember(said("one"))) == 3
    await memory.forget_words(PERSON, "xyzzyplugh")
    assert len(await memory.remember(said("two"))) == 1
    assert (await memory.recall(PERSON, "xyzzyplugh")).entries == []
    # Printed or sent once more, it is another thing; and retention is no wish that it be never said again.
    assert await memory.remember([Said("a1", "output", text, now, source="output", key="output:1")])
    await memory.retain(-1.0)
    assert (await memory.recall(PERSON)).entries == []
    assert await memory.remember(said("three"))
    assert [entry.text for entry in (await memory.recall(PERSON)).entries] == ["kept"]


async def test_a_search_that_is_cut_forgets_nothing(memory: Memory) -> None:
    """With fewer words than were given it would be more than was meant."""
    await memory.remember([Said("a1", "user", " ".join(f"w{n}" for n in range(32)), 1000.0)])
    for text in (" ".join(f"w{n}" for n in range(33)), "w1 " + " " * 1_000 + "other"):
        with pytest.raises(MemoryRefused, match="nothing was forgotten"):
            await memory.forget_words(PERSON, text)
    assert (await memory.forget_words(PERSON, " ".join(f"w{n}" for n in range(32)))).entries == 1


async def test_an_agent_forgets_nothing_where_it_may_not_write_any_more(
    tmp_path: Path, clock: ManualClock
) -> None:
    teams = {"a1": ["red"]}
    async with Memory(
        tmp_path / "m.db", clock, access_by_teams(lambda agent: teams.get(agent, []))
    ) as memory:
        await memory.write_note(A1, "team/red", "ours", "plugh")
        teams.clear()
        assert await memory.forget_words(A1, "plugh") == Forgotten()
        assert await memory.forget_words(PERSON, "plugh", ["a1"]) == Forgotten(notes=1)


async def test_an_agents_old_words_are_forgotten_where_others_wrote_on(
    memory: Memory,
) -> None:
    a2 = Who("a2", 1)
    await memory.write_note(A1, "shared", "both", "xyzzyplugh")
    await memory.write_note(a2, "shared", "both", "other words")
    assert await memory.forget_words(A1, "xyzzyplugh") == Forgotten()
    assert await memory.forget_words(PERSON, "xyzzyplugh", ["a1"]) == Forgotten(notes=1)
    assert [one.by for one in await memory.note_versions(A1, "shared", "both")] == ["a2"]


async def test_forgetting_needs_a_word_that_says_what(memory: Memory) -> None:
    await memory.remember([Said("a1", "user", "hello there", 1000.0)])
    for text in ("", '"" *'):
        with pytest.raises(MemoryRefused):
            await memory.forget_entries(PERSON, text=text)
    assert (await memory.forget_entries(PERSON, text="hello world")).entries == 0
    assert (await memory.forget_entries(PERSON, text="hello there")).entries == 1


async def test_an_agent_cannot_forget_the_words_of_another(memory: Memory) -> None:
    (id,) = await memory.remember([Said("a2", "user", "hello", 1000.0)])
    assert (await memory.forget_entries(A1, ids=[id])).entries == 0
    assert (await memory.forget_entries(A1, text="hello")).entries == 0
    assert (await memory.recall(PERSON, "hello")).entries


async def test_retention_forgets_by_age_and_by_number(memory: Memory, clock: ManualClock) -> None:
    now = clock.time()
    await memory.remember([Said("a1", "user", f"n{n}", now - 1000 + n) for n in range(10)])
    await memory.remember([Said("a2", "user", "old", now - 5000)])
    assert (await memory.retain(2000, per_agent=4)).entries == 7
    left = (await memory.recall(PERSON)).entries
    assert [entry.text for entry in left] == ["n9", "n8", "n7", "n6"]


async def test_a_forgetting_that_a_crash_cut_is_finished_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = access_by_teams(lambda _: [])

    async with Memory(tmp_path / "memory.db", ManualClock(), access) as memory:
        await memory.remember([Said("a1", "user", "xyzzyplugh " * 50, 1000.0)])
        salt = memory._store.salt
        # The first half of a forgetting; the crash comes before the second.
        found = (await memory.recall(PERSON, "xyzzyplugh")).entries
        await memory._store.write(lambda db: forgetting.entries(db, salt, found, for_good=True))
    async with Memory(tmp_path / "memory.db", ManualClock(), access):
        assert traces(tmp_path) == []


async def test_files_are_readable_by_their_owner_only(memory: Memory, tmp_path: Path) -> None:
    await memory.write_note(A1, "shared", "n", "text")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {"0o600"}
    assert os.path.exists(tmp_path / "memory.db-wal")


async def test_writes_and_reads_go_on_while_a_large_file_is_scrubbed_and_are_in_the_new_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "memory.db"
    async with Memory(path, ManualClock(), access_by_teams(lambda _: []), in_place=0) as memory:
        await fill(memory, 1)
        await memory.write_block(A1, "a1", "plan", "before")
        await memory.remember([Said("a1", "user", "xyzzyplugh", 999.0)])
        before = os.open(path, os.O_RDONLY)
        meanwhile: list[int] = []
        over = anyio.Event()

        async def write() -> None:
            while not over.is_set():
                number = len(meanwhile)
                await memory.write_block(A1, "a1", "plan", f"line {number}", append=True, expected=number + 1)
                await memory.write_note(A1, "shared", f"n{number}", "text")
                assert (await memory.note(A1, "shared", f"n{number}")).text == "text"
                meanwhile.append(number)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            for number in range(5):
                await memory.remember([Said("a1", "user", f"xyzzyplugh {number}", 1000.0 + number)])
                await memory.forget_entries(PERSON, text="xyzzyplugh")
                assert traces(tmp_path) == []
            over.set()
        assert os.fstat(before).st_nlink == 0
        assert path.stat().st_mode & 0o777 == 0o600
        assert meanwhile
        assert await memory.keys(PERSON, "shared") == sorted(f"n{number}" for number in meanwhile)[:200]
        assert (await memory.block(A1, "a1", "plan")).version == len(meanwhile) + 1
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.execute("INSERT INTO entry_text (entry_text) VALUES ('integrity-check')")
        db.execute("INSERT INTO note_text (note_text) VALUES ('integrity-check')")
    db.close()
    os.close(before)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["memory.db"]


async def test_a_file_that_somebody_else_reads_is_scrubbed_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    async with Memory(path, ManualClock(), access_by_teams(lambda _: []), in_place=0) as memory:
        await memory.remember([Said("a1", "user", "xyzzyplugh", 999.0)])
        inode = path.stat().st_ino
        with contextlib.closing(sqlite3.connect(path)) as other:  # open, but in no transaction
            assert other.execute("SELECT count(*) FROM entry").fetchall() == [(1,)]
            await memory.forget_entries(PERSON, text="xyzzyplugh")
            assert traces(tmp_path) == []
            assert other.execute("SELECT count(*) FROM entry").fetchall() == [(0,)]
        assert path.stat().st_ino == inode


async def test_words_are_forgotten_in_every_tier_and_every_version(memory: Memory, tmp_path: Path) -> None:
    await memory.write_block(A1, "a1", "plan", "xyzzyplugh in an old version")
    await memory.write_block(A1, "a1", "plan", "other words")
    await memory.write_block(A1, "a1", "now", "xyzzyplugh now")
    await memory.write_note(A1, "shared", "old", "xyzzyplugh")
    await memory.write_note(A1, "shared", "old", "other words")
    await memory.write_note(A1, "private/a1", "xyzzyplugh", "by its key")
    await memory.remember([Said("a1", "user", "xyzzyplugh said", 1000.0), Said("a1", "user", "kept", 1001.0)])
    await memory.remember([Said("a2", "user", "XYZZYPLUGH of another", 1000.0)])
    assert await memory.forget_words(PERSON, "xyzzyplugh", ["a1"], dry=True) == Forgotten(2, 1, 2)
    assert traces(tmp_path)
    assert await memory.forget_words(PERSON, "xyzzyplugh", ["a1"]) == Forgotten(2, 1, 2)
    assert [block.name for block in await memory.blocks(A1, "a1")] == ["plan"]
    assert [one.text for one in await memory.note_versions(A1, "shared", "old")] == ["other words"]
    assert await memory.forget_words(PERSON, "xyzzyplugh") == Forgotten(0, 1, 0)
    assert traces(tmp_path) == []
    assert (await memory.recall(PERSON, "kept")).entries


async def test_an_agent_forgets_for_good_only_what_nobody_else_wrote(memory: Memory) -> None:
    a2 = Who("a2", 1)
    await memory.write_note(a2, "shared", "theirs", "plugh")
    await memory.write_note(a2, "shared", "both", "plugh")
    await memory.write_note(A1, "shared", "both", "plugh too")
    await memory.write_note(A1, "shared", "mine", "plugh")
    assert await memory.forget_words(A1, "plugh") == Forgotten(notes=1)
    assert await memory.keys(PERSON, "shared") == ["both", "theirs"]
    for key in ("both", "theirs"):
        with pytest.raises(Forbidden):
            await memory.forget_note(A1, "shared", key)
