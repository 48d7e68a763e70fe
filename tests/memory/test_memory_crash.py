"""Kill -9 at any moment: what was acknowledged is there, what was forgotten is not, all indexes agree."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agenttop.core.clock import SystemClock
from agenttop.core.memory.memory import Memory
from agenttop.core.memory.model import Who
from agenttop.core.memory.names import access_by_teams

pytestmark = pytest.mark.anyio
CHILD = Path(__file__).with_name("crash_child.py")


def run_and_kill(path: Path, begin: int, lines: int, in_place: int) -> list[str]:
    """What the child acknowledged until it was killed, soon after so many lines."""
    child = subprocess.Popen(
        [sys.executable, str(CHILD), str(path), str(begin), str(in_place)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        said = [child.stdout.readline() for _ in range(lines)]
    finally:
        child.send_signal(signal.SIGKILL)
    said += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL, said
    return [line.strip() for line in said if line.endswith("\n")]


async def test_a_kill_loses_nothing_acknowledged_and_brings_back_nothing_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    chance = random.Random(5)
    kept: set[int] = set()
    gone: set[int] = set()
    for life in range(10):
        in_place = life % 2 << 40  # by turns where it lies and as a copy
        for line in run_and_kill(path, life * 1000, chance.randint(1, 40), in_place):
            word, counted = line.split()
            (kept if word == "kept" else gone).add(int(counted))
    person = Who(None)
    async with Memory(path, SystemClock(), access_by_teams(lambda _: [])) as memory:
        on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        for number in sorted(kept):
            found = (await memory.recall(person, f"said{number}")).entries
            if number % 7:
                assert [entry.text for entry in found] == [f"said{number} word"]
            if number in gone:
                assert found == []
                assert b"said%d word" % number not in on_disk
        blocks = "\n".join(block.text for block in await memory.blocks(person, "a1"))
        for number in kept:
            assert f"block{number}" in blocks or (await memory.recall(person, f"block{number}")).entries
    assert gone
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.execute("INSERT INTO entry_text (entry_text) VALUES ('integrity-check')")
        db.execute("INSERT INTO note_text (note_text) VALUES ('integrity-check')")
    db.close()
