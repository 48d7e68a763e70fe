from __future__ import annotations

import pytest

from agenttop.core.api import HaltInfo, Outcome
from agenttop.core.errors import Conflict
from agenttop.tui.screens.halt import HaltScreen

from .stage import StageClient, shows, stage, text, typed, until

pytestmark = pytest.mark.anyio


async def test_it_asks_once_and_does_nothing_before_enter() -> None:
    client = StageClient()
    async with stage(client, press=("ctrl+f",)) as (app, pilot):
        await shows(
            pilot, "Kill switch", "nothing has been done yet", "freeze 11 agents", "2 observed agents"
        )
        await pilot.press("ctrl+f", "space", "y")
        await pilot.pause()
        assert isinstance(app.screen, HaltScreen)
        await pilot.press("escape")
    assert client.calls == []


async def test_it_says_how_long_it_took_and_what_was_frozen_and_the_same_key_undoes_it() -> None:
    client = StageClient()
    async with stage(client, press=("ctrl+f",)) as (app, pilot):
        await shows(pilot, "Kill switch")
        await pilot.press("enter")
        await shows(
            pilot, "Halted", "3 ms  no call leaves any more", "41 ms  11 agents frozen", "4 calls held"
        )
        await pilot.press("escape")
        await shows(pilot, "HALTED", "The kill switch is on", "^F lets all go on")
        await pilot.press("ctrl+f")
        await shows(pilot, "Undo the kill switch", "what was paused before stays paused")
        await pilot.press("enter")
        await shows(pilot, "17 ms  11 agents running again")
        await pilot.press("escape")
        await until(pilot, lambda: "HALTED" not in text(app))
    assert [verb for verb, _ in client.calls] == ["halt", "unhalt"]


async def test_who_was_not_reached_stands_above_in_red() -> None:
    class Partly(StageClient):
        async def halt(self) -> HaltInfo:
            info = await super().halt()
            error = Conflict("It did not freeze", "2 of 9 processes run on", "Try again")
            info.frozen[1] = Outcome(ref="b20c", name="api", error=error.to_dict(), exit_code=1)
            return info

    async with stage(Partly(), press=("ctrl+f", "enter")) as (app, pilot):
        shown = await shows(pilot, "Not all is halted", "api: It did not freeze. 2 of 9 processes run on.")
        assert shown.index("did not freeze") < shown.index("10 agents frozen")
        assert app.screen.has_class("-bad")


async def test_a_refusal_is_told() -> None:
    class Refusing(StageClient):
        async def halt(self) -> HaltInfo:
            raise Conflict("Nothing was halted", "the journal cannot be written", "Free some space")

    async with stage(Refusing(), press=("ctrl+f", "enter")) as (app, pilot):
        await until(pilot, lambda: bool(app.toasts))
        assert app.toasts[0].title == "Nothing was halted"
        assert app.toasts[0].level == "error"


@pytest.mark.parametrize("pane", [(), ("5",), ("6",), ("enter",)])
async def test_it_is_one_key_away_in_every_pane_and_is_seen_there(pane: tuple[str, ...]) -> None:
    client = StageClient()
    async with stage(client, press=(*pane, "ctrl+f")) as (_, pilot):
        await shows(pilot, "Kill switch")
        await pilot.press("enter")
        await shows(pilot, "11 agents frozen")
        await pilot.press("escape")
        await shows(pilot, "HALTED")


async def test_commands_open_the_same_question() -> None:
    client = StageClient()
    async with stage(client, press=("colon", *typed("halt"), "enter")) as (app, pilot):
        await shows(pilot, "Kill switch")
        await pilot.press("escape", "colon", *typed("unhalt"), "enter")
        await until(pilot, lambda: any("kill switch is off" in toast.text.lower() for toast in app.toasts))
    assert client.calls == []


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (30, 5)])
async def test_halted_is_said_without_colour_at_any_size(size: tuple[int, int]) -> None:
    client = StageClient()
    client.sums = client.sums._replace(halted=True)
    async with stage(client, size, theme="mono", ascii=True) as (app, pilot):
        assert "HALTED" in await shows(pilot, "HALTED")
        assert text(app).isascii()
        await pilot.press("ctrl+f")
        await until(pilot, lambda: isinstance(app.screen, HaltScreen) and app.screen.undo)
