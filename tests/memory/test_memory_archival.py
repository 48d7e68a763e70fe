"""Notes: access, versions, provenance, and search by words and by meaning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agenttop.core.clock import ManualClock
from agenttop.core.errors import AgentTopError, Forbidden
from agenttop.core.memory.memory import Memory
from agenttop.core.memory.model import MemoryRefused, NotRemembered, Who, WriteRace
from agenttop.core.memory.names import access_by_teams

pytestmark = pytest.mark.anyio
PERSON = Who(None)
A1, A2, A3 = Who("a1", 7, "call:c1"), Who("a2"), Who("a3")


async def test_private_is_for_its_agent_team_for_the_team_shared_for_all(memory: Memory) -> None:
    await memory.write_note(A1, "private/a1", "n", "needle private")
    await memory.write_note(A1, "team/red", "n", "needle team")
    await memory.write_note(A1, "shared", "n", "needle shared")
    for who, seen in ((A1, 3), (A2, 2), (A3, 1), (PERSON, 3)):
        assert len((await memory.search(who, "needle")).hits) == seen
        assert len(await memory.namespaces(who)) == seen
    with pytest.raises(Forbidden):
        await memory.note(A2, "private/a1", "n")
    with pytest.raises(Forbidden):
        await memory.write_note(A3, "team/red", "n", "mine")
    with pytest.raises(Forbidden):
        await memory.forget_note(A2, "private/a1", "n")


async def test_every_version_says_who_wrote_it_in_which_run_from_what(memory: Memory) -> None:
    await memory.write_note(A1, "shared", "n", "one", expected=0)
    await memory.write_note(PERSON, "shared", "n", "two", expected=1)
    with pytest.raises(WriteRace):
        await memory.write_note(A1, "shared", "n", "three", expected=1)
    versions = await memory.note_versions(A2, "shared", "n")
    assert [(v.text, v.by, v.run, v.source) for v in versions] == [
        ("two", "person", None, ""),
        ("one", "a1", 7, "call:c1"),
    ]
    assert (await memory.search(A2, "one")).hits == []


@pytest.mark.parametrize(
    "name",
    ["..", "../x", "a/../b", "", "a//b", "/a", "a/", ".hidden", "a\0", "a\x1b[31m", "a\nb", "con", "x" * 65,
     "-rf", "a\\b", "a ", "a.", "\u202ea", "a/" * 8 + "a", "\ud800"],
)  # fmt: skip
async def test_hostile_keys_are_refused(memory: Memory, name: str) -> None:
    with pytest.raises(MemoryRefused):
        await memory.write_note(PERSON, "shared", name, "text")


@pytest.mark.parametrize("name", ["", "private", "private/", "private/..", "team/a/b", "shared/x", "other/x"])
async def test_hostile_namespaces_are_refused(memory: Memory, name: str) -> None:
    with pytest.raises(MemoryRefused):
        await memory.write_note(PERSON, name, "key", "text")


async def test_files_keep_their_bytes_and_are_searched_if_they_are_text(memory: Memory) -> None:
    await memory.write_note(A1, "shared", "f.txt", "größe needle".encode())
    await memory.write_note(A1, "shared", "f.bin", b"\xff\x00needle")
    assert [hit.note.key for hit in (await memory.search(A1, "needle")).hits] == ["f.txt"]
    assert (await memory.note(A1, "shared", "f.bin")).file == b"\xff\x00needle"
    with pytest.raises(MemoryRefused):
        await memory.write_note(A1, "shared", "big", b"x" * (memory.limits.file_bytes + 1))


class Model:
    """An embedding provider that can die and change."""

    model = "m"

    def __init__(self) -> None:
        self.dead = False
        self.dimension = 8
        self.answer: Callable[[str], Sequence[float]] = self._vector

    def _vector(self, text: str) -> Sequence[float]:
        groups = ("cat kitten feline", "car engine wheel")
        here = [sum(word in text for word in group.split()) + 0.01 for group in groups]
        return [*here, *([0.0] * (self.dimension - 2))]

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        if self.dead:
            raise AgentTopError("the provider is dead")
        return [self.answer(text) for text in texts]


async def semantic(path: Path) -> tuple[Memory, Model]:
    pytest.importorskip("numpy")
    model = Model()
    return Memory(path / "memory.db", ManualClock(), access_by_teams(lambda _: []), embedder=model), model


async def test_meaning_finds_what_words_do_not_and_stays_within_access(tmp_path: Path) -> None:
    opened, _ = await semantic(tmp_path)
    async with opened as memory:
        await memory.write_note(A1, "shared", "pet", "the feline sleeps")
        await memory.write_note(A1, "shared", "auto", "an engine roars")
        await memory.write_note(A2, "private/a2", "own", "kitten kitten")
        assert await memory.embed() == 3
        assert await memory.embed() == 0
        hits = await memory.search(A1, "cat", mode="meaning")
        assert [hit.note.key for hit in hits.hits] == ["pet", "auto"]
        assert hits.degraded == ""
        both = await memory.search(A1, "a cat", mode="hybrid")
        assert (both.hits[0].note.key, both.hits[0].by) == ("pet", "meaning")
        assert (await memory.search(A1, "feline")).hits[0].by == "both"


async def test_where_the_provider_is_dead_words_are_searched_and_it_says_why(tmp_path: Path) -> None:
    opened, model = await semantic(tmp_path)
    async with opened as memory:
        await memory.write_note(A1, "shared", "pet", "the feline sleeps")
        model.dead = True
        with pytest.raises(AgentTopError):
            await memory.embed()
        found = await memory.search(A1, "feline")
        assert [hit.note.key for hit in found.hits] == ["pet"]
        assert "dead" in found.degraded
        model.dead = False
        assert await memory.embed() == 1


async def test_a_model_that_changes_its_dimension_gets_all_notes_anew(tmp_path: Path) -> None:
    opened, model = await semantic(tmp_path)
    async with opened as memory:
        await memory.write_note(A1, "shared", "pet", "the feline sleeps")
        await memory.write_note(A1, "shared", "auto", "an engine roars")
        await memory.embed()
        model.dimension = 16
        assert "2 notes" in (await memory.search(A1, "cat", mode="meaning")).degraded
        assert await memory.embed() == 2
        assert (await memory.search(A1, "cat", mode="meaning")).hits[0].note.key == "pet"


async def test_notes_that_wait_for_vectors_cost_a_search_no_writes_and_no_loading(tmp_path: Path) -> None:
    opened, _ = await semantic(tmp_path)
    async with opened as memory:
        await memory.write_note(A1, "shared", "pet", "the feline sleeps")
        await memory.embed()
        await memory.write_note(A1, "shared", "late", "an engine roars")
        for _ in range(2):  # the first one looks whether the model has another dimension than before
            assert "1 notes" in (await memory.search(A1, "cat", mode="meaning")).degraded
        loaded = memory._meaning._matrix
        assert "1 notes" in (await memory.search(A1, "cat", mode="meaning")).degraded
        assert memory._meaning._matrix is loaded is not None


@pytest.mark.parametrize("vector", [[], [float("nan")], [0.0, 0.0], ["x"], [1e39], [1.0] * 9000])
async def test_vectors_that_are_none_are_refused(tmp_path: Path, vector: list[float]) -> None:
    opened, model = await semantic(tmp_path)
    async with opened as memory:
        await memory.write_note(A1, "shared", "pet", "the feline sleeps")
        model.answer = lambda _: vector
        with pytest.raises(AgentTopError):
            await memory.embed()
        assert (await memory.search(A1, "feline")).hits


async def test_a_note_that_is_not_there_is_not_remembered(memory: Memory) -> None:
    with pytest.raises(NotRemembered):
        await memory.note(A1, "shared", "nothing")
