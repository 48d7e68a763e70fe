"""Pictures of the Memory pane; redraw them with ``pytest tests/snapshots --snapshot-update``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from agenttop.core.clock import ManualClock
from agenttop.tui.app import AgentTopApp

from ..pilot.stage import TERMINAL, shows
from ..support.sample import NOW
from ..support.sample_memory import MemoryClient

pytestmark = pytest.mark.usefixtures("anywhere")

Compare = Callable[..., bool]


class StillMemory(MemoryClient):
    """A table that does not change beneath the pane."""

    def push(self, *rows: object, **given: object) -> None:
        """Tell nobody."""


def app(theme: str, ascii: bool) -> AgentTopApp:
    async def connect() -> StillMemory:
        return StillMemory()

    environ = {**TERMINAL, "NO_COLOR": "1"} if theme == "mono" else TERMINAL
    chosen = None if theme == "mono" else theme
    return AgentTopApp(connect, theme=chosen, ascii=ascii, clock=ManualClock(NOW), environ=environ)


#: Size, theme, ASCII, keys, what must be on screen.
PANES: dict[str, tuple[tuple[int, int], str, bool, tuple[str, ...], tuple[str, ...]]] = {
    "memory": ((120, 34), "htop", False, ("slash", *"expiry"), ("4 hits, 3 ms", "955 more")),
    "memory-ansi": ((120, 34), "ansi", False, (), ("955 more",)),
    "memory-large": ((200, 50), "dusk", False, (), ("955 more",)),
    "memory-mono-ascii": ((80, 24), "mono", True, (), ("3.2k free",)),
    "forget": ((120, 34), "paper", False, ("x",), ("would be gone  1 block",)),
}


@pytest.mark.parametrize("name", PANES)
def test_pane(name: str, snap_compare: Compare) -> None:
    size, theme, ascii, press, ready = PANES[name]

    async def before(pilot: Pilot[int]) -> None:
        await shows(pilot, "lead")
        await pilot.press("down", "4")
        await shows(pilot, "4.8k/8.0k")
        await pilot.press(*press)
        await shows(pilot, *ready)

    assert snap_compare(app(theme, ascii), terminal_size=size, run_before=before)
