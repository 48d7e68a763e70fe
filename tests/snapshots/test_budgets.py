"""Pictures of what is about money; redraw them with ``pytest tests/snapshots --snapshot-update``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from agenttop.core.clock import ManualClock
from agenttop.tui.app import AgentTopApp

from ..pilot.stage import TERMINAL, StageClient, shows
from ..support.sample import NOW
from ..support.sample_budgets import runaway
from .conftest import StillClient

pytestmark = pytest.mark.usefixtures("anywhere")

Compare = Callable[..., bool]


def app(theme: str, ascii: bool, *, two: bool = False, halted: bool = False) -> AgentTopApp:
    async def connect() -> StageClient:
        client = StillClient()
        if two:
            client.approval_list.append(runaway())
        if halted:
            client.sums = client.sums._replace(halted=True)
        return client

    environ = {**TERMINAL, "NO_COLOR": "1"} if theme == "mono" else TERMINAL
    chosen = None if theme == "mono" else theme
    return AgentTopApp(connect, theme=chosen, ascii=ascii, clock=ManualClock(NOW), environ=environ)


#: Size, theme, ASCII, keys, what must be on screen.
PANES: dict[str, tuple[tuple[int, int], str, bool, tuple[str, ...], tuple[str, ...]]] = {
    "budgets": ((120, 34), "htop", False, ("5",), ("empty at 15:45", "limited by nobody", "16:00")),
    "budgets-paper": ((120, 34), "paper", False, ("5",), ("empty at 15:45", "limited by nobody", "16:00")),
    "budgets-large": ((200, 50), "dusk", False, ("5",), ("empty at 15:45", "again in 21s", "20:00")),
    "budgets-ansi": ((80, 24), "ansi", False, ("5",), ("migrate", "embed")),
    "budgets-mono-ascii": ((80, 24), "mono", True, ("5",), ("migrate", "embed")),
    "providers": ((120, 34), "htop", False, ("5", "tab"), ("again in 21s", "no limit known")),
}


@pytest.mark.parametrize("name", PANES)
def test_pane(name: str, snap_compare: Compare) -> None:
    size, theme, ascii, press, ready = PANES[name]

    async def before(pilot: Pilot[int]) -> None:
        await shows(pilot, "lead")
        await pilot.press(*press)
        await shows(pilot, *ready)

    assert snap_compare(app(theme, ascii), terminal_size=size, run_before=before)


DIALOGS: dict[str, tuple[tuple[int, int], str, bool, tuple[str, ...], tuple[str, ...]]] = {
    "approval": ((120, 34), "htop", False, ("A",), ("likely",)),
    "approval-ansi": ((120, 34), "ansi", False, ("A",), ("likely",)),
    "approval-mono-ascii": ((80, 24), "mono", True, ("A",), ("likely",)),
    "halt": ((120, 34), "htop", False, ("ctrl+f",), ("nothing has been done yet",)),
    "budget-form": ((120, 34), "dusk", False, ("5", "down", "e"), ("Spent 16.85", "6 live agents")),
    "extend": ((80, 24), "paper", False, ("5", "plus"), ("Extend by 10.00",)),
}


@pytest.mark.parametrize("name", DIALOGS)
def test_dialog(name: str, snap_compare: Compare) -> None:
    size, theme, ascii, press, ready = DIALOGS[name]

    async def before(pilot: Pilot[int]) -> None:
        await shows(pilot, "lead", *(["archival +12"] if size == (120, 34) else []))
        for key in press:
            await pilot.press(key)
            if key == "5":
                await shows(pilot, "empty at 15:45" if size[0] >= 100 else "embed")
        await shows(pilot, *ready)

    assert snap_compare(app(theme, ascii, two="approval" in name), terminal_size=size, run_before=before)


def test_halted(snap_compare: Compare) -> None:
    async def before(pilot: Pilot[int]) -> None:
        await shows(pilot, "HALTED", "The kill switch is on", "lead", "archival +12")

    assert snap_compare(app("htop", False, halted=True), terminal_size=(120, 34), run_before=before)
