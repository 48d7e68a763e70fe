"""Pictures of the bus; redraw them with ``pytest tests/snapshots --snapshot-update``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from agenttop.core.clock import ManualClock
from agenttop.tui.app import AgentTopApp

from ..pilot.stage import TERMINAL, StageClient, shows
from ..support.sample import NOW
from .conftest import StillClient

pytestmark = pytest.mark.usefixtures("anywhere")

Compare = Callable[..., bool]


def app(theme: str, ascii: bool) -> AgentTopApp:
    async def connect() -> StageClient:
        return StillClient()

    environ = {**TERMINAL, "NO_COLOR": "1"} if theme == "mono" else TERMINAL
    chosen = None if theme == "mono" else theme
    return AgentTopApp(connect, theme=chosen, ascii=ascii, clock=ManualClock(NOW), environ=environ)


DOWN = ("down",) * 4
TALK = ("Conversation 9120", "4 messages")
#: Size, theme, ASCII, keys, what must be on screen.
PANES: dict[str, tuple[tuple[int, int], str, bool, tuple[str, ...], tuple[str, ...]]] = {
    "bus": ((120, 34), "htop", False, DOWN, TALK),
    "bus-small": ((80, 24), "htop", False, DOWN, ("price list",)),
    "bus-talk-ansi": ((80, 24), "ansi", False, (*DOWN, "tab"), TALK),
    "bus-large": ((200, 50), "dusk", False, DOWN, (*TALK, "Who talks to whom")),
    "bus-mono-ascii": ((120, 34), "mono", True, DOWN, TALK),
    "bus-small-mono-ascii": ((80, 24), "mono", True, (*DOWN, "tab"), TALK),
    "bus-dead": ((120, 34), "paper", False, ("d",), ("3 dead letters",)),
    "bus-send": ((120, 34), "htop", False, ("m",), ("New message",)),
}


@pytest.mark.parametrize("name", PANES)
def test_pane(name: str, snap_compare: Compare) -> None:
    size, theme, ascii, press, ready = PANES[name]

    async def before(pilot: Pilot[int]) -> None:
        await shows(pilot, "lead")
        await pilot.press("3")
        await shows(pilot, "price list")
        for key in press:
            await pilot.press(key)
        await shows(pilot, *ready)

    assert snap_compare(app(theme, ascii), terminal_size=size, run_before=before)
