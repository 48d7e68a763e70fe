from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agenttop.core import store
from agenttop.core.errors import JournalUnavailable
from agenttop.core.store import Migration, StoreTooNew, connect, migrate


def schema(db: sqlite3.Connection) -> dict[str, object]:
    tables = [
        row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    ]
    found: dict[str, object] = {}
    for table in tables:
        found[table] = db.execute(f"PRAGMA table_info({table})").fetchall()
        names = [row[1] for row in db.execute(f"PRAGMA index_list({table})") if row[3] == "c"]
        found[f"{table} indexes"] = {
            name: db.execute(f"PRAGMA index_info({name})").fetchall() for name in names
        }
    return found


def test_all_migrations_together_are_what_the_sqlmodel_classes_declare(tmp_path: Path) -> None:
    from sqlalchemy import create_engine

    from agenttop.core import tables

    db = connect(tmp_path / "migrated.db")
    migrate(db, tmp_path / "migrated.db")
    engine = create_engine(f"sqlite:///{tmp_path / 'declared.db'}")
    tables.SQLModel.metadata.create_all(engine)
    engine.dispose()
    declared = connect(tmp_path / "declared.db")
    assert schema(db) == schema(declared)
    db.close()
    declared.close()


def test_the_hot_statements_are_what_the_sqlmodel_classes_compile_to() -> None:
    from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
    from sqlmodel import col, insert, select

    from agenttop.core.journal import replay, writer
    from agenttop.core.tables import EventRow

    dialect = SQLiteDialect_pysqlite()
    assert str(insert(EventRow).compile(dialect=dialect)).split() == writer.INSERT.split()
    compiled = str(select(EventRow).order_by(col(EventRow.seq)).compile(dialect=dialect))
    ours = replay.query().replace(" WHERE seq > :since", "").removesuffix(" LIMIT :limit")
    assert compiled.replace("events.", "").split() == ours.split()


def test_the_journal_starts_without_importing_sqlmodel() -> None:
    code = "import sys, agenttop.core.journal.journal; print([m for m in sys.modules if m.startswith('sql')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sqlite3" in done.stdout
    assert "sqlalchemy" not in done.stdout
    assert "sqlmodel" not in done.stdout


def test_the_file_and_its_companions_are_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    old = os.umask(0)
    try:
        db = connect(path)
        migrate(db, path)
        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == ["journal.db", "journal.db-shm", "journal.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(old)
    db.close()


def test_a_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.touch(mode=0o644)
    path.chmod(0o644)
    connect(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_commits_are_flushed_in_wal_mode(tmp_path: Path) -> None:
    db = connect(tmp_path / "journal.db")
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    db.close()


def test_migrating_twice_does_nothing_the_second_time(tmp_path: Path) -> None:
    db = connect(tmp_path / "journal.db")
    assert migrate(db, tmp_path) == [step.name for step in store.MIGRATIONS]
    assert migrate(db, tmp_path) == []
    db.close()


def test_migration_names_are_unique_and_in_order() -> None:
    names = [step.name for step in store.MIGRATIONS]
    assert names == sorted(set(names))
    assert names[:3] == ["m0001_events", "m0002_checkpoints", "m0003_probe"]


def test_a_store_of_the_first_version_is_brought_up_to_date_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    db = connect(path)
    migrate(db, path, store.MIGRATIONS[:1])
    db.execute("INSERT INTO events VALUES (1, 5.0, 'Old', NULL, x'7b7d', x'00')")
    assert migrate(db, path) == [step.name for step in store.MIGRATIONS[1:]]
    assert db.execute("SELECT * FROM events").fetchall() == [(1, 5.0, "Old", None, b"{}", b"\0")]
    assert db.execute("SELECT count(*) FROM checkpoints").fetchone() == (0,)
    db.close()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    db = connect(path)
    newer = [*store.MIGRATIONS, Migration("m9999_future", lambda db: None)]
    migrate(db, path, newer)
    before = schema(db)
    with pytest.raises(StoreTooNew) as caught:
        migrate(db, path)
    assert "newer version" in caught.value.what
    assert "m9999_future" in caught.value.why
    assert "Upgrade" in caught.value.hint
    assert schema(db) == before
    db.close()


def test_a_step_that_fails_leaves_nothing_of_itself_and_can_be_taken_later(tmp_path: Path) -> None:
    def half(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half (x)")
        db.execute("CREATE TABLE half (x)")

    path = tmp_path / "journal.db"
    db = connect(path)
    with pytest.raises(JournalUnavailable, match="brought up to date"):
        migrate(db, path, [*store.MIGRATIONS, Migration("m9999_half", half)])
    assert "half" not in schema(db)
    assert migrate(db, path, [*store.MIGRATIONS, Migration("m9999_half", lambda db: None)]) == ["m9999_half"]
    db.close()


def test_a_file_that_is_no_database_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is not a database at all\n" * 100)
    with pytest.raises(JournalUnavailable) as caught:
        connect(path)
    assert "not a database" in caught.value.why
    assert "Move" in caught.value.hint


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailable, match="cannot be opened") as caught:
        connect(tmp_path / "nowhere" / "journal.db")
    assert str(tmp_path / "nowhere") in caught.value.hint
