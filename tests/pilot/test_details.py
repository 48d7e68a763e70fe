from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenttop.core.api import AgentDetail
from agenttop.core.backend import Chunk
from agenttop.tui.screens.details import DetailsScreen
from agenttop.tui.screens.kill import KillScreen

from ..support.sample import NOW
from .stage import StageClient, shows, stage, text, until

pytestmark = pytest.mark.anyio


async def test_a_large_screen_shows_everything_about_one_agent() -> None:
    client = StageClient()
    client.out = b"working on it\n"
    async with stage(client, (140, 44), press=("down", "enter")) as (_, pilot):
        shown = await shows(
            pilot, "working on it", "following", "412 today, 41 this hour", "COMMAND", "ENDED IN"
        )
    for part in (
        "api b20c   X executing Bash 41s", "claude subprocess", "sonnet-4.5", "parent lead",
        "child api-tests", "up 2:58:10", "CTX [", "152k/200k in context", "BUD [", "TOK [", "108k tok/min",
        "CPU [", "1 Output", "9 processes, freeze by cgroup2", "└─python -m pytest", "104k", "12 tok/min",
        "Workspace", "agenttop/api, own worktree", "+214 -38 in 9 files", "2 commits", "3 not committed",
        "docs works here, too",
    ):  # fmt: skip
        assert part in shown, part


async def test_on_a_small_one_the_panes_are_tabs() -> None:
    client = StageClient()
    client.out = b"working on it\n"
    async with stage(client, (80, 24), press=("down", "enter")) as (_, pilot):
        shown = await shows(pilot, "working on it", "2 Processes")
        assert "COMMAND" not in shown
        await pilot.press("tab")
        await shows(pilot, "COMMAND", "uv run pytest")
        await pilot.press("3")
        await shows(pilot, "QUEUE", "ENDED", "14:05:44")
        await pilot.press("4")
        await shows(pilot, "mailbox     -", "comes with the bus")
        await pilot.press("7")
        await shows(pilot, "tool Bash: uv run pytest")
        await pilot.press("8")
        await shows(pilot, "command", "claude --output-format", "template")


async def test_tab_goes_round_the_panes_and_enter_zooms_one() -> None:
    async with stage(size=(140, 44), press=("down", "enter")) as (app, pilot):
        await shows(pilot, "▌ Output")
        await pilot.press("tab")
        await shows(pilot, "▌ Processes")
        await pilot.press("enter")
        shown = await shows(pilot, "COMMAND")
        assert "ENDED" not in shown
        await pilot.press("escape")
        await shows(pilot, "ENDED", "COMMAND")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, DetailsScreen))


async def test_the_keys_act_on_this_agent_whatever_is_tagged() -> None:
    client = StageClient()
    async with stage(client, press=("end", "space", "home", "down", "enter")) as (app, pilot):
        await shows(pilot, "api b20c")
        await pilot.press("p")
        await until(pilot, lambda: len(client.calls) == 1)
        await pilot.press("h", "right_square_bracket")
        await until(pilot, lambda: len(client.calls) == 3)
        assert all(request.refs == ["b20c"] for _, request in client.calls)
        await pilot.press("f9")
        await until(pilot, lambda: isinstance(app.screen, KillScreen))
        await shows(pilot, "Kill  api")


async def test_an_ended_agent_says_how_it_ended_and_keeps_its_output() -> None:
    client = StageClient([row for row in StageClient().rows.values() if row.name == "scrape"])
    client.out = b"KeyError: 'price'\n"
    async with stage(client, (140, 44), press=("enter",)) as (_, pilot):
        await shows(pilot, "E error", "no process: exit 1", "KeyError: 'price'")


async def test_while_the_kernel_is_away_the_last_look_stays_readable() -> None:
    client = StageClient()
    client.out = b"working on it\n"
    async with stage(client, (140, 44), press=("down", "enter")) as (app, pilot):
        await shows(pilot, "working on it", "COMMAND")
        client.fail()
        await shows(pilot, "Kernel unreachable")
        await pilot.press("escape")
        assert "working on it" in await shows(pilot, "COMMAND")
        client.dead = False
        client.out += b"and on\n"
        app.try_now()
        await shows(pilot, "and on")


@pytest.mark.parametrize("size", [(40, 10), (20, 6), (200, 50)])
async def test_no_size_is_too_small_or_too_large(size: tuple[int, int]) -> None:
    client = StageClient()
    client.out = b"x" * 500 + b"\n"
    async with stage(client, size, theme="mono", ascii=True, press=("enter",)) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, DetailsScreen))
        for number in "12345678":
            await pilot.press(number)
        assert text(app).isascii()
        await pilot.resize_terminal(80, 24)
        await pilot.resize_terminal(140, 44)
        assert text(app).isascii()


async def test_an_answer_that_comes_while_the_screen_is_taken_apart_is_let_go() -> None:
    class Slow(StageClient):
        asked = asyncio.Event()
        answer = asyncio.Event()

        async def inspect(self, ref: str) -> AgentDetail:
            self.asked.set()
            await self.answer.wait()
            return await super().inspect(ref)

    client = Slow()
    async with stage(client, (80, 24), press=("enter",)) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, DetailsScreen))
        await client.asked.wait()
        await app.screen.query_one("#log").remove()  # as leaving does, before it ends who waits
        client.answer.set()
        await until(pilot, lambda: not [one for one in app.workers if one.group == "inspect"])


async def test_a_new_run_speaks_in_the_same_log() -> None:
    class Restarted(StageClient):
        runs = 0

        async def output(
            self, ref: str, *, follow: bool = False, run: int | None = None, tail: int | None = None
        ) -> AsyncIterator[Chunk]:
            self.runs += 1
            yield Chunk("out", 0, b"run number %d\n" % self.runs)
            if self.runs > 1:
                await self.gone.wait()

    client = Restarted()
    async with stage(client, press=("down", "enter")) as (_, pilot):
        await shows(pilot, "run number 1", "run number 2", "── run 2 ──")


async def test_the_spec_page_says_when_each_run_was_how_long_and_how_it_ended() -> None:
    class Ran(StageClient):
        async def inspect(self, ref: str) -> AgentDetail:
            detail = await super().inspect(ref)
            runs: list[dict[str, Any]] = [
                {
                    "number": 1,
                    "starting": NOW - 100,
                    "ended": NOW - 94,
                    "code": 1,
                    "signal": None,
                    "ref": None,
                },
                {"number": 2, "starting": NOW - 90, "ended": NOW - 30, "code": None, "signal": 9, "ref": {}},
                {
                    "number": 3,
                    "starting": NOW - 20,
                    "ended": None,
                    "ref": {"pid": 4211},
                    "detail": "\x1b[31m",
                },
            ]
            return detail.model_copy(update={"runs": runs})

    async with stage(Ran(), press=("down", "enter")) as (app, pilot):
        await shows(pilot, "api b20c")
        await pilot.press("7")
        await shows(pilot, "run 1", "0:00:06  exit 1", "0:01:00  signal 9", "0:00:20  runs", "pid 4211")
        assert str(int(NOW)) not in text(app)


async def test_calls_stand_one_by_one_and_what_is_held_goes_first_with_the_reason() -> None:
    async with stage(size=(140, 44)) as (app, pilot):
        app.open_details("f4b2", tab="Calls")
        shown = await shows(pilot, "QUEUE", "held budget")
        lines = [line for line in shown.splitlines() if line[1:9].count(":") == 2]
        assert "held budget" in lines[0]
        assert "≤0.310" in lines[0], "the worst case that is reserved"
        assert (
            "budget migrate: 0.31 at most, 0.12 left"
            in shown.splitlines()[shown.splitlines().index(lines[0]) + 1]
        )
        assert any("unpr." in line and "qwen3-30b" in line for line in lines)
        assert any("~0.042" in line and "cut by the client" in line for line in lines)
        assert any("529" in line and "overloaded" in line for line in lines)
        (absorbed,) = [line for line in lines if " 0.091 " in line]
        for part in ("gpt-5.1-codex", "1.2k", "88k", "11k", "1.3k", "1.9", "18.4", "4.1", " 3 "):
            assert part in absorbed, part


async def test_the_overview_has_the_budgets_that_cover_the_agent() -> None:
    client = StageClient()
    async with stage(client, (140, 44)) as (app, pilot):
        app.open_details("f4b2")
        shown = await shows(pilot, "3 cover it", "holds it now")
        assert shown.index(" migrate ") < shown.index("23.41/50.00")
        await pilot.press("A")
        await shows(pilot, "migrate waits: budget")
        await pilot.press("escape", "b")
        await shows(pilot, "Budget migrate", "Spent 2.88 of 3.00")
        await pilot.press("escape")
        client.budget_list = []
        await shows(pilot, "no budget covers it: b makes one")
