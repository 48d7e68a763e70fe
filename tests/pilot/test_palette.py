from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.paths import Paths
from agenttop.tui import settings as saved
from agenttop.tui.screens.details import DetailsScreen
from agenttop.tui.screens.help import HelpScreen
from agenttop.tui.screens.kill import KillScreen
from agenttop.tui.screens.palette import PaletteScreen, marked, score

from .stage import StageClient, shows, stage, text, typed, until

pytestmark = pytest.mark.anyio


@given(st.text(max_size=12), st.text(max_size=30))
def test_marking_keeps_the_text(needle: str, words: str) -> None:
    assert "".join(piece for piece, _ in marked(words, needle, "fg")) == words


def test_the_beginning_fits_better_than_the_middle_and_that_better_than_letters_here_and_there() -> None:
    fits = [score("fre", text) for text in ("freeze api", "un freeze", "unfreeze", "f-r-e")]
    assert None not in fits
    assert fits == sorted(fits, key=lambda fit: fit if fit is not None else 99)
    assert score("fre", "kill") is None


async def test_a_typed_command_acts_on_the_agents_it_names() -> None:
    client = StageClient()
    async with stage(client, press=("colon", *typed("nice 5 api-tests docs"), "enter")) as (app, pilot):
        await until(pilot, lambda: bool(client.calls))
        assert not isinstance(app.screen, PaletteScreen)
    ((verb, request),) = client.calls
    assert (verb, request.nice, request.refs) == ("nice", 5, ["b7e4", "d08a"])


async def test_without_a_name_it_acts_on_the_cursors_row() -> None:
    client = StageClient()
    async with stage(client, press=("down", "colon", *typed("pause"), "enter")) as (_, pilot):
        await until(pilot, lambda: bool(client.calls))
    assert client.calls[0][1].refs == ["b20c"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("kill nobody", "no agent nobody"),
        ("nice x api", "It is not a number"),
        ("theme neon", "There are htop"),
        ("sort height", "There are"),
        ("pause scrape", "It has no process"),
        ("hold claude-4182", "do not pass the gateway"),
    ],
)
async def test_what_cannot_be_is_said_and_nothing_happens(line: str, said: str) -> None:
    client = StageClient()
    async with stage(client, press=("colon", *typed(line), "enter")) as (app, pilot):

        def told() -> str:
            return text(app) + " ".join(f"{toast.title} {toast.text}" for toast in app.toasts)

        await until(pilot, lambda: said in told())
    assert client.calls == []


async def test_kill_asks_first() -> None:
    client = StageClient()
    async with stage(client, press=("colon", *typed("kill docs"), "enter")) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, KillScreen))
        await shows(pilot, "Kill  docs")
    assert client.calls == []


async def test_commands_that_change_the_table() -> None:
    async with stage(press=("colon", *typed("filter ui"), "enter")) as (app, pilot):
        await until(pilot, lambda: app.model.filter == "ui")
        await pilot.press("colon", *typed("sort name"), "enter")
        await until(pilot, lambda: app.model.sort == "name")
        await pilot.press("colon", *typed("theme dusk"), "enter")
        await until(pilot, lambda: app.look.palette.data.name == "dusk")
        await pilot.press("colon", *typed("window hour"), "enter")
        await until(pilot, lambda: app.model.window == "hour")
        await pilot.press("colon", *typed("details api"), "enter")
        await until(pilot, lambda: isinstance(app.screen, DetailsScreen))


async def test_tab_completes_verbs_and_names() -> None:
    async with stage(press=("colon", *typed("ki"), "tab")) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, PaletteScreen)
        assert screen.field.value == "kill "
        await pilot.press(*typed("mig"), "tab")
        assert screen.field.value == "kill migrate"
        await pilot.press("ctrl+u", *typed("pause a"), "tab")
        assert screen.field.value == "pause api"


async def test_rows_come_from_the_key_table_and_enter_does_them() -> None:
    async with stage(press=("ctrl+p", *typed("help"))) as (app, pilot):
        await shows(pilot, "keys, states, how to read a row", "F1")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))


async def test_tagged_rows_are_a_target() -> None:
    client = StageClient()
    press = ("space", "space", "colon", *typed("pause tagged"))
    async with stage(client, press=press) as (_, pilot):
        await shows(pilot, "tagged (2)", "lead, api")
        await pilot.press("enter")
        await until(pilot, lambda: bool(client.calls))
    assert client.calls[0][1].refs == ["a1f3", "b20c"]


async def test_what_cannot_be_done_is_greyed_below_and_says_why() -> None:
    async with stage(press=("colon", *typed("pause nightly"))) as (_, pilot):
        await shows(pilot, "not possible: it is paused already")
        await pilot.press("enter")


async def test_the_last_used_are_kept_across_restarts(tmp_path: Path) -> None:
    paths = Paths(config=tmp_path, state=tmp_path / "state")
    async with stage(paths=paths, press=("colon", *typed("nice 5 docs"), "enter")) as (app, pilot):
        await until(pilot, lambda: not isinstance(app.screen, PaletteScreen))
    assert saved.load(paths.screen_file).history[0].endswith(" nice 5 docs")
    async with stage(paths=paths, press=("colon",)) as (_, pilot):
        await shows(pilot, "Last used", "nice 5 docs")


@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
async def test_it_works_on_a_small_terminal(size: tuple[int, int]) -> None:
    async with stage(size=size, theme="mono", ascii=True, press=("colon", *typed("kill"))) as (app, pilot):
        assert (await shows(pilot, ": kill")).isascii()
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, KillScreen))
