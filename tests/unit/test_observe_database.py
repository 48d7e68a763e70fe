"""Databases of CLIs are read while those write to them, and nothing of theirs is touched or waited for."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agenttop.core.observe.contract import Session, observers
from agenttop.core.observe.index import scan
from agenttop.core.observe.index.history import History, Root
from agenttop.core.observe.index.scan_index import ScanIndex
from agenttop.core.observe.readers import database
from agenttop.core.observe.readers.database import opened

from ..support.chats import OpenCode, T

OBSERVERS = observers()[0]
USAGE = (100, 50, 20, 30)


@pytest.fixture
def opencode(tmp_path: Path) -> Iterator[OpenCode]:
    (tmp_path / "theirs").mkdir()
    made = OpenCode(tmp_path / "theirs" / "opencode.db")
    made.session("ses_a")
    made.end("ses_a", made.begin("ses_a"), USAGE)
    yield made
    made.close()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ScanIndex]:
    made = ScanIndex(tmp_path / "scan.db")
    yield made
    made.close()


def state_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything in a folder: names, sizes, times and contents."""
    return {
        path.name: (path.stat().st_size, path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.iterdir()
        if not path.name.endswith("-shm")  # readers' marks lie there; it is no content
    }


def history(index: ScanIndex, path: Path) -> History:
    return History(index, [Root("opencode", str(path))], 1)


def output(index: ScanIndex) -> int:
    return sum(row.output for row in index.sums())


def test_nothing_in_the_folder_of_a_database_is_changed(opencode: OpenCode, index: ScanIndex) -> None:
    folder = opencode.path.parent
    before = state_of(folder)
    assert len(before) == 2, "the database and its log"
    history(index, opencode.path).refresh()
    assert state_of(folder) == before
    opencode.close()
    before = state_of(folder)
    assert list(before) == [opencode.path.name], "its program has ended"
    opencode.path.touch()
    before = state_of(folder)
    again = history(index, opencode.path)
    again.refresh()
    tail = OBSERVERS["opencode"].tail(Session("ses_a", f"{opencode.path}#ses_a", True))
    assert tail.refresh()
    assert state_of(folder) == before
    assert sorted(os.listdir(folder)) == [opencode.path.name]
    assert output(index) == USAGE[3]


def test_a_writer_is_not_kept_waiting_by_a_reader(opencode: OpenCode) -> None:
    opencode.db.execute("PRAGMA busy_timeout = 0")
    with opened(str(opencode.path)) as db:
        assert db.execute("SELECT count(*) FROM message").fetchone() == (1,)
        opencode.end("ses_a", opencode.begin("ses_a"), USAGE)
        assert db.execute("SELECT count(*) FROM message").fetchone() == (1,), "as it was at one moment"
    with opened(str(opencode.path)) as db:
        assert db.execute("SELECT count(*) FROM message").fetchone() == (2,)


def test_what_is_opened_cannot_be_written(opencode: OpenCode) -> None:
    with pytest.raises(OSError, match="readonly database"), opened(str(opencode.path)) as db:
        db.execute("DELETE FROM message")


def test_a_locked_database_is_named_and_read_when_it_is_free(tmp_path: Path, index: ScanIndex) -> None:
    made = OpenCode(tmp_path / "opencode.db")
    made.session("ses_a")
    made.end("ses_a", made.begin("ses_a"), USAGE)
    made.db.execute("PRAGMA journal_mode = DELETE")  # where a writer shuts readers out
    path = str(made.path)
    reader = history(index, made.path)
    assert reader.refresh().read == 1
    made.db.execute("BEGIN EXCLUSIVE")
    made.end("ses_a", made.begin("ses_a"), USAGE)
    tail = OBSERVERS["opencode"].tail(Session("ses_a", f"{made.path}#ses_a", True))
    made.path.touch()
    reader.refresh()
    assert tail.refresh() is False
    assert "locked" in reader.problems[path]
    assert "locked" in tail.oddities.problems[path]
    assert output(index) == USAGE[3], "what was read stays known"
    made.db.execute("COMMIT")
    reader.refresh()
    assert tail.refresh() is True
    assert reader.problems == {}
    assert output(index) == 2 * USAGE[3]
    assert tail.view(T, None).usage.output == 2 * USAGE[3]
    made.close()


@pytest.mark.parametrize("damage", ["empty", "garbage", "cut", "no table", "no column", "a folder", "a pipe"])
def test_a_damaged_database_is_named_and_read_again_when_it_is_whole(
    tmp_path: Path, index: ScanIndex, opencode: OpenCode, damage: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "whole.db")) as whole:
        opencode.db.backup(whole)
    opencode.close()
    path = tmp_path / "opencode.db"
    match damage:
        case "garbage":
            path.write_bytes(b"this is no database at all" * 400)
        case "cut":
            path.write_bytes((tmp_path / "whole.db").read_bytes()[:5000])
        case "no table" | "no column":
            with closing(sqlite3.connect(path)) as db:
                db.execute(
                    "CREATE TABLE session (id text)" if damage == "no column" else "CREATE TABLE x (y)"
                )
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case _:
            path.touch()
    reader = history(index, path)
    tail = OBSERVERS["opencode"].tail(Session("ses_a", f"{path}#ses_a", True))
    assert reader.refresh().read == 0
    assert reader.problems.keys() == {str(path)}, "doctor names it"
    assert tail.refresh() is False
    assert tail.view(T, None).calls == 0
    assert tail.oddities.problems.keys() == {str(path)}
    (path.rmdir if path.is_dir() else path.unlink)()
    os.replace(tmp_path / "whole.db", path)
    assert reader.refresh().read == 1
    assert reader.problems == {}
    assert output(index) == USAGE[3]
    assert tail.refresh() is True
    assert tail.oddities.problems == {}


def test_rows_that_are_not_what_they_should_be_are_counted(opencode: OpenCode) -> None:
    rows = [
        "",
        "{",
        "[]",
        '{"role":"assistant"}',
        '{"role":"assistant","time":{},"tokens":{"input":-1}}',
        "\x00",
    ]
    for number, data in enumerate(rows):
        opencode.db.execute(
            "INSERT INTO message VALUES (?, 'ses_a', ?, ?, ?)", (f"x{number}", 1, opencode.now, data)
        )
    opencode.db.execute(
        "INSERT INTO message VALUES ('x9', 'ses_a', 1, ?, CAST(x'fffe00' AS TEXT))", (opencode.now,)
    )
    reading = scan.read(scan.Job(1, "opencode", f"{opencode.path}#ses_a"))
    assert (reading.error, reading.odd) == ("", 7)
    tail = OBSERVERS["opencode"].tail(Session("ses_a", f"{opencode.path}#ses_a", True))
    assert tail.refresh()
    assert tail.view(T, None).usage.output == USAGE[3]
    assert tail.oddities.unreadable >= 7


def test_a_session_that_is_gone_keeps_what_was_read(opencode: OpenCode, index: ScanIndex) -> None:
    reader = history(index, opencode.path)
    reader.refresh()
    opencode.db.execute("DELETE FROM message")
    opencode.db.execute("DELETE FROM session")
    reader.refresh()
    assert output(index) == USAGE[3]
    gone = scan.read(scan.Job(1, "opencode", f"{opencode.path}#ses_a"))
    assert gone.calls == b""


def test_a_look_that_takes_too_long_is_broken_off(
    opencode: OpenCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_LONGEST", 0.05)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(OSError, match="interrupted"), opened(str(opencode.path)) as db:
        db.execute(endless).fetchone()


def test_a_log_left_by_a_program_that_was_killed_is_read(tmp_path: Path, opencode: OpenCode) -> None:
    left = tmp_path / "left"
    left.mkdir()
    for suffix in ("", "-wal", "-shm"):
        data = Path(f"{opencode.path}{suffix}").read_bytes()
        (left / f"opencode.db{suffix}").write_bytes(data)
    reading = scan.read(scan.Job(1, "opencode", f"{left}/opencode.db#ses_a"))
    assert reading.error == ""
    assert len(reading.calls) > 0
