from __future__ import annotations

import pytest

from agenttop.tui.screens.unreachable import UnreachableScreen

from .stage import StageClient, shows, stage, text, until

pytestmark = pytest.mark.anyio


async def test_it_says_what_why_and_next_and_the_table_stays_readable() -> None:
    client = StageClient()
    async with stage(client) as (_, pilot):
        client.fail()
        shown = await shows(pilot, "Kernel unreachable", "kernel process 4410 is gone", "The agents run on")
        for part in ("Why", "Next", "snapshot of", "48,212)", "adopts 11 live runs", "Try now"):
            assert part in shown, part


async def test_it_closes_by_itself_when_the_kernel_is_back() -> None:
    client = StageClient()
    async with stage(client) as (app, pilot):
        client.fail()
        await shows(pilot, "Kernel unreachable")
        client.dead = False
        await pilot.press("r")
        await until(pilot, lambda: not isinstance(app.screen, UnreachableScreen))
        assert not app.lost


async def test_escape_leaves_a_screen_to_look_around_in_that_does_nothing() -> None:
    client = StageClient()
    async with stage(client) as (app, pilot):
        client.fail()
        await shows(pilot, "Kernel unreachable")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, UnreachableScreen))
        await pilot.press("down", "p", "f9")
        await until(pilot, lambda: bool(app.toasts))
        assert app.toasts[0].title == "No kernel answers"
    assert client.calls == []


@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
async def test_it_works_on_a_small_terminal(size: tuple[int, int]) -> None:
    client = StageClient()
    async with stage(client, size, theme="mono", ascii=True) as (app, pilot):
        client.fail()
        await shows(pilot, "Kernel unreachable")
        assert text(app).isascii()
