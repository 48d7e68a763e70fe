"""The screen over a real kernel that sees an agent which somebody else started."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from agenttop.core import config
from agenttop.core.client import KernelClient
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths
from agenttop.tui.app import AgentTopApp

from ..support.clis import Clis, line, now, reply, say, states
from .stage import TERMINAL, text, typed, until

pytestmark = pytest.mark.anyio

PATIENCE = 60.0


async def test_a_person_finds_freezes_looks_at_and_resumes_an_agent_of_somebody_else(
    home: Path, tmp_path: Path
) -> None:
    clis = Clis(tmp_path / "person")
    paths = Paths.from_environ()
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text("[observe]\nenabled = true\n")
    kernel = Kernel(paths, config.load(paths), environ={})
    try:
        pid = clis.start("claude", "sleep 600 & READY; read line", "shop")
        say(clis.session(pid, "s1", "shop"), line("user", "fix the cart", now()), reply(1, now()))
        async with kernel.running():
            await _play(kernel.client("ana"), pid)
            await kernel.doors.dismiss()
    finally:
        clis.close()


async def _play(client: KernelClient, pid: int) -> None:
    async def connect() -> KernelClient:
        return client

    name = f"claude@{pid}"
    app = AgentTopApp(connect, environ=TERMINAL)
    async with app.run_test(size=(120, 34)) as pilot:
        await until(pilot, lambda: name in {row.name for row in app.model.rows.values()}, PATIENCE)
        await pilot.press("backslash")  # other tests have agents on this machine, too
        await pilot.press(*typed(str(pid)))
        await pilot.press("enter")
        await see(pilot, name, "~/shop  fix the cart", "opus-4.5", "obs")
        tree = next(info for info in await client.agents() if info.pid == pid).pids
        assert len(tree) == 2
        await pilot.press("p")
        await see(pilot, "frozen 2/2")
        assert states(*tree) == "TT"
        await pilot.press("enter")
        await see(pilot, "observed: not started by agenttop", "Claude Code", "s1.jsonl", "fix the cart")
        await pilot.press("escape")
        await pilot.press("f9")
        await see(pilot, "nothing has been sent yet", "observed: its calls", "it is")
        await pilot.press("escape")
        await until(pilot, lambda: "nothing has been sent yet" not in text(app), PATIENCE)
        await pilot.press("p")
        await until(pilot, lambda: "T" not in states(*tree), PATIENCE)
        await until(pilot, lambda: not app.model.rows[_id(app, name)].pause, PATIENCE)


async def see(pilot: Pilot[int], *what: str) -> None:
    """Wait until all of these are on screen."""
    await until(pilot, lambda: all(part in text(pilot.app) for part in what), PATIENCE)


def _id(app: AgentTopApp, name: str) -> str:
    return next(row.id for row in app.model.rows.values() if row.name == name)
