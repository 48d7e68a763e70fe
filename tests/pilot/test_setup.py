from __future__ import annotations

from pathlib import Path

import pytest

from agenttop.core.errors import ConfigError
from agenttop.core.paths import Paths
from agenttop.tui import settings as saved
from agenttop.tui.columns import COLUMNS
from agenttop.tui.screens.setup import SetupScreen, column_order
from agenttop.tui.settings import Settings

from .stage import shows, stage, text, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(config=tmp_path / "config", state=tmp_path / "state")


def heading(shown: str) -> list[str]:
    return next(line for line in shown.splitlines() if line.startswith((" ID ", " NAME", " S "))).split()


async def test_a_column_is_taken_away_at_once_and_for_good(paths: Paths) -> None:
    async with stage(paths=paths, press=("f2", "tab", "down", "down", "down", "down", "down", "down")) as (
        app,
        pilot,
    ):
        await shows(pilot, "Setup", str(paths.screen_file))
        await pilot.press("space")
        assert "MODEL" not in heading(text(app))
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, SetupScreen))
    assert paths.screen_file.stat().st_mode & 0o777 == 0o600
    async with stage(paths=paths) as (app, _):
        assert "MODEL" not in heading(text(app))
        assert "CTX%" in heading(text(app))


async def test_columns_move(paths: Paths) -> None:
    async with stage(paths=paths, press=("f2", "tab", "plus")) as (app, pilot):
        assert heading(text(app))[:2] == ["NAME", "ID"]
        await pilot.press("minus")
        assert heading(text(app))[:2] == ["ID", "NAME"]
        await pilot.press("plus", "enter")
        await until(pilot, lambda: not isinstance(app.screen, SetupScreen))
    async with stage(paths=paths) as (app, _):
        assert heading(text(app))[:2] == ["NAME", "ID"]


async def test_escape_takes_everything_back(paths: Paths) -> None:
    async with stage(paths=paths) as (app, pilot):
        before = heading(text(app))
        await pilot.press("f2", "right", "down", "down", "right", "tab", "space", "plus", "escape")
        await until(pilot, lambda: not isinstance(app.screen, SetupScreen))
        assert heading(text(app)) == before
        assert app.model.sort == "cost"
    assert not paths.screen_file.exists()


async def test_theme_order_and_window_are_seen_at_once_and_kept(paths: Paths) -> None:
    async with stage(paths=paths, press=("f2", "right", "right")) as (app, pilot):
        assert app.look.palette.data.name == "dusk"
        await pilot.press("down", "right", "down", "down", "right", "enter")
        await until(pilot, lambda: app.model.window == "total")
    kept = saved.load(paths.screen_file)
    assert (kept.theme, kept.window, kept.largest) == ("dusk", "total", False)


async def test_a_broken_file_gives_the_defaults_and_a_toast(paths: Paths) -> None:
    paths.screen_file.parent.mkdir(parents=True)
    paths.screen_file.write_text("columns = [1, \n")
    async with stage(paths=paths) as (app, pilot):
        await until(pilot, lambda: bool(app.toasts))
        assert "screen.toml cannot be read" in app.toasts[0].title
        assert app.settings == Settings()


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    async with stage(paths=Paths(config=blocked, state=tmp_path), press=("f2", "down", "right", "enter")) as (
        app,
        pilot,
    ):
        await until(pilot, lambda: any("cannot write" in toast.title for toast in app.toasts))


def test_a_value_of_another_type_names_the_field(paths: Paths) -> None:
    paths.screen_file.parent.mkdir(parents=True)
    paths.screen_file.write_text('mouse = "maybe"\n')
    with pytest.raises(ConfigError, match="mouse"):
        saved.load(paths.screen_file)


def test_what_is_kept_comes_back_and_a_whole_number_is_a_number_of_seconds(paths: Paths) -> None:
    settings = Settings(columns=("id", "name"), refresh=2.0, mouse=True, history=("1 nice 5 api",))
    saved.save(paths.screen_file, settings)
    assert saved.load(paths.screen_file) == settings
    paths.screen_file.write_text("refresh = 2\n")
    assert saved.load(paths.screen_file).refresh == 2.0


def test_every_column_is_offered_once_whatever_was_chosen() -> None:
    for chosen in ((), ("task", "id"), ("name", "nonsense")):
        assert sorted(column_order(chosen)) == sorted(column.id for column in COLUMNS)


@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
async def test_it_works_on_a_small_terminal(size: tuple[int, int]) -> None:
    async with stage(size=size, theme="mono", ascii=True, press=("f2",)) as (app, pilot):
        await shows(pilot, "Setup")
        for _ in range(20):
            await pilot.press("down")
        await pilot.press("space", "tab", "right", "escape")
        assert text(app).isascii()
