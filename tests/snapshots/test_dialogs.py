"""Pictures of the dialogs: ``pytest --snapshot-update`` draws them anew when a change is meant."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from agenttop.core.clock import ManualClock
from agenttop.tui.app import AgentTopApp

from ..pilot.stage import TERMINAL, StageClient, shows
from ..support.sample import NOW, OUTPUT
from .conftest import StillClient

pytestmark = pytest.mark.usefixtures("anywhere")

Compare = Callable[..., bool]


def app(*, theme: str | None = None, ascii: bool = False) -> AgentTopApp:
    async def connect() -> StageClient:
        client = StillClient()
        client.out = OUTPUT.encode()
        client.err = b"warning: two keys have no expiry\n"
        return client

    environ = {**TERMINAL, "NO_COLOR": "1"} if theme == "mono" else TERMINAL
    chosen = None if theme == "mono" else theme
    return AgentTopApp(connect, theme=chosen, ascii=ascii, clock=ManualClock(NOW), environ=environ)


CASES = {
    "kill": ((120, 34), "htop", False, ("down", "f9"), "Kill 2 agents"),
    "kill-mono-ascii": ((80, 24), "mono", True, ("down", "f9"), "Kill 2 agents"),
    "proof": ((120, 34), "htop", False, ("down", "f9", "enter"), "Start again"),
    "details": ((140, 44), "htop", False, ("down", "enter"), "COMMAND"),
    "details-dusk": ((140, 44), "dusk", False, ("down", "enter"), "COMMAND"),
    "details-small": ((80, 24), "paper", False, ("down", "enter"), "two keys"),
    "help": ((120, 34), "htop", False, ("f1",), "How to read"),
    "launch": ((120, 34), "htop", False, ("n", "tab", "g", "o"), "--prompt go"),
    "palette": ((120, 34), "htop", False, ("colon", "p", "a", "u"), "pause"),
    "setup": ((120, 34), "paper", False, ("f2", "tab"), "Columns"),
}


@pytest.mark.parametrize("name", CASES)
def test_picture(name: str, snap_compare: Compare) -> None:
    size, theme, ascii, press, ready = CASES[name]

    async def before(pilot: Pilot[int]) -> None:
        await shows(pilot, "lead", *(["archival +12"] if size == (120, 34) else []))
        for key in press:
            await pilot.press(key)
            if key in ("f9", "n"):
                await shows(pilot, "agents" if key == "f9" else "2.1.329" if size[1] > 24 else "Task")
        await shows(pilot, ready)

    assert snap_compare(app(theme=theme, ascii=ascii), terminal_size=size, run_before=before)
