"""Ten thousand agents in the journal: a kernel folds them, holds them and lists them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.clock import SystemClock
from agenttop.core.journal.events import AgentCreated, RunExited, RunStarted, RunStarting
from agenttop.core.journal.journal import Journal
from agenttop.core.paths import Paths

from .conftest import Shell

pytestmark = pytest.mark.anyio

AGENTS = 10_000


async def write(paths: Paths, count: int) -> None:
    """What the journal holds when so many agents have run and ended."""
    paths.make_state()
    async with await Journal.open(paths.journal, SystemClock()) as journal:
        for number in range(count):
            agent = f"{number:06x}"
            spec = AgentSpec(
                name=f"agent-{number}", command=["python3", "-m", "work", str(number)], labels={"team": "api"}
            )
            await journal.room()
            ticket = journal.append(
                AgentCreated(agent=agent, spec=spec, owner="ana"),
                RunStarting(agent=agent, run=1, by="ana"),
                RunStarted(agent=agent, run=1, ref={"marker": f"{agent}.1", "pid": 1, "start_time": 1}),
                RunExited(agent=agent, run=1, code=0, cause="exit", failed=False, seconds=1.0),
            )
        await ticket


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_ten_thousand_agents_in_ps(sh: Shell, tmp_path: Path) -> None:
    empty = Shell(tmp_path / "empty")
    try:
        empty.ok("ps", "--all")
        bare = resident(empty.kernel)
    finally:
        empty.leave()
    await write(sh.paths, AGENTS)
    began = time.monotonic()
    assert sh.ok("ps", "--json").strip() == "[]"
    start = time.monotonic() - began
    began = time.monotonic()
    listed = json.loads(sh.ok("ps", "--all", "--json"))
    listing = time.monotonic() - began
    assert len(listed) == AGENTS
    each = (resident(sh.kernel) - bare) / AGENTS
    print(f"start {start:.1f} s, ps --all {listing:.1f} s, {each / 1000:.1f} kB an agent")
    assert each <= 40_000
    assert start < 20
    assert listing < 10
    assert sh.ok("ps", "--all").count("\n") == AGENTS + 1
