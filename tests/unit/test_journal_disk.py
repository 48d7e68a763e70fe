"""The journal on disks that fill up and in processes that are killed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agenttop.core.clock import SystemClock
from agenttop.core.errors import JournalUnavailable
from agenttop.core.journal.events import RunStarted
from agenttop.core.journal.journal import Journal

from ..support.disks import fill

pytestmark = pytest.mark.anyio


#: Commits until it is killed, and says each acknowledged seq when it is.
WRITER = """
import sys, anyio
from pathlib import Path
from agenttop.core.clock import SystemClock
from agenttop.core.journal.events import RunStarted
from agenttop.core.journal.journal import Journal

async def worker(journal, name):
    number = 0
    while True:
        number += 1
        pad = "x" * (number % 700)
        (record,) = await journal.commit(RunStarted(agent=name, run=number, ref={"pad": pad}))
        sys.stdout.write(f"{record.seq}\\n")
        sys.stdout.flush()

async def main():
    journal = await Journal.open(Path(sys.argv[1]), SystemClock())
    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(worker, journal, f"w{number}")
        while True:
            await anyio.lowlevel.checkpoint()
            if journal.last_seq % 100 < 8:
                if journal.last_seq:
                    await journal.save_checkpoint(journal.last_seq, b"state")

anyio.run(main)
"""

#: Fills up to a file size limit, is refused, gets the limit lifted and goes on. Prints what was acknowledged.
LIMITED = """
import resource, sys, anyio
from pathlib import Path
from agenttop.core.clock import SystemClock
from agenttop.core.errors import JournalUnavailable
from agenttop.core.journal.events import RunStarted
from agenttop.core.journal.journal import Journal

async def main():
    acked = []
    journal = await Journal.open(Path(sys.argv[1]), SystemClock())
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, most))
    try:
        while True:
            (record,) = await journal.commit(RunStarted(agent="a", run=1, ref={"pad": "x" * 5000}))
            acked.append(record.seq)
    except JournalUnavailable as error:
        assert error.what and error.why and error.hint, error
    assert journal.problem
    assert not await journal.recover()
    assert journal.problem
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert await journal.recover(), journal.problem
    (record,) = await journal.commit(RunStarted(agent="a", run=2, ref={}))
    acked.append(record.seq)
    result = await journal.verify()
    assert result.ok, result
    await journal.close()
    print(acked)

anyio.run(main)
"""


def rows(path: Path) -> list[int]:
    db = sqlite3.connect(path)
    try:
        return [seq for (seq,) in db.execute("SELECT seq FROM events ORDER BY seq")]
    finally:
        db.close()


async def test_a_full_disk_refuses_says_so_and_recovers_without_losing_what_was_acknowledged(
    small_disk: Path,
) -> None:
    path = small_disk / "journal.db"
    acknowledged = []
    async with await Journal.open(path, SystemClock()) as journal:
        event = RunStarted(agent="a", run=1, ref={"pad": "x" * 5_000})
        acknowledged += [record.seq for record in await journal.commit(event)]
        filler = fill(small_disk)

        async def write_on() -> None:
            for _ in range(1_000):
                acknowledged.extend(record.seq for record in await journal.commit(event))

        with pytest.raises(JournalUnavailable) as caught:
            await write_on()
        assert caught.value.why == "The disk is full"
        assert "Free some space" in caught.value.hint
        assert "disk is full" in journal.problem
        with pytest.raises(JournalUnavailable, match="disk is full"):
            journal.append(event)
        assert not await journal.recover()
        assert "disk is full" in journal.problem
        assert [record.seq for record in await journal.read(0)][: len(acknowledged)] == acknowledged
        filler.unlink()
        assert await journal.recover()
        assert journal.problem == ""
        acknowledged += [record.seq for record in await journal.commit(event)]
        assert (await journal.verify()).ok
        assert set(acknowledged) <= set(rows(path))


async def test_every_ticket_behind_a_failed_commit_fails_too(small_disk: Path) -> None:
    async with await Journal.open(small_disk / "journal.db", SystemClock()) as journal:
        filler = fill(small_disk)
        event = RunStarted(agent="a", run=1, ref={"pad": "x" * 5_000})
        tickets = [journal.append(event) for _ in range(400)]
        failed = 0
        for ticket in tickets:
            try:
                await ticket
            except JournalUnavailable:
                failed += 1
            else:
                assert failed == 0, "a ticket was acknowledged behind one that was not"
        assert failed > 0
        filler.unlink()
        assert await journal.recover()
        (record,) = await journal.commit(event)
        assert record.seq == len(tickets) - failed + 1
        assert (await journal.verify()).ok


async def test_opening_on_a_full_disk_says_so(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(JournalUnavailable) as caught:
        await Journal.open(small_disk / "journal.db", SystemClock())
    assert caught.value.why == "The disk is full"


def test_a_file_size_limit_is_survived_in_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    acknowledged = [int(seq) for seq in done.stdout.strip("[]\n").split(",")]
    assert len(acknowledged) > 5
    assert set(acknowledged) <= set(rows(path))


async def test_killed_at_any_moment_every_acknowledged_event_is_there_and_the_chain_verifies(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    luck = random.Random(20261121)
    last = 0
    for _ in range(6):
        acknowledged = killed_after(path, luck.randrange(1, 1_500))
        async with await Journal.open(path, SystemClock()) as journal:
            result = await journal.verify()
            assert result.ok, result
            assert journal.last_seq >= acknowledged[-1] > last
            assert set(acknowledged) <= set(rows(path))
            saved = await journal.load_checkpoint()
            assert saved is None or saved.seq <= journal.last_seq
            last = journal.last_seq


def killed_after(path: Path, lines: int) -> list[int]:
    """Run a writer, kill -9 it after ``lines`` acknowledgements; returns all it acknowledged."""
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        try:
            acknowledged = [int(writer.stdout.readline()) for _ in range(lines)]
        finally:
            writer.kill()
        rest = writer.stdout.read()
    acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    return sorted(acknowledged)
