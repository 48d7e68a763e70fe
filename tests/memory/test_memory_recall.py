"""Recall against a simple model, and queries that are no FTS expressions."""

from __future__ import annotations

import random
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
from agenttop.core.memory.model import Limits, MemoryRefused, Said, Who
from agenttop.core.memory.names import access_by_teams

pytestmark = pytest.mark.anyio
PERSON = Who(None)
WORDS = ["red", "green", "blue", "über", "snake_case", "x"]
AGENTS = ["a1", "a-1", "ä", "a1 b"]
ROLES = ["user", "assistant", "tool"]


async def test_the_same_key_is_remembered_once(memory: Memory) -> None:
    said = Said("a1", "user", "hello", 1000.0, key="k")
    assert len(await memory.remember([said, said])) == 1
    assert await memory.remember([said._replace(at=2000.0)]) == []
    assert len(await memory.remember([said._replace(agent="a2")])) == 1


async def test_what_was_said_at_one_moment_stays_in_its_order(memory: Memory) -> None:
    said = [Said("a1", "tool", f"n{number}", 1000.0) for number in range(500)]
    ids = await memory.remember(said)
    assert ids == sorted(set(ids))
    found = await memory.recall(PERSON, limit=3)
    assert [entry.text for entry in found.entries] == ["n499", "n498", "n497"]


async def test_a_long_text_is_kept_whole_in_parts(memory: Memory) -> None:
    text = "".join(f"word{number} " for number in range(20_000))
    ids = await memory.remember([Said("a1", "output", text, 1000.0)])
    assert len(ids) > 1
    found = await memory.recall(PERSON, limit=200)
    assert "".join(entry.text for entry in reversed(found.entries)) == text


async def test_where_no_entry_has_all_words_those_with_most_come_and_say_so(memory: Memory) -> None:
    texts = ("b c", "b", "z")
    await memory.remember([Said("a1", "user", text, 1000.0 + at) for at, text in enumerate(texts)])
    found = await memory.recall(PERSON, "a b c")
    assert found.loose
    assert [entry.text for entry in found.entries] == ["b c", "b"]


async def test_an_agent_searches_itself_and_may_not_search_others(memory: Memory) -> None:
    await memory.remember([Said("a1", "user", "secret", 1000.0), Said("a2", "user", "secret", 1001.0)])
    assert [entry.agent for entry in (await memory.recall(Who("a1"), "secret")).entries] == ["a1"]
    with pytest.raises(Forbidden):
        await memory.recall(Who("a1"), "secret", agents=["a2"])


async def test_absurd_times_and_ids_find_nothing_and_break_nothing(memory: Memory) -> None:
    await memory.remember([Said("a1", "user", "hello", 1000.0)])
    for moment in (1e300, float("inf")):
        assert (await memory.recall(PERSON, "hello", since=moment)).entries == []
        assert len((await memory.recall(PERSON, "hello", until=moment)).entries) == 1
    assert len((await memory.recall(PERSON, "hello", since=float("nan"))).entries) == 1
    assert (await memory.forget_entries(PERSON, ids=[1 << 80, -(1 << 80)])).entries == 0


async def test_hostile_roles_and_times_are_refused_and_undo_their_batch(memory: Memory) -> None:
    good = Said("a1", "user", "fine", 1000.0)
    for bad in (good._replace(role="root"), good._replace(at=float("nan")), good._replace(at=-1)):  # type: ignore[arg-type]
        with pytest.raises(MemoryRefused):
            await memory.remember([good, bad])
    assert (await memory.recall(PERSON, "fine")).entries == []


_SAID = st.builds(
    Said,
    st.sampled_from(AGENTS),
    st.sampled_from(ROLES),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join),
    st.integers(1, 50).map(float),
    st.none(),
    st.just(""),
    st.none(),
)
_ASKED = st.tuples(
    st.lists(st.sampled_from(WORDS), max_size=2),
    st.lists(st.sampled_from(WORDS), max_size=1),
    st.none() | st.lists(st.sampled_from(AGENTS), max_size=2),
    st.none() | st.lists(st.sampled_from(ROLES), max_size=2),
    st.none() | st.integers(1, 50).map(float),
    st.none() | st.integers(1, 50).map(float),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(_SAID, max_size=25), st.lists(_ASKED, max_size=8))
def test_a_search_finds_what_reading_everything_would(said: list[Said], asked: list[tuple]) -> None:  # type: ignore[type-arg]
    async def run(folder: Path) -> None:
        access = access_by_teams(lambda _: [])
        async with Memory(folder / "memory.db", ManualClock(), access) as memory:
            await memory.remember(said)
            for wanted, unwanted, agents, roles, since, until in asked:
                query = " ".join([*wanted, *(f"-{word}" for word in unwanted)])
                found = await memory.recall(
                    PERSON, query, agents=agents, roles=roles, since=since, until=until, limit=100
                )
                expected = [
                    one.text
                    for one in said
                    if all(word in one.text.split() for word in wanted)
                    and not any(word in one.text.split() for word in unwanted)
                    and (agents is None or one.agent in agents)
                    and (roles is None or one.role in roles)
                    and (since is None or one.at >= since)
                    and (until is None or one.at < until)
                ]
                if not found.loose:
                    assert sorted(entry.text for entry in found.entries) == sorted(expected)
                else:
                    assert expected == []
                ids = [entry.id for entry in found.entries]
                assert found.loose or ids == sorted(ids, reverse=True)

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run, Path(folder))


_SYNTAX = st.sampled_from(
    [*"\"*()^:-+{} a'\0\ud800", "NEAR(", "AND", "OR", "NOT", "text:", "tags:"],
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(_SYNTAX, max_size=12).map("".join) | st.text(max_size=40), min_size=5, max_size=20))
def test_no_text_is_a_syntax_error(queries: list[str]) -> None:
    async def run(folder: Path) -> None:
        access = access_by_teams(lambda _: [])
        async with Memory(folder / "m.db", ManualClock(), access, limits=Limits(query_chars=60)) as memory:
            await memory.remember([Said("a1", "user", "a text with NEAR and quotes", 1000.0)])
            await memory.write_note(PERSON, "shared", "k", "a note")
            for query in queries:
                await memory.recall(PERSON, query)
                await memory.recall(PERSON, query, agents=["a1"])
                await memory.search(PERSON, query)

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run, Path(folder))


async def test_what_is_counted_is_what_is_there_whatever_was_said_and_forgotten(memory: Memory) -> None:
    chance = random.Random(7)
    texts = ["x", "größe", "", "y\n" * 40_000]
    for number in range(40):
        said = [
            Said(f"a{chance.randrange(3)}", "user", chance.choice(texts), 1e9 + number)
            for _ in range(chance.randrange(1, 4))
        ]
        ids = await memory.remember(said)
        if chance.random() < 0.5:
            await memory.forget_entries(PERSON, ids=chance.sample(ids, chance.randrange(len(ids))) or ids)
    await memory.write_block(PERSON, "a2", "b", "z" * 400)
    await memory.forget_agent(PERSON, "a0")
    sums = "sum(length(CAST(text AS BLOB))), sum((length(CAST(text AS BLOB)) + 3) / 4)"
    sql = f"SELECT agent, count(*), {sums} FROM entry GROUP BY agent ORDER BY agent"
    there = await memory.look(lambda db: db.execute(sql).fetchall())
    assert there == await memory.look(lambda db: db.execute("SELECT * FROM tally ORDER BY agent").fetchall())
    assert [row[0] for row in there] == ["a1", "a2"]


async def test_a_file_whose_triggers_counted_is_not_counted_twice(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "memory.db"
    access = access_by_teams(lambda _: [])
    async with Memory(path, clock, access) as memory:
        await memory.remember([Said("a1", "user", "one", 1000.0)])
    db = sqlite3.connect(path)
    db.execute("CREATE TRIGGER entry_said AFTER INSERT ON entry BEGIN UPDATE tally SET entries = 99; END")
    db.execute("PRAGMA user_version = 2")
    db.commit()
    db.close()
    async with Memory(path, clock, access) as memory:
        await memory.remember([Said("a1", "user", "two", 1001.0)])
        assert (await memory.fill(PERSON, "a1")).recall_entries == 2
