"""Kill -9 of the kernel at random moments during verbs; afterwards the books and the processes agree."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import anyio
import pytest

from agenttop.core.clock import SystemClock
from agenttop.core.connect import start_kernel
from agenttop.core.journal.books import Books
from agenttop.core.journal.events import RunStarted, RunStarting
from agenttop.core.journal.journal import Journal

from ..conftest import THOROUGH
from .conftest import COMMAND, Shell, marked, until

pytestmark = pytest.mark.timeout(240)

ROUNDS = 20 if THOROUGH else 8


def verbs(file: Path, names: list[str], choice: random.Random) -> list[str]:
    name = choice.choice(names)
    return choice.choice(
        [
            ["run", "--", "sleep", "600"],
            ["up", "-f", str(file)],
            ["kill", name],
            ["pause", name],
            ["resume", name],
            ["restart", name],
        ]
    )


def test_a_kernel_killed_at_random_moments_leaves_nothing_doubled_and_nothing_unknown(
    sh: Shell, tmp_path: Path
) -> None:
    choice = random.Random(20_261_121)
    file = tmp_path / "fleet.toml"
    names = ["a-1", "a-2", "a-3", "a-4", "a-5"]
    file.write_text('[agents.a]\ncount = 5\ncommand = ["sh", "-c", "sleep 600 & wait"]\ncwd = "/tmp"\n')
    sh.ok("up", "-f", str(file))
    for _ in range(ROUNDS):
        running = subprocess.Popen(
            [*COMMAND, *verbs(file, names, choice)],
            env=sh.environ, cwd="/tmp", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(choice.uniform(0.2, 0.7))
        with contextlib.suppress(AssertionError, ProcessLookupError):
            sh.kill_kernel()
        running.wait(30)
        start_kernel(sh.paths)
    settle(sh)
    known = [pid for agent in sh.ps("--all") for pid in agent["pids"]]
    assert len(known) == len(set(known))
    assert set(marked(sh.home)) <= set(known)
    live = {f"{a['id']}.{a['run']}" for a in sh.ps()}
    assert {run for pid in marked(sh.home) if (run := marker(pid))} == live
    sh.ok("kill", "--all", "--yes")
    assert not marked(sh.home)
    sh.ok("kernel", "stop")
    anyio.run(check, sh)


def marker(pid: int) -> str:
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"AGENTTOP_RUN="):
                return entry.rpartition(b"/")[2].decode()
    return ""


def settle(sh: Shell) -> None:
    """Wait until the last kernel has finished what the ones before it had begun."""

    def settled() -> bool:
        agents = sh.agents().values()
        return all(a["pid"] or a["state"] in ("terminated", "error") for a in agents) and not any(
            row for row in unfinished(sh)
        )

    until(settled, "the end of all that was begun")


def unfinished(sh: Shell) -> list[str]:
    stopping = Counter(row["agent"] for row in sh.happened("StopRequested"))
    live = {agent["id"] for agent in sh.agents().values() if agent["pid"]}
    last = {row["agent"]: row["kind"] for row in sh.happened("StopRequested", "RunExited", "RunStarted")}
    return [agent for agent in stopping if agent in live and last[agent] == "StopRequested"]


async def check(sh: Shell) -> None:
    async with await Journal.open(sh.paths.journal, SystemClock()) as journal:
        assert (await journal.verify()).ok
        records = await journal.read(0, limit=10_000_000)
        books = Books(journal)
        await books.open()
    events = [record.event() for record in records]
    for kind in (RunStarting, RunStarted):
        runs = Counter((event.agent, event.run) for event in events if isinstance(event, kind))
        assert set(runs.values()) == {1}, json.dumps({str(k): v for k, v in runs.items() if v > 1})
    assert all(agent.over for agent in books.committed.agents.values())
    assert len({agent.name for agent in books.committed.agents.values()}) == len(books.committed.agents)
