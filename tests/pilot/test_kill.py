from __future__ import annotations

import asyncio

import pytest

from agenttop.core.api import StopRequest
from agenttop.core.errors import Conflict
from agenttop.tui.screens.kill import KillScreen
from agenttop.tui.screens.proof import ProofScreen

from .stage import StageClient, shows, stage, text, until

pytestmark = pytest.mark.anyio

OPEN = ("down", "f9")


async def test_nothing_is_sent_before_enter() -> None:
    client = StageClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "nothing has been sent yet", "Kill  api and its child api-tests")
        await pilot.press("down", "down", "up", "escape")
        await until(pilot, lambda: not isinstance(app.screen, KillScreen))
    assert client.calls == []


async def test_the_preview_says_what_ends_what_stays_and_who_waits() -> None:
    async with stage(press=OPEN) as (_, pilot):
        shown = await shows(pilot, "10 processes", "9 of api, 1 of api-tests")
    for part in (
        "4821 claude", "├─4830 node mcp-server-postgres", "5120 bash, uv, pytest, 2 worker", "1 container",
        "agenttop-b7e4-pg", "1 waits for it", "review is told", "0 calls in flight", "kept", "not touched",
        "the 12 other agents", "Kill 2 agents",
    ):  # fmt: skip
        assert part in shown, part


async def test_enter_kills_and_shows_the_proof() -> None:
    client = StageClient()
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "Kill 2 agents")
        await pilot.press("enter")
        shown = await shows(pilot, "Killed  api and api-tests", "18/18 processes ended", "0 survivors")
    assert client.calls == [("stop", StopRequest(refs=["b20c", "b7e4"], how="stop"))]
    assert "KILL sent to 2" in shown
    assert "5131 5132, python, ignored TERM" in shown


async def test_survivors_stand_above_in_a_proof_that_says_not_killed() -> None:
    client = StageClient()
    client.survivors = (5131,)
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "Kill 2 agents")
        await pilot.press("enter")
        shown = await shows(pilot, "api and api-tests: not killed", "process 5131 of api is still there")
        assert shown.index("still there") < shown.index("processes ended") < shown.index("TERM sent")
        assert app.screen.has_class("-bad")
        await pilot.press("r")
        await pilot.pause()
        assert isinstance(app.screen, ProofScreen), "what survived is not started again"


async def test_while_it_runs_the_dialog_says_so_and_may_be_closed() -> None:
    client = StageClient()
    client.gate = asyncio.Event()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "Kill 2 agents")
        await pilot.press("enter")
        await shows(pilot, "waiting for the proof")
        await pilot.press("enter", "escape")
        await until(pilot, lambda: not isinstance(app.screen, KillScreen))
        client.gate.set()
        await until(pilot, lambda: bool(app.toasts))
        assert "api, api-tests" in app.toasts[0].title or "api" in app.toasts[0].text
    assert len(client.calls) == 1, "Enter twice kills once"


async def test_f_freezes_instead() -> None:
    client = StageClient()
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "Freeze instead")
        await pilot.press("f")
        await until(pilot, lambda: bool(client.calls))
    ((verb, request),) = client.calls
    assert (verb, request.refs, str(request.how)) == ("pause", ["b20c", "b7e4"], "freeze")


async def test_only_the_chosen_agent_can_be_killed_and_its_children_run_on() -> None:
    client = StageClient()
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "only api", "its children run on")
        await pilot.press("up", "up", "up", "up")
        await shows(pilot, "Kill 1 agent")
        await pilot.press("enter")
        await until(pilot, lambda: bool(client.calls))
    assert client.calls[0][1].refs == ["b20c"]


async def test_what_cannot_be_done_is_greyed_with_the_reason_and_is_never_chosen() -> None:
    async with stage(press=("end", "f9")) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, KillScreen) and app.screen.plan is not None)
        screen = app.screen
        assert isinstance(screen, KillScreen)
        for _ in range(12):
            assert screen.chosen is None or not screen.chosen.impossible
            await pilot.press("down")


async def test_an_agent_that_has_ended_offers_nothing() -> None:
    client = StageClient([row for row in StageClient().rows.values() if row.name == "scrape"])
    async with stage(client, press=("f9",)) as (_, pilot):
        await shows(pilot, "not possible: it has", "ended")
        await pilot.press("enter")
        await pilot.pause()
    assert client.calls == []


async def test_tagged_rows_are_killed_together() -> None:
    client = StageClient()
    async with stage(client, press=("end", "space", "up", "space", "f9")) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, KillScreen) and app.screen.plan is not None)
        await shows(pilot, "Kill 2 agents")
        await pilot.press("enter")
        await until(pilot, lambda: bool(client.calls))
    assert len(client.calls[0][1].refs) == 2


async def test_r_starts_again_as_the_next_run() -> None:
    client = StageClient()
    async with stage(client, press=("f9",)) as (app, pilot):
        app.model.cursor = "0c77"
        await pilot.press("escape", "f9")
        await shows(pilot, "Kill  triage")
        await pilot.press("enter")
        await shows(pilot, "Start again as run 2")
        await pilot.press("r")
        await until(pilot, lambda: any(verb == "restart" for verb, _ in client.calls) or bool(app.toasts))
        assert not isinstance(app.screen, ProofScreen)


async def test_e_shows_the_journals_rows() -> None:
    async with stage(press=OPEN) as (_, pilot):
        await shows(pilot, "Kill 2 agents")
        await pilot.press("enter")
        await shows(pilot, "Killed  api")
        await pilot.press("e")
        await pilot.pause()
        assert "Killed  api" in text(pilot.app)


async def test_a_refusal_is_told_in_the_kernels_words() -> None:
    class Refusing(StageClient):
        async def stop(self, request: StopRequest) -> list[object]:  # type: ignore[override]
            raise Conflict("api cannot be killed", "the journal cannot be written", "Free some space")

    async with stage(Refusing(), press=OPEN) as (app, pilot):
        await shows(pilot, "Kill 2 agents")
        await pilot.press("enter")
        await until(pilot, lambda: bool(app.toasts))
        assert app.toasts[0].title == "api cannot be killed"
        assert app.toasts[0].text == "the journal cannot be written. Free some space."


@pytest.mark.parametrize(
    ("size", "theme"), [((80, 24), "mono"), ((60, 18), "ansi"), ((40, 10), "htop"), ((20, 5), "htop")]
)
async def test_it_works_on_small_terminals_without_colour_and_unicode(
    size: tuple[int, int], theme: str
) -> None:
    client = StageClient()
    async with stage(client, size, theme=theme, ascii=True, press=OPEN) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, KillScreen) and app.screen.plan is not None)
        await pilot.press("down", "right", "left", "pagedown")
        assert text(app).isascii()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ProofScreen))
        assert text(app).isascii()
