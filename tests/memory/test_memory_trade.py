"""Imports and exports: what goes out comes in again, and what is hostile stays out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agenttop.core.clock import ManualClock
from agenttop.core.errors import Forbidden
from agenttop.core.memory import trade
from agenttop.core.memory.memory import Memory
from agenttop.core.memory.model import MemoryRefused, Said, Who
from agenttop.core.memory.names import access_by_teams

pytestmark = pytest.mark.anyio
PERSON = Who(None)


async def test_lines_come_in_as_they_went_out_and_once(memory: Memory, tmp_path: Path) -> None:
    await memory.write_block(PERSON, "a1", "plan", "do it")
    await memory.remember([Said("a1", "user", "hello\nthere", 1000.5)])
    await memory.write_note(PERSON, "shared", "n/one", "größe")
    await memory.write_note(PERSON, "shared", "f", b"\0\xff")
    out = tmp_path / "out.jsonl"
    done = await trade.export_lines(memory, PERSON, out, ["a1"], ["shared"])
    assert done == trade.Imported(1, 1, 2, [])
    assert out.stat().st_mode & 0o777 == 0o600
    with pytest.raises(MemoryRefused):
        await trade.export_lines(memory, PERSON, out, ["a1"])
    with pytest.raises(Forbidden):
        await trade.export_lines(memory, Who("a2"), tmp_path / "no.jsonl", ["a1"])
    access = access_by_teams(lambda _: [])
    async with Memory(tmp_path / "other.db", ManualClock(), access) as other:
        assert await trade.import_lines(other, PERSON, out) == trade.Imported(1, 1, 2, [])
        assert await trade.import_lines(other, PERSON, out) == trade.Imported(0, 0, 0, [])
        (entry,) = (await other.recall(PERSON, "hello")).entries
        assert (entry.at, entry.text, entry.source) == (1000.5, "hello\nthere", "import:out.jsonl")
        assert (await other.note(PERSON, "shared", "f")).file == b"\0\xff"
        assert (await other.block(PERSON, "a1", "plan")).text == "do it"


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"tier": "recall", "agent": "a1", "role": "user", "text": 1, "at": 2}',
        b'{"tier": "archival", "namespace": "shared", "key": "../../etc", "text": "x"}',
        b'{"tier": "archival", "namespace": "private/..", "key": "k", "text": "x"}',
        b'{"tier": "archival", "namespace": "shared", "key": "k", "file": "%%"}',
        b'{"tier": "working", "agent": "a1", "name": "a/b", "text": "x"}',
        b'{"tier": ["x"]}',
        b'{"tier": "recall", "agent": "a1", "role": "boss", "text": "x", "at": 2}',
        b'{"tier": "recall", "agent": "a1", "role": "user", "text": "x", "at": 1e300}',
        b'{"tier": "recall", "agent": "../x", "role": "user", "text": "x", "at": 2}',
        b'{"tier": "working", "agent": "", "name": "b", "text": "x"}',
        b'{"tier": "archival", "namespace": "shared", "key": "k2", "file": 7}',
    ],
)
async def test_one_bad_line_and_nothing_is_taken(memory: Memory, tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"tier": "archival", "namespace": "shared", "key": "k", "text": "x"}\n' + line + b"\n")
    with pytest.raises(MemoryRefused, match="line 2"):
        await trade.import_lines(memory, PERSON, path)
    assert await memory.namespaces(PERSON) == []


async def test_an_export_brought_back_where_it_came_from_doubles_nothing(
    memory: Memory, tmp_path: Path
) -> None:
    """Also where entries came within one microsecond, and times as floats are off by one."""
    said = [Said("a1", "user", f"n {n}", 1_763_700_000.1 + n * 0.37) for n in range(50)]
    await memory.remember([*said, *said[:3]])
    out = tmp_path / "out.jsonl"
    assert (await trade.export_lines(memory, PERSON, out, ["a1"])).entries == 53
    assert await trade.import_lines(memory, PERSON, out) == trade.Imported(0, 0, 0, [])
    assert (await trade.import_lines(memory, PERSON, out, "a2")).entries == 53
    assert (await trade.import_lines(memory, PERSON, out, "a2")).entries == 0


async def test_an_export_leaves_the_files_beside_it_alone(memory: Memory, tmp_path: Path) -> None:
    mine = tmp_path / "out.jsonl.part"
    mine.write_text("mine")
    await memory.write_note(PERSON, "shared", "k", "x")
    await trade.export_lines(memory, PERSON, tmp_path / "out.jsonl")
    assert mine.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.jsonl", "out.jsonl.part"]


async def test_a_folder_of_markdown_goes_out_and_comes_in(memory: Memory, tmp_path: Path) -> None:
    for key in ("a", "a/b", "a/b c", "ü.md"):
        await memory.write_note(PERSON, "shared", key, f"text of {key}")
    assert await trade.export_markdown(memory, PERSON, tmp_path / "out", "shared") == 4
    done = await trade.import_markdown(memory, Who("a1"), tmp_path / "out", "private/a1")
    assert (done.notes, done.skipped) == (4, [])
    assert await memory.keys(PERSON, "private/a1") == await memory.keys(PERSON, "shared")
    note = await memory.note(PERSON, "private/a1", "a/b")
    assert (note.text, note.source, note.by) == ("text of a/b", "import:a/b.md", "a1")


async def test_links_pipes_and_hostile_names_are_skipped_with_the_reason(
    memory: Memory, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.md").write_text("secret")
    (folder / "good.md").write_text("fine")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "not.txt").write_text("no")
    (folder / "binary.md").write_bytes(b"\xff\xfe")
    (folder / "\x1b[31m.md").write_text("no")
    Path(os.fsdecode(bytes(folder) + b"/bad\xff.md")).write_text("no")
    os.mkfifo(folder / "pipe.md")
    done = await trade.import_markdown(memory, PERSON, folder, "shared")
    assert done.notes == 1
    assert len(done.skipped) == 6
    assert all(one.path.isprintable() and one.why for one in done.skipped)
    assert await memory.keys(PERSON, "shared") == ["good"]
    with pytest.raises(MemoryRefused):
        await trade.import_markdown(memory, PERSON, folder / "linked", "shared")
