"""The way to an agent's terminal, as far as it goes without one: what is offered, asked and said."""

from __future__ import annotations

from typing import Any

import pytest

from agenttop.core.agents.states import Pause
from agenttop.core.api import PressRequest, TemplateInfo
from agenttop.tui import commands
from agenttop.tui.screens.details import DetailsScreen
from agenttop.tui.screens.launch import LaunchScreen
from agenttop.tui.screens.thaw import ThawScreen
from agenttop.tui.widgets.log_view import LogView

from ..support.sample import ROWS
from .stage import StageClient, shows, stage, text, typed, until

pytestmark = pytest.mark.anyio


class Terminals(StageClient):
    """The sample, where ``api`` has a terminal."""

    def __init__(self, **change: Any) -> None:
        super().__init__()
        api = next(row for row in ROWS if row.name == "api")
        self.id = api.id
        self.rows[api.id] = api._replace(**{"backend": "terminal", "attach": True, **change})
        self.screens[api.id] = [f"shown line {number:04}" for number in range(3_000)]


def to_api(app: Any) -> None:
    assert app.model.find("api")


async def test_the_key_is_offered_where_there_is_a_terminal_and_only_there() -> None:
    client = Terminals()
    async with stage(client) as (app, pilot):
        assert "aAttach" not in text(app)
        while app.model.current is None or app.model.current.name != "api":
            await pilot.press("down")
        await shows(pilot, "aAttach")
        await pilot.press("enter")
        await shows(pilot, "aAttach")
    async with stage(client, size=(80, 24)) as (app, pilot):
        await shows(pilot, "lead")
        app.open_details(client.id)
        await shows(pilot, "aAttach", "F1Help", "F9Kill")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"attach": False, "backend": "subprocess"}, "no terminal: subprocess"),
        ({"attach": False, "state": "terminated"}, "ended: l shows its end"),
        ({"attach": False, "state": "initializing"}, "it has no run now"),
        ({"attach": False, "observed": True, "backend": ""}, "observed: not our terminal"),
    ],
)
async def test_why_nobody_can_attach_is_said_by_the_key_and_in_the_palette(
    change: dict[str, Any], why: str
) -> None:
    client = Terminals(**change)
    async with stage(client) as (app, pilot):
        to_api(app)
        await pilot.press("a")
        await shows(pilot, "Cannot attach to api", why)
        await pilot.press("escape", "colon", *typed("attach api"))
        await shows(pilot, f"not possible: {why}")
        assert commands.impossible(app, "attach", client.rows[client.id]) == why
    assert client.calls == []


async def test_where_the_screen_itself_has_no_terminal_that_is_said_and_it_goes_on() -> None:
    client = Terminals()
    async with stage(client) as (app, pilot):
        to_api(app)
        await pilot.press("a")
        await shows(pilot, "cannot attach to api")
        assert ("attach", client.id) in client.calls
        assert not app.attaching.away
        await pilot.press("escape", "slash")
        await shows(pilot, "Search:")


async def test_a_frozen_agent_is_asked_about_before_it_is_resumed() -> None:
    client = Terminals(pause="freeze", detail="frozen 14/14")
    async with stage(client) as (app, pilot):
        to_api(app)
        await pilot.press("a")
        await shows(pilot, "api is frozen", "Resume and attach", "frozen 14/14")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, ThawScreen))
        assert [verb for verb, _ in client.calls] == ["attach"]
        await pilot.press("a")
        await shows(pilot, "Resume and attach")
        await pilot.press("enter")
        await until(pilot, lambda: [verb for verb, _ in client.calls][-2:] == ["resume", "attach"])
        assert client.rows[client.id].pause is None


async def test_a_frozen_agent_can_be_looked_at() -> None:
    client = Terminals(pause=Pause.FREEZE.value)
    async with stage(client) as (app, pilot):
        to_api(app)
        await pilot.press("a")
        await shows(pilot, "Resume and attach")
        await pilot.press("l")
        await until(pilot, lambda: isinstance(app.screen, DetailsScreen))
        await shows(pilot, "shown line 2999")


async def test_a_line_is_sent_from_the_palette_and_not_remembered_there() -> None:
    client = Terminals()
    async with stage(client) as (app, pilot):
        await pilot.press("colon", *typed("send api go on  then"), "enter")
        await until(pilot, lambda: len(client.calls) == 2)
        assert client.calls == [
            ("write", (client.id, b"go on  then")),
            ("press", PressRequest(ref=client.id, keys=["Enter"])),
        ]
        await shows(pilot, "was told")
        assert app.settings.history == ()
        # An agent with a stdin gets the line there; its end is the line's.
        await pilot.press("colon", *typed("send lead hello"), "enter")
        await until(pilot, lambda: len(client.calls) == 3)
        assert client.calls[2][1][1] == b"hello\n"
        await pilot.press("colon", *typed("send api"), "enter")
        await shows(pilot, "nothing to send")


async def test_the_log_of_a_terminal_is_the_text_on_it_and_is_searched_to_its_beginning() -> None:
    client = Terminals()
    client.out = b"\x1b[2J\x1b[Hraw bytes that draw"
    async with stage(client) as (app, pilot):
        to_api(app)
        await pilot.press("l")
        shown = await shows(pilot, "shown line 2999")
        assert "raw bytes" not in shown
        log = app.screen.query_one("#log", LogView)
        assert len(log._rows) == 1_000
        await pilot.press("slash", *typed("line 0042"), "enter")
        await shows(pilot, "shown line 0042", "shown line 0043")
        assert len(log._rows) == 3_000
        assert not log.following
        # Somebody reads: what comes meanwhile does not move it.
        client.screens[client.id].append("something new")
        assert "something new" not in text(app)
        await pilot.press("escape", "f")
        await shows(pilot, "shown line 2999")


async def test_the_log_follows_the_screen() -> None:
    client = Terminals()
    client.screens[client.id] = ["before"]
    async with stage(client) as (app, pilot):
        to_api(app)
        await pilot.press("l")
        await shows(pilot, "before")
        client.screens[client.id] = ["after"]
        client.gone.set()  # the end of the output is a reason to look again
        shown = await shows(pilot, "after", "ended")
        assert "before" not in shown


async def test_an_agent_is_started_in_a_terminal_and_attached_to_with_one_key() -> None:
    client = Terminals()
    async with stage(client, press=("n",)) as (app, pilot):
        await shows(pilot, "It needs a task", "^S, and you tell it", "--template claude")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: not isinstance(app.screen, LaunchScreen))
        await until(pilot, lambda: [verb for verb, _ in client.calls] == ["run", "attach"])
    spec = client.calls[0][1].spec
    assert (spec.backend, spec.template, spec.prompt) == ("terminal", "claude", None)


async def test_one_that_is_only_started_says_the_key_and_has_the_cursor() -> None:
    client = Terminals()
    async with stage(client, press=("n",)) as (app, pilot):
        await shows(pilot, "--template claude")
        await pilot.press("tab", "tab", "tab", "tab", "tab", "right")
        await shows(pilot, "--template claude", "-t", "you talk to it there", "may be empty")
        await pilot.press("enter")
        await shows(pilot, "a attaches")
        assert client.calls[0][1].spec.backend == "terminal"
        await until(pilot, lambda: app.model.current is not None and app.model.current.name == "claude")


async def test_a_template_that_runs_in_no_terminal_does_not_offer_it() -> None:
    class Headless(Terminals):
        async def templates(self) -> list[TemplateInfo]:
            return [
                TemplateInfo(name="aider", title="aider", ready=True, backends=["subprocess", "terminal"]),
                TemplateInfo(name="codex", title="Codex", ready=True, backends=["subprocess"]),
            ]

    client = Headless()
    async with stage(client, press=("n",)) as (app, pilot):
        await shows(pilot, "--template codex")  # which most people mean, before aider, which is first by name
        await pilot.press("ctrl+s")
        assert isinstance(app.screen, LaunchScreen)
        assert client.calls == []
