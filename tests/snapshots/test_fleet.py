"""A few pictures of the screen; redraw them with ``pytest tests/snapshots --snapshot-update``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual.pilot import Pilot

from agenttop.core.client import KernelClient
from agenttop.core.clock import ManualClock
from agenttop.tui.app import AgentTopApp

from ..support.sample import NOW, SampleClient

pytestmark = pytest.mark.usefixtures("anywhere")


def screen(theme: str = "htop", *, client: SampleClient | None = None, ascii: bool = False) -> AgentTopApp:
    one = client or SampleClient()

    async def connect() -> KernelClient:
        return one

    environ = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
    if theme == "mono":
        environ["NO_COLOR"] = "1"
    return AgentTopApp(connect, theme=theme, ascii=ascii, clock=ManualClock(NOW), environ=environ)


async def settled(pilot: Pilot[Any]) -> None:
    """The snapshot is there, and everything it brought up has been painted."""
    deadline = asyncio.get_running_loop().time() + 10
    app: Any = pilot.app
    while not app.model.known or any(
        worker.group in ("events", "empty") and not worker.is_finished for worker in app.workers
    ):
        assert asyncio.get_running_loop().time() < deadline
        await pilot.pause(0.02)
    await pilot.pause()


@pytest.mark.parametrize(
    ("theme", "size"),
    [("htop", (80, 24)), ("htop", (120, 34)), ("dusk", (160, 40)), ("paper", (120, 34)), ("ansi", (80, 24)),
     ("mono", (80, 24)), ("htop", (40, 10))],
)  # fmt: skip
def test_fleet(snap_compare: Any, theme: str, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await pilot.press("down", "space", "up")
        await pilot.pause()

    assert snap_compare(screen(theme, ascii=theme == "mono"), terminal_size=size, run_before=before)


def test_empty(snap_compare: Any) -> None:
    assert snap_compare(screen(client=SampleClient(())), terminal_size=(80, 24), run_before=settled)
