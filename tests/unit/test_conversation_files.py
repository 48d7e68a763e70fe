"""Conversations as files: copied whole while they grow, and never out of the agent's own folder."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.agents import conversation_files
from agenttop.core.agents.template import Template
from agenttop.core.errors import BackendError, Conflict

SESSION = "15593898-264f-49ff-9f1f-52ca3206eaa9"


def template(**places: str) -> Template:
    return Template(name="x", title="X", conversation=places or {"x/*/{session}.jsonl": ""})


def made(folder: Path, path: str, data: bytes = b'{"a": 1}\n') -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def copy(source: Path, target: Path, session: str = SESSION, **places: str) -> list[str]:
    conversation_files.copy(template(**places), session, source, target, "api")
    return sorted(str(file.relative_to(target)) for file in target.rglob("*") if file.is_file())


def test_only_the_conversation_is_copied_with_its_age_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = made(tmp_path / "a", f"x/-work/{SESSION}.jsonl")
    made(tmp_path / "a", "x/-work/another.jsonl")
    made(tmp_path / "a", "x/settings.json")
    os.utime(file, (1_000_000, 1_000_000))
    assert copy(tmp_path / "a", tmp_path / "b") == [f"x/-work/{SESSION}.jsonl"]
    copied = tmp_path / "b" / f"x/-work/{SESSION}.jsonl"
    assert copied.read_bytes() == file.read_bytes()
    assert copied.stat().st_mtime == 1_000_000
    assert copied.stat().st_mode & 0o777 == 0o600


def test_links_of_folders_to_themselves_are_not_gone_round(tmp_path: Path) -> None:
    made(tmp_path / "a", f"x/2026/11/{SESSION}.jsonl")
    for name in "bcdefgh":
        (tmp_path / "a" / "x" / name).symlink_to(".")
    pattern = {"x/**/{session}.jsonl": ""}
    script = "import sys, pathlib; from tests.unit.test_conversation_files import copy; " + (
        f"print(copy(pathlib.Path(sys.argv[1], 'a'), pathlib.Path(sys.argv[1], 'b'), **{pattern!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout == f"['x/2026/11/{SESSION}.jsonl']\n"


@given(st.binary(max_size=4_000))
def test_a_line_that_is_being_written_is_left_out(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "a"), Path(folder, "b")
        file = made(source, f"x/-/{SESSION}.jsonl", data)
        copy(source, target)
        copied = (target / file.relative_to(source)).read_bytes()
        assert copied == data[: data.rfind(b"\n") + 1]


def test_a_database_in_use_is_copied_whole(tmp_path: Path) -> None:
    file = made(tmp_path / "a", "x/store.db", b"")
    with closing(sqlite3.connect(file)) as own:
        own.execute("PRAGMA journal_mode = WAL")
        own.execute("CREATE TABLE turns (text)")
        own.execute("INSERT INTO turns VALUES ('heron')")
        own.commit()
        assert copy(tmp_path / "a", tmp_path / "b", **{"x/*.db": ""}) == ["x/store.db"]
        with closing(sqlite3.connect(tmp_path / "b" / "x" / "store.db")) as other:
            assert other.execute("SELECT text FROM turns").fetchall() == [("heron",)]


def test_links_lead_nowhere(tmp_path: Path) -> None:
    secret = made(tmp_path, f"secret/{SESSION}.jsonl")
    (tmp_path / "a" / "x" / "one").mkdir(parents=True)
    (tmp_path / "a" / "x" / "one" / f"{SESSION}.jsonl").symlink_to(secret)
    (tmp_path / "a" / "x" / "two").symlink_to(secret.parent)
    with pytest.raises(BackendError, match="was not forked"):
        copy(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("session", ["../../etc/passwd", "a/b", ".hidden", "x\0y", "é", "a" * 200])
def test_an_id_that_could_be_a_path_is_refused(session: str, tmp_path: Path) -> None:
    made(tmp_path / "a", f"x/-/{SESSION}.jsonl")
    with pytest.raises(Conflict, match="cannot be forked"):
        copy(tmp_path / "a", tmp_path / "b", session)


def test_an_id_is_no_pattern(tmp_path: Path) -> None:
    made(tmp_path / "a", f"x/-/{SESSION}.jsonl")
    with pytest.raises(Conflict):
        copy(tmp_path / "a", tmp_path / "b", "*")


def test_in_another_folder_the_copy_lies_where_the_client_looks_for_it(tmp_path: Path) -> None:
    of = template(**{"x/*/{session}.jsonl": "x/{project}"})
    made(tmp_path, f"x/-old-place/{SESSION}.jsonl")
    for _ in range(2):  # as after a kernel that was killed in between
        conversation_files.settle(of, SESSION, tmp_path, "/new/pla.ce")
        assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.jsonl")] == [
            f"x/-new-pla-ce/{SESSION}.jsonl"
        ]
