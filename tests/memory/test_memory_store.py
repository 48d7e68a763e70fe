"""The file under memory: one writer, readers beside it, and what happens when either cannot."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import anyio
import pytest

from agenttop.core.clock import ManualClock
from agenttop.core.memory.memory import Memory
from agenttop.core.memory.model import MemoryUnavailable, Said, Who
from agenttop.core.memory.names import access_by_teams
from agenttop.core.memory.store import Store

pytestmark = pytest.mark.anyio


async def test_what_a_job_raises_undoes_that_job_and_no_other_of_its_group(tmp_path: Path) -> None:
    async with Store(tmp_path / "m.db") as store:
        outcomes: dict[int, object] = {}

        async def write(number: int) -> None:
            def job(db: sqlite3.Connection) -> int:
                db.execute("INSERT INTO meta VALUES (?, 1)", (f"n{number}",))
                if number % 2:
                    raise ValueError(number)
                return number

            try:
                outcomes[number] = await store.write(job)
            except ValueError as error:
                outcomes[number] = error

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(write, number)
        rows = await store.read(
            lambda db: db.execute("SELECT name FROM meta WHERE name LIKE 'n%'").fetchall()
        )
        assert {name for (name,) in rows} == {f"n{number}" for number in range(0, 50, 2)}
        assert all(isinstance(outcomes[number], ValueError) == bool(number % 2) for number in range(50))


async def test_a_failed_statement_fails_its_group_and_the_next_write_works(tmp_path: Path) -> None:
    async with Store(tmp_path / "m.db") as store:
        with pytest.raises(MemoryUnavailable):
            await store.write(lambda db: db.execute("INSERT INTO nothing VALUES (1)"))
        await store.write(lambda db: db.execute("INSERT INTO meta VALUES ('x', 1)"))
        assert await store.read(lambda db: db.execute("SELECT 1 FROM meta WHERE name = 'x'").fetchone())


async def test_readers_cannot_write_and_run_beside_a_slow_writer(tmp_path: Path) -> None:
    async with Store(tmp_path / "m.db") as store:
        go_on = threading.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(store.write, lambda _: go_on.wait(30))
            try:
                assert await store.read(lambda db: db.execute("SELECT 1").fetchone()) == (1,)
                with pytest.raises(MemoryUnavailable):
                    await store.read(lambda db: db.execute("DELETE FROM meta"))
            finally:
                go_on.set()


async def test_a_cancelled_write_leaves_the_store_usable(tmp_path: Path) -> None:
    async with Store(tmp_path / "m.db") as store:
        go_on = threading.Event()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(store.write, lambda _: go_on.wait(30))
                await anyio.lowlevel.checkpoint()
                scope.cancel()
        go_on.set()
        assert await store.write(lambda _: 5) == 5


async def test_after_it_was_closed_nobody_waits_for_it(tmp_path: Path) -> None:
    async with Store(tmp_path / "m.db") as store:
        pass
    for call in (store.write, store.read, store.alone):
        with pytest.raises(MemoryUnavailable):
            await call(lambda _: 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_writer_that_died_of_a_bug_keeps_nobody_waiting(tmp_path: Path) -> None:
    def die(_: sqlite3.Connection) -> None:
        raise SystemExit  # ends a thread without a word

    async with Store(tmp_path / "m.db") as store:
        with anyio.fail_after(30):
            for job in (die, lambda _: 1):
                with pytest.raises(MemoryUnavailable):
                    await store.write(job)


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
async def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.db"
    path.write_bytes(content)
    with pytest.raises(MemoryUnavailable, match=r"m\.db"):
        async with Memory(path, ManualClock(), access_by_teams(lambda _: [])):
            pass
    assert path.read_bytes() == content


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(MemoryUnavailable, match="newer"):
        async with Store(path):
            pass


async def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "m.db").symlink_to(tmp_path / "target")
    with pytest.raises(MemoryUnavailable):
        async with Store(tmp_path / "m.db"):
            pass


async def test_a_full_store_says_so_and_takes_writes_again_when_there_is_room(tmp_path: Path) -> None:
    access = access_by_teams(lambda _: [])
    async with Memory(tmp_path / "m.db", ManualClock(), access) as memory:
        store = memory._store
        await memory.remember([Said("a1", "user", "before", 1000.0)])
        await store.alone(lambda db: db.execute("PRAGMA max_page_count = 60").fetchone())
        much = [Said("a1", "user", f"text{number} " * 3000, 2000.0 + number) for number in range(100)]
        with pytest.raises(MemoryUnavailable, match="full"):
            await memory.remember(much)
        # The connection is opened anew, without that bound.
        await memory.remember([Said("a1", "user", "after", 3000.0)])
        assert (await memory.recall(Who(None), "before")).entries
        assert (await memory.recall(Who(None), "after")).entries


async def test_closed_it_is_one_file_that_can_be_copied(tmp_path: Path) -> None:
    """Whoever backs up ``memory.db`` of a kernel that has ended has all of it."""
    access = access_by_teams(lambda _: [])
    async with Memory(tmp_path / "memory.db", ManualClock(), access) as memory:
        await memory.write_note(Who(None), "shared", "k", "x")
        assert await memory.keys(Who(None), "shared") == ["k"]
    assert [path.name for path in tmp_path.iterdir()] == ["memory.db"]


async def test_a_file_that_cannot_be_used_is_a_problem_as_long_as_it_cannot(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    path.mkdir()
    access = access_by_teams(lambda _: [])
    async with Memory(path, ManualClock(), access, lazy=True) as memory:
        with pytest.raises(MemoryUnavailable):
            await memory.settle()
        assert "memory.db" in memory.problem
        path.rmdir()
        await memory.write_note(Who(None), "shared", "k", "x")
        assert memory.problem == ""


async def test_a_search_that_takes_too_long_is_refused_and_no_problem_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agenttop.core.memory.store._READ_SECONDS", -1.0)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    async with Store(tmp_path / "m.db") as store:
        with pytest.raises(MemoryUnavailable, match="took longer"):
            await store.read(lambda db: db.execute(endless).fetchone())
        assert store.problem == ""
