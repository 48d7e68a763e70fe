from __future__ import annotations

import asyncio

import pytest

from agenttop.core.api import AnswerRequest, Outcome
from agenttop.core.errors import Conflict
from agenttop.tui.screens.approval import ApprovalScreen
from agenttop.tui.screens.details import DetailsScreen
from agenttop.tui.screens.fleet import FleetScreen
from agenttop.tui.screens.kill import KillScreen

from ..support.sample import NOW
from ..support.sample_budgets import approvals, runaway
from .stage import StageClient, shows, stage, text, typed, until

pytestmark = pytest.mark.anyio


def asking() -> StageClient:
    """Two questions: a budget, and a runaway."""
    client = StageClient()
    client.approval_list.append(runaway())
    return client


async def test_it_says_the_question_both_figures_and_what_each_answer_means() -> None:
    async with stage(press=("A",)) as (_, pilot):
        shown = await shows(pilot, "migrate waits: budget", "likely")
    for part in (
        "held 4m, f4b2, codex", "The next call could go over budget migrate", "96% spent", "spent 2.88",
        "limit 3.00", "at most 0.31   left 0.12", "openai, gpt-5.1-codex, 231k in context",
        "move billing tables", "fleet 23.41/50.00", "all have room", "Extend by  ‹ +0.20 ›",
        "to 3.20; at 1.63/h that is 7m more", "up to 0.19 over the limit", "Deny it", "Kill…",
    ):  # fmt: skip
        assert part in shown, part


@pytest.mark.parametrize("key", ["enter", "exclamation_mark"])
async def test_the_row_that_asks_opens_it_and_never_by_itself(key: str) -> None:
    async with stage() as (app, pilot):
        assert isinstance(app.screen, FleetScreen)
        app.model.cursor = "f4b2"
        await pilot.press(key)
        await shows(pilot, "migrate waits: budget")


@pytest.mark.parametrize(
    ("press", "answer", "usd"),
    [(("enter",), "extend", 0.2), (("right", "enter"), "extend", 0.5),
     (("right", "left", "left", "e"), "extend", 0.2),
     (("down", "enter"), "once", 0.0), (("1",), "once", 0.0), (("n",), "deny", 0.0)],
)  # fmt: skip
async def test_an_answer_is_sent_once_for_the_question_that_is_shown(
    press: tuple[str, ...], answer: str, usd: float
) -> None:
    client = StageClient()
    async with stage(client, press=("A",)) as (app, pilot):
        await shows(pilot, "migrate waits: budget")
        assert client.calls == []
        await pilot.press(*press)
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
        await until(pilot, lambda: bool(app.toasts))
        assert "migrate" in app.toasts[0].title
    assert client.calls == [("answer", AnswerRequest(refs=["ap1"], answer=answer, usd=usd))]  # type: ignore[arg-type]


async def test_kill_shows_first_what_would_die() -> None:
    client = StageClient()
    async with stage(client, press=("A",)) as (app, pilot):
        await shows(pilot, "migrate waits: budget")
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, KillScreen))
        await shows(pilot, "Kill  migrate")
    assert client.calls == []


async def test_freeze_keeps_the_question_open() -> None:
    client = StageClient()
    async with stage(client, press=("A",)) as (app, pilot):
        await shows(pilot, "migrate waits: budget")
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
    ((verb, request),) = client.calls
    assert (verb, request.refs, str(request.how)) == ("pause", ["f4b2"], "freeze")
    assert len(client.approval_list) == 1


async def test_a_runaway_is_allowed_denied_or_killed_and_nothing_is_extended() -> None:
    client = asking()
    client.approval_list.reverse()
    client.approval_list.pop()
    async with stage(client, press=("A",)) as (app, pilot):
        shown = await shows(pilot, "ui waits: runaway", "9 nearly identical calls")
        assert "Extend" not in shown
        assert "Let one call" not in shown
        await pilot.press("e", "1")
        assert client.calls == []
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
    assert client.calls == [("answer", AnswerRequest(refs=["ap2"], answer="allow"))]


async def test_several_are_listed_and_tab_goes_to_the_next() -> None:
    client = asking()
    async with stage(client, press=("A",)) as (_, pilot):
        await shows(pilot, "2 wait for you", "1 of 2", "migrate waits: budget")
        await pilot.press("tab")
        await shows(pilot, "2 of 2", "ui waits: runaway")
        await pilot.press("tab")
        await shows(pilot, "1 of 2", "migrate waits: budget")


async def test_a_repeated_key_is_no_answer_to_the_question_that_came_up_next() -> None:
    client = asking()
    async with stage(client, press=("A",)) as (app, pilot):
        await shows(pilot, "2 wait for you", "migrate waits: budget")
        await pilot.press("n")
        await shows(pilot, "ui waits: runaway")
        await pilot.press("n", "n")
        await pilot.pause()
        assert [request.refs for _, request in client.calls] == [["ap1"]]
        app.clock.advance(1.0)  # type: ignore[attr-defined]
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
    assert [request.refs for _, request in client.calls] == [["ap1"], ["ap2"]]


async def test_two_keys_at_once_answer_once() -> None:
    class Slow(StageClient):
        def __init__(self) -> None:
            super().__init__()
            self.let = asyncio.Event()

        async def answer(self, request: AnswerRequest) -> list[Outcome]:
            await self.let.wait()
            return await super().answer(request)

    client = Slow()
    async with stage(client, press=("A",)) as (app, pilot):
        await shows(pilot, "migrate waits: budget")
        await pilot.press("1", "n", "enter")
        await shows(pilot, "Close; it goes on")
        client.let.set()
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
    assert [request.answer for _, request in client.calls] == ["once"]


async def test_a_question_answered_elsewhere_goes_away() -> None:
    client = StageClient()
    async with stage(client, press=("A",)) as (app, pilot):
        await shows(pilot, "migrate waits: budget")
        client.approval_list.clear()
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
        assert app.toasts[0].title == "Nothing waits for you"


async def test_a_new_question_is_told_once_and_counted() -> None:
    client = StageClient()
    async with stage(client) as (app, pilot):
        await shows(pilot, "Need you:  3")
        assert app.toasts == [], "what was open before is counted, not told"
        client.ask(runaway().model_copy(update={"since": NOW + 1}))
        await until(pilot, lambda: bool(app.toasts))
        assert app.toasts[0].title == "ui asks you: runaway"
        await shows(pilot, "Need you:  4")
        await pilot.press("escape")
        before = client.looked["approvals"]
        await until(pilot, lambda: client.looked["approvals"] >= before + 2)
        assert app.toasts == []
        assert isinstance(app.screen, FleetScreen), "a dialog never pops up by itself"


async def test_without_a_question_nothing_is_asked_of_the_kernel() -> None:
    client = StageClient([row for row in StageClient().rows.values() if row.name == "docs"])
    client.approval_list.clear()
    async with stage(client) as (app, pilot):
        await pilot.pause(1.5)
        assert "approvals" not in client.looked
        await pilot.press("A")
        await until(pilot, lambda: bool(app.toasts))
        assert isinstance(app.screen, FleetScreen)


async def test_a_row_that_waits_without_a_question_opens_its_details() -> None:
    client = StageClient()
    client.approval_list.clear()
    async with stage(client) as (app, pilot):
        app.model.cursor = "f4b2"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DetailsScreen))


async def test_what_the_kernel_refuses_is_told_and_may_be_answered_again() -> None:
    class Refusing(StageClient):
        async def answer(self, request: AnswerRequest) -> list[Outcome]:
            raise Conflict("The call was not let through", "its agent is gone", "Nothing to do")

    async with stage(Refusing(), press=("A",)) as (app, pilot):
        await shows(pilot, "migrate waits: budget")
        await pilot.press("1")
        await until(pilot, lambda: bool(app.toasts))
        assert app.toasts[0].title == "The call was not let through"
        assert isinstance(app.screen, ApprovalScreen)
        assert not app.screen.busy


async def test_a_client_that_gave_up_is_said() -> None:
    client = StageClient()
    client.approval_list = [approvals()[0].model_copy(update={"held": False})]
    async with stage(client, press=("A",)) as (_, pilot):
        await shows(pilot, "gave up", "the answer resumes the agent")


async def test_what_the_agent_says_is_harmless() -> None:
    client = StageClient()
    evil = {
        "question": "pay \x1b[31mme\x1b]0;x\x07 [b]now\u202e",
        "name": "mi\x1b[2Jgrate",
        "model": "gpt\x07",
    }
    client.approval_list = [approvals()[0].model_copy(update=evil)]
    async with stage(client, press=("A",)) as (_, pilot):
        shown = await shows(pilot, "migrate waits", "pay me [b]now")
        assert not {"\x1b", "\x07", "\u202e"} & set(shown)


async def test_commands_answer_by_name() -> None:
    client = StageClient()
    async with stage(client, press=("colon", *typed("approve migrate"), "enter")) as (_, pilot):
        await until(pilot, lambda: bool(client.calls))
    assert client.calls == [("answer", AnswerRequest(refs=["f4b2"], answer="once"))]


async def test_a_command_on_an_agent_that_asks_nothing_says_so() -> None:
    client = StageClient()
    async with stage(client, press=("colon", *typed("deny docs"), "enter")) as (app, pilot):
        await until(
            pilot, lambda: "No call of it waits for you" in text(app) + "".join(t.text for t in app.toasts)
        )
    assert client.calls == []


@pytest.mark.parametrize(
    ("size", "theme"), [((80, 24), "mono"), ((60, 18), "ansi"), ((40, 10), "htop"), ((20, 6), "paper")]
)
async def test_the_answers_stay_in_sight_on_small_terminals(size: tuple[int, int], theme: str) -> None:
    client = asking()
    async with stage(client, size, theme=theme, ascii=True, press=("A",)) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, ApprovalScreen) and app.screen.question is not None)
        await pilot.pause()
        assert text(app).isascii()
        if size[1] >= 10:
            assert "Deny it" in text(app)
        await pilot.press("down", "pagedown", "tab", "1")
        assert text(app).isascii()
