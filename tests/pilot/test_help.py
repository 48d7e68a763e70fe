from __future__ import annotations

import pytest

from agenttop.tui import keys
from agenttop.tui.keys import KeyTable
from agenttop.tui.screens.help import HelpScreen, blocks, columns
from agenttop.tui.widgets.paper import length

from .stage import shows, stage, text, typed, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("pane", keys.EVERYWHERE)
def test_every_key_of_a_pane_is_in_its_help(pane: str) -> None:
    table = KeyTable()
    said = "\n".join("".join(piece for piece, _ in row) for block in blocks(table, pane) for row in block)
    for key in table.pane(pane):
        if key.keys and not key.id.startswith("pane."):
            assert key.text in said
            assert keys.shown(key.keys[0]) in said


def test_a_key_of_ones_own_is_shown_instead() -> None:
    table = KeyTable({"agent.kill": "K"})
    rows = ["".join(piece for piece, _ in row) for block in blocks(table, keys.FLEET) for row in block]
    (row,) = [row for row in rows if "shows what dies" in row]
    assert row.startswith("K ")


@pytest.mark.parametrize("width", [40, 76, 116, 166])
def test_columns_are_as_many_as_fit_and_lose_no_row(width: int) -> None:
    found = blocks(KeyTable(), keys.FLEET)
    rows = columns(found, width)
    joined = "\n".join("".join(piece for piece, _ in row) for row in rows)
    assert all("".join(piece for piece, _ in row).strip() in joined for block in found for row in block)
    if width >= 76:
        assert max(length(row) for row in rows) <= width + 2


async def test_it_opens_filters_and_closes() -> None:
    async with stage(press=("f1",)) as (app, pilot):
        await shows(pilot, "Help", "signal or kill", "How to read a row", "for you: input approval budget")
        await pilot.press(*typed("nice"))
        shown = await shows(pilot, "only: nice")
        assert "signal or kill" not in shown
        assert "higher priority" in shown
        await pilot.press("escape")
        await shows(pilot, "type to filter", "signal or kill")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, HelpScreen))


async def test_a_filter_that_fits_nothing_says_so() -> None:
    async with stage(press=("question_mark", *typed("zzz"))) as (_, pilot):
        await shows(pilot, "nothing has this in it")


@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
async def test_all_of_it_can_be_reached_on_a_small_terminal(size: tuple[int, int]) -> None:
    async with stage(size=size, theme="mono", ascii=True, press=("f1",)) as (app, pilot):
        await shows(pilot, "Look")
        await pilot.press("end")
        shown = await shows(pilot, "paste work.")
        assert shown.isascii()
        assert text(app)
