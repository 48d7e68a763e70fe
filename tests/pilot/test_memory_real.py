"""On a real kernel: a block overflows, the pane shows what moved where, search finds it, forget ends it."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from agenttop.core import config
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import RunRequest
from agenttop.core.api import memory as api
from agenttop.core.client import KernelClient
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths
from agenttop.tui.app import AgentTopApp
from agenttop.tui.screens.memory import MemoryScreen

from .stage import TERMINAL, shows, text, typed, until

pytestmark = pytest.mark.anyio

LONG = "\n".join(f"line {number}: handler {number} of the orders endpoint" for number in range(60))


async def test_a_block_overflows_and_what_moved_is_found_and_forgotten(home: Path) -> None:
    paths = Paths.from_environ()
    kernel = Kernel(paths, config.load(paths), environ={})
    async with kernel.running():
        client = kernel.client("ana")

        async def connect() -> KernelClient:
            return client

        try:
            spec = AgentSpec(name="worker", command=["/bin/sh", "-c", "exit 0"], cwd="/tmp")
            made = await client.run(RunRequest(spec=spec, environ={"PATH": "/usr/bin:/bin"}))
            await client.wait([made.id])
            app = AgentTopApp(connect, environ=TERMINAL, terminal=False)
            async with app.run_test(size=(120, 34)) as pilot:
                await until(pilot, lambda: app.model.known, 30)
                app.model.cursor = made.id
                await pilot.press("4")
                await until(pilot, lambda: "no block: n makes one" in text(app), 30)
                await pilot.press("n", "tab", *typed("plan"), "tab", *typed("120"), "enter")
                await shows(pilot, "Block plan of worker", "of 120 tokens")
                await pilot.press(*typed("zanzibar"), "enter")
                app.screen.query_one("MemoryText").insert(LONG)  # type: ignore[attr-defined]
                await shows(pilot, "its first lines go to recall")
                await pilot.press("ctrl+s")
                await until(pilot, lambda: isinstance(app.screen, MemoryScreen), 30)
                await until(pilot, lambda: "plan went over its 120 tokens" in text(app), 30)
                shown = text(app)
                (moved,) = [line for line in shown.splitlines() if "plan went over" in line]
                assert moved.split()[1:4] == ["working", "→", "recall"]
                assert "plan ← working" in shown
                await pilot.press("escape", "slash", *typed("zanzibar"), "enter")
                await until(pilot, lambda: "1 hit" in text(app), 30)
                await pilot.press("x", "right")
                await until(pilot, lambda: "would be gone  1 entry of recall" in text(app), 30)
                await pilot.press("enter")
                await until(pilot, lambda: "nothing of it is found any more" in text(app), 60)
                await pilot.press("enter")
                await until(pilot, lambda: "found nowhere" in text(app), 30)
            left = await client.call(api.SEARCH, api.SearchRequest(agent="worker", query="zanzibar"))
            assert left.hits == []
            assert b"zanzibar" not in b"".join(
                path.read_bytes() for path in paths.memory.parent.glob("memory.db*")
            )
        finally:
            with anyio.CancelScope(shield=True):
                await kernel.doors.dismiss()
