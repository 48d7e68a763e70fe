from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenttop.core.clock import ManualClock, SystemClock
from agenttop.core.errors import JournalUnavailable
from agenttop.core.journal import journal as journal_module
from agenttop.core.journal.events import AgentRemoved, Event, KernelStopped, Record, RunReady, RunStarted
from agenttop.core.journal.journal import Journal
from agenttop.core.journal.writer import _statements

pytestmark = pytest.mark.anyio


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with await Journal.open(tmp_path / "journal.db", ManualClock(100.0)) as opened:
        yield opened


def ready(number: int, agent: str = "a1") -> RunReady:
    return RunReady(agent=agent, run=number)


def stored(path: Path) -> list[Record]:
    db = sqlite3.connect(path)
    try:
        rows = db.execute("SELECT seq, ts, kind, agent, body, hash FROM events ORDER BY seq").fetchall()
    finally:
        db.close()
    return [Record._make(row) for row in rows]


async def test_an_awaited_ticket_is_on_the_disk_for_another_process_to_see(journal: Journal) -> None:
    records = await journal.append(ready(1), ready(2))
    assert stored(journal.path) == records
    assert [record.event() for record in records] == [ready(1), ready(2)]
    assert journal.last_seq == 2


async def test_order_is_decided_by_append_and_known_before_the_commit(journal: Journal) -> None:
    first, second = journal.append(ready(1)), journal.append(ready(2))
    assert not first.done
    assert [first.records[0].seq, second.records[0].seq] == [1, 2]
    assert journal.last_seq == 0
    await second
    assert first.done
    assert await first == first.records


async def test_observers_see_each_group_in_order_before_its_tickets_resolve(journal: Journal) -> None:
    seen: list[tuple[Record, Event]] = []
    unresolved: list[bool] = []

    def observe(group: list[tuple[Record, Event]]) -> None:
        seen.extend(group)
        unresolved.append(not last.done)

    journal.on_commit(observe)
    for number in range(500):
        last = journal.append(ready(number))
    await last
    assert [record.seq for record, _ in seen] == list(range(1, 501))
    assert [event for _, event in seen] == [ready(number) for number in range(500)]
    assert unresolved[-1]


async def test_an_observer_taken_away_is_not_called(journal: Journal) -> None:
    seen: list[object] = []
    journal.on_commit(seen.extend)()
    await journal.commit(ready(1))
    assert seen == []


async def test_many_tasks_committing_at_once_all_become_durable_once(journal: Journal) -> None:
    async def worker(agent: str) -> None:
        for number in range(20):
            await journal.commit(ready(number, agent))

    async with anyio.create_task_group() as tasks:
        for worker_number in range(20):
            tasks.start_soon(worker, f"w{worker_number}")
    rows = stored(journal.path)
    assert len(rows) == 400
    for worker_number in range(20):
        mine = [row.event() for row in rows if row.agent == f"w{worker_number}"]
        assert mine == [ready(number, f"w{worker_number}") for number in range(20)]
    assert (await journal.verify()).ok


async def test_the_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for round_number in range(3):
        async with await Journal.open(path, SystemClock()) as journal:
            assert journal.last_seq == round_number * 2
            await journal.commit(ready(1), ready(2))
    async with await Journal.open(path, SystemClock()) as journal:
        result = await journal.verify()
    assert (result.ok, result.events) == (True, 6)


async def test_closing_commits_what_is_queued(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal.db", SystemClock())
    ticket = journal.append(*(ready(number) for number in range(100)))
    await journal.close()
    assert len(stored(journal.path)) == 100
    assert len(await ticket) == 100
    with pytest.raises(JournalUnavailable, match="closed"):
        journal.append(ready(1))
    with pytest.raises(JournalUnavailable, match="not being written"):
        await journal.save_checkpoint(1, b"")
    await journal.close()


async def test_a_clock_set_back_never_sets_the_journal_back(tmp_path: Path) -> None:
    clock = ManualClock(1000.0)
    async with await Journal.open(tmp_path / "journal.db", clock) as journal:
        await journal.commit(ready(1))
        clock.now = 400.0
        assert (await journal.commit(ready(2)))[0].ts == 1000.0
    async with await Journal.open(tmp_path / "journal.db", clock) as journal:
        assert (await journal.commit(ready(3)))[0].ts == 1000.0
        clock.now = 1001.5
        assert (await journal.commit(ready(4)))[0].ts == 1001.5
        assert (await journal.verify()).ok


async def test_a_cancelled_wait_takes_nothing_back(journal: Journal) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await journal.append(ready(1))
    assert scope.cancelled_caught
    await journal.commit(ready(2))
    assert [row.event() for row in stored(journal.path)] == [ready(1), ready(2)]


async def test_commit_waits_for_room_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "QUEUE", 8)
    most = 0
    async with await Journal.open(tmp_path / "journal.db", SystemClock()) as journal:

        async def worker() -> None:
            nonlocal most
            for number in range(10):
                await journal.commit(ready(number))
                most = max(most, journal._waiting)

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(worker)
        assert journal.last_seq == 500
        await journal.room()
    # Everyone who is woken looks again before appending, so the bound holds exactly.
    assert most <= 8


async def test_reads_filter_by_place_kind_and_agent(journal: Journal) -> None:
    await journal.commit(
        ready(1, "a"), ready(2, "b"), AgentRemoved(agent="a"), KernelStopped(), ready(3, "a")
    )
    assert [row.seq for row in await journal.read(0)] == [1, 2, 3, 4, 5]
    assert [row.seq for row in await journal.read(2, limit=2)] == [3, 4]
    assert [row.seq for row in await journal.read(0, kinds=["RunReady"])] == [1, 2, 5]
    assert [row.seq for row in await journal.read(1, kinds=["RunReady"], agent="a")] == [5]
    assert await journal.read(0, kinds=[]) == []
    assert [row.seq for row in await journal.tail(2)] == [4, 5]
    assert [row.seq for row in await journal.tail(9, kinds=["RunReady"], agents=["a", "b"])] == [1, 2, 5]
    assert [row.seq for row in await journal.tail(1, agents=[f"x{n}" for n in range(40_000)] + ["b"])] == [2]


async def test_events_gives_everything_after_a_place_typed_and_in_chunks(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agenttop.core.journal import replay

    monkeypatch.setattr(replay, "CHUNK", 3)
    await journal.commit(*(ready(number) for number in range(1, 9)))
    chunks = [chunk async for chunk in journal.events(2)]
    assert [len(chunk) for chunk in chunks] == [3, 3]
    assert [event for chunk in chunks for _, event in chunk] == [ready(number) for number in range(3, 9)]


async def test_a_kind_this_version_does_not_know_is_kept_and_not_typed(journal: Journal) -> None:
    class FromTheFuture(Event):
        colour: str

    await journal.commit(FromTheFuture(colour="blue"))
    (record,) = await journal.read(0)
    assert record.body == b'{"agent":null,"colour":"blue"}'
    assert record.event() is None
    assert (await journal.verify()).ok


async def test_text_that_is_not_unicode_is_stored_readable_and_observed_as_stored(journal: Journal) -> None:
    seen: list[tuple[Record, Event]] = []
    journal.on_commit(seen.extend)
    broken = RunStarted(agent="a\udcff", run=1, ref={"path": "x\ud800", "\udc80": ["\udc80"]})
    (record,) = await journal.commit(broken)
    assert record.event() == RunStarted(agent="a?", run=1, ref={"path": "x?", "?": ["?"]})
    assert [event for _, event in seen] == [record.event()]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_a_number_that_json_cannot_hold_never_becomes_an_event(number: float) -> None:
    from agenttop.core.journal.events import CallSettled

    with pytest.raises(ValueError, match="finite"):
        CallSettled(agent="a", call="c", run=1, provider="p", cost_usd=number)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("body = CAST(replace(body, '4', '5') AS BLOB)", "hash"),
        ("ts = ts - 1", "hash"),
        ("body = CAST(body AS TEXT)", "kinds"),
        ("ts = 'noon'", "kinds"),
        ("agent = CAST(x'ff' AS TEXT)", "kinds"),
        ("hash = x''", "hash"),
    ],
)
async def test_verify_names_the_first_row_that_was_tampered_with(
    journal: Journal, change: str, why: str
) -> None:
    await journal.commit(*(ready(number) for number in range(10)))
    db = sqlite3.connect(journal.path)
    db.execute(f"UPDATE events SET {change} WHERE seq = 5")
    db.commit()
    db.close()
    result = await journal.verify()
    assert (result.ok, result.first_bad, result.events) == (False, 5, 4)
    assert why in result.why


async def test_verify_knows_from_a_checkpoint_that_the_end_was_cut_off(journal: Journal) -> None:
    await journal.commit(*(ready(number) for number in range(10)))
    await journal.save_checkpoint(10, b"state")
    db = sqlite3.connect(journal.path)
    db.execute("DELETE FROM events WHERE seq > 7")
    db.commit()
    db.close()
    result = await journal.verify()
    assert (result.first_bad, result.events) == (8, 7)


async def test_only_the_newest_checkpoints_are_kept_and_the_newest_is_loaded(journal: Journal) -> None:
    assert await journal.load_checkpoint() is None
    for number in range(1, 6):
        await journal.commit(ready(number))
        await journal.save_checkpoint(number, b"state %d" % number)
    assert await journal.load_checkpoint() == (5, b"state 5")
    db = sqlite3.connect(journal.path)
    assert db.execute("SELECT seq FROM checkpoints ORDER BY seq").fetchall() == [(3,), (4,), (5,)]
    db.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE checkpoints SET body = x'00' WHERE seq = 2",
        "UPDATE checkpoints SET hash = x'00' WHERE seq = 2",
        "DELETE FROM events WHERE seq = 2",
    ],
)
async def test_a_checkpoint_that_does_not_fit_is_passed_over(journal: Journal, damage: str) -> None:
    for number in (1, 2):
        await journal.commit(ready(number))
        await journal.save_checkpoint(number, b"state %d" % number)
    db = sqlite3.connect(journal.path)
    db.execute(damage)
    db.commit()
    db.close()
    assert await journal.load_checkpoint() == (1, b"state 1")


async def test_a_checkpoint_of_an_event_that_is_not_there_is_refused(journal: Journal) -> None:
    with pytest.raises(JournalUnavailable, match="no such event"):
        await journal.save_checkpoint(3, b"")
    await journal.commit(ready(1))


async def test_another_writer_on_the_same_file_makes_a_failure_and_recovery_follows_the_disk(
    journal: Journal,
) -> None:
    await journal.commit(ready(1))
    db = sqlite3.connect(journal.path)
    db.execute("INSERT INTO events VALUES (2, 1.0, 'Stranger', NULL, x'', x'00')")
    db.commit()
    first, second = journal.append(ready(2)), journal.append(ready(3))
    for ticket in (first, second):
        with pytest.raises(JournalUnavailable) as caught:
            await ticket
        assert "cannot be written" in caught.value.what
    assert journal.problem
    with pytest.raises(JournalUnavailable):
        journal.append(ready(4))
    with pytest.raises(JournalUnavailable):
        await journal.save_checkpoint(1, b"")
    db.execute("DELETE FROM events WHERE seq = 2")
    db.commit()
    db.close()
    folded: list[int] = []

    async def refold() -> None:
        folded.extend(record.seq for record in await journal.read(0))
        with pytest.raises(JournalUnavailable):
            journal.append(ready(5))

    assert await journal.recover(refold)
    assert folded == [1]
    assert journal.problem == ""
    assert (await journal.commit(ready(6)))[0].seq == 2
    assert (await journal.verify()).ok


async def test_an_observer_that_raises_stops_the_journal_and_loses_nothing(journal: Journal) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    error = ZeroDivisionError("lost count")

    def broken(group: list[tuple[Record, Event]]) -> None:
        raise error

    forget = journal.on_commit(broken)
    await journal.append(ready(1))
    assert told == [error]
    assert "lost count" in journal.problem
    with pytest.raises(JournalUnavailable):
        journal.append(ready(2))
    forget()
    assert await journal.recover()
    await journal.commit(ready(2))
    assert [row.event() for row in stored(journal.path)] == [ready(1), ready(2)]


async def test_recovering_a_healthy_journal_does_nothing(journal: Journal) -> None:
    ticket = journal.append(ready(1))
    assert await journal.recover()
    await ticket
    assert journal.last_seq == 1


async def test_appending_nothing_is_durable_at_once(journal: Journal) -> None:
    assert await journal.append() == []
    assert await journal.commit() == []


async def test_opening_a_journal_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    import threading

    path = tmp_path / "journal.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(JournalUnavailable, match="cannot be opened"):
        await Journal.open(path, SystemClock())
    assert [thread.name for thread in threading.enumerate() if thread.name == "journal-writer"] == []


@given(st.integers(1, 5_000))
@settings(max_examples=60)
def test_statements_insert_every_record_once_and_in_order(count: int) -> None:
    records = [Record(number, 0.0, "K", None, b"", b"") for number in range(count)]
    statements = list(_statements(records))
    values = [value for _, part in statements for value in part[::6]]
    assert values == list(range(count))
    assert all(sql.count("?") == len(part) for sql, part in statements)
    assert all(len(part) <= 6 * 1024 for _, part in statements)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=1, max_size=30), st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_grouping_the_disk_holds_what_was_appended(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    yields = data.draw(st.lists(st.booleans(), min_size=len(batches), max_size=len(batches)))

    async def scenario() -> None:
        seen: list[Event] = []
        async with await Journal.open(path, SystemClock()) as journal:
            journal.on_commit(lambda group: seen.extend(event for _, event in group))
            for batch, wait in zip(batches, yields, strict=True):
                ticket = journal.append(*(ready(number) for number in batch))
                if wait:
                    await ticket
            await ticket
            assert (await journal.verify()).ok
        expected = [ready(number) for batch in batches for number in batch]
        assert seen == expected
        assert [row.event() for row in stored(path)] == expected

    anyio.run(scenario)
