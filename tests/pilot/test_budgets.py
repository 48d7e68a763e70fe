from __future__ import annotations

from decimal import Decimal

import pytest

from agenttop.core.api import BudgetRequest, ExtendRequest
from agenttop.core.errors import Conflict
from agenttop.tui.screens.approval import ApprovalScreen
from agenttop.tui.screens.budget_amount import AmountScreen, RemoveBudgetScreen
from agenttop.tui.screens.budget_form import BudgetScreen
from agenttop.tui.screens.budgets import BudgetsScreen
from agenttop.tui.screens.fleet import FleetScreen

from ..support.sample_budgets import budget
from .stage import StageClient, shows, stage, text, typed, until

pytestmark = pytest.mark.anyio


async def test_the_pane_shows_what_covers_what_and_how_long_it_lasts() -> None:
    async with stage(press=("5",)) as (_, pilot):
        shown = await shows(pilot, "BUDGET", "Burn-down  fleet", "Next to be stopped", "empty at")
    lines = shown.splitlines()
    (fleet,) = [line for line in lines if line.startswith(" fleet ")]
    for part in ("day", "≥23.41", "0.87", "25.72", "50.00", "47%", "15.55", "1h39", "ask", "━", "╍"):
        assert part in fleet, part
    (lead,) = [line for line in lines if line.startswith(" │ └─lead")]
    assert "28m" in lead
    (migrate,) = [line for line in lines if "└─migrate" in line]
    assert migrate.split()[-1] == "ask"
    assert migrate.split()[-2] == "1", "it holds a call"
    assert "now" in migrate
    (embed,) = [line for line in lines if "└─embed" in line]
    for part in ("2.1M", "2.9M", "5.0M", "27k/m"):
        assert part in embed, part
    assert " 1  migrate" in shown
    assert "limited by nobody" in shown


async def test_the_pane_asks_about_once_a_second_and_not_at_all_when_it_is_closed() -> None:
    client = StageClient()
    async with stage(client, press=("5",)) as (app, pilot):
        await shows(pilot, "Burn-down  fleet")
        await pilot.press("down", "up")
        assert client.looked["budgets"] <= 3
        await until(pilot, lambda: client.looked["budgets"] >= 4)
        assert client.looked["usage"] <= 3, "what was spent is not asked for every second"
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
        before = client.looked["budgets"]
        await pilot.pause(1.5)
        assert client.looked["budgets"] == before


async def test_a_budget_that_changes_is_seen_and_the_cursor_stays_on_its_name() -> None:
    client = StageClient()
    async with stage(client, press=("5",)) as (app, pilot):
        await shows(pilot, "Burn-down  fleet")
        await pilot.press(*["down"] * 3)
        screen = app.screen
        assert isinstance(screen, BudgetsScreen)
        assert screen.chosen == "api"
        client.budget_list = [one for one in client.budget_list if one.budget.name != "checkout"]
        client.budget_list.append(budget("late", "owner", "ana", 7, spent_usd=6.5))
        await shows(pilot, "late", "93%")
        assert screen.chosen == "api"
        await shows(pilot, "Burn-down  api: agent api, today")


async def test_extend_suggests_an_amount_and_lasts_for_this_window() -> None:
    client = StageClient()
    async with stage(client, press=("5",)) as (app, pilot):
        await shows(pilot, "Burn-down  fleet")
        await pilot.press("plus")
        await shows(pilot, "Extend budget fleet", "50.00 → 60.00", "1h39 → 2h17")
        assert client.calls == []
        await pilot.press("up")
        await shows(pilot, "50.00 → 70.00")
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, AmountScreen))
        await shows(pilot, "70.00")
    assert client.calls == [("extend_budget", ExtendRequest(name="fleet", usd=20.0))]


async def test_extend_for_good_sets_another_limit() -> None:
    client = StageClient()
    async with stage(client, press=("5",)) as (app, pilot):
        await shows(pilot, "Burn-down  fleet")
        await pilot.press("plus", "tab", "right", "enter")
        await until(pilot, lambda: not isinstance(app.screen, AmountScreen))
    ((verb, request),) = client.calls
    assert verb == "set_budget"
    assert request.budget.usd == Decimal(60)


async def test_a_cut_below_what_is_spent_says_what_it_does_and_nothing_left_is_refused() -> None:
    client = StageClient()
    async with stage(client, press=("5", "down", "minus")) as (app, pilot):
        await shows(pilot, "Cut budget checkout", "30.00 → 25.00")
        await pilot.press("ctrl+u", *typed("20"))
        await shows(pilot, "It is spent already: its calls are held at once.")
        await pilot.press("ctrl+u", *typed("30"), "enter")
        await shows(pilot, "Nothing would be left of it")
        assert client.calls == []
        await pilot.press("ctrl+u", *typed("5"), "enter")
        await until(pilot, lambda: not isinstance(app.screen, AmountScreen))
    assert client.calls[0][1].budget.usd == Decimal(25)


async def test_tokens_are_extended_in_tokens() -> None:
    client = StageClient()
    async with stage(client, press=("5", "end", "plus")) as (app, pilot):
        await shows(pilot, "Extend budget embed", "5.0M → 6.0M")
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, AmountScreen))
    assert client.calls == [("extend_budget", ExtendRequest(name="embed", tokens=1_000_000))]


async def test_a_new_budget_is_made_from_the_form_and_a_wrong_one_says_why() -> None:
    client = StageClient()
    async with stage(client, press=("5", "n")) as (app, pilot):
        await shows(pilot, "New budget", "Covers 11 live agents now")
        await pilot.press("enter")
        await shows(pilot, "A budget limits usd, tokens or both", "New budget")
        screen = app.screen
        assert isinstance(screen, BudgetScreen)
        await pilot.press("tab", "a", "tab", *typed("api"), "tab", *typed("2.50"), "enter")
        await until(pilot, lambda: not isinstance(app.screen, BudgetScreen))
        await until(pilot, lambda: any("is set" in toast.title for toast in app.toasts))
    ((verb, request),) = client.calls
    assert verb == "set_budget"
    made = request.budget
    assert (made.name, made.scope, made.target, made.usd) == ("api-2", "agent", "api", Decimal("2.50"))
    assert (made.window, made.action, made.soft) == ("day", "ask", 0.8)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("usd", "ten", "ten is not an amount"), ("tokens", "many", "many is not an amount"),
     ("usd", "0", "more than nothing"), ("soft", "200", "Soft cannot be used"),
     ("zone", "Mars/Olympus", "is not a time zone"), ("name", "a b", "Name cannot be used")],
)  # fmt: skip
async def test_what_cannot_be_is_said_in_the_form(field: str, value: str, said: str) -> None:
    client = StageClient()
    async with stage(client, press=("5", "n", "tab", "tab", *typed("5"))) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, BudgetScreen)
        await until(pilot, lambda: bool(screen.known))
        screen._go_to(field)
        await pilot.press("ctrl+e", "ctrl+u", *typed(value.replace("/", "/")), "enter")
        await until(pilot, lambda: said in " ".join(text(app).split()))
    assert client.calls == []


async def test_a_budget_is_changed_in_place_with_its_name_kept() -> None:
    client = StageClient()
    async with stage(client, press=("5", "down", "e")) as (app, pilot):
        await shows(pilot, "Budget checkout", "Spent 16.85 of 30.00", "Covers 6 live agents now")
        await pilot.press("ctrl+u", *typed("40"), "enter")
        await until(pilot, lambda: not isinstance(app.screen, BudgetScreen))
    request = client.calls[0][1]
    assert isinstance(request, BudgetRequest)
    assert (request.budget.name, request.budget.usd, request.budget.target) == (
        "checkout", Decimal(40), "team=checkout",
    )  # fmt: skip


async def test_on_breach_opens_the_choice_and_changes_nothing_by_itself() -> None:
    client = StageClient()
    async with stage(client, press=("5", "down", "o")) as (_, pilot):
        await shows(pilot, "Budget checkout", "its calls are held until")
        await pilot.press("k")
        await shows(pilot, "its agents are killed without asking")
        await pilot.press("escape")
        await pilot.pause()
    assert client.calls == []


async def test_remove_asks_and_says_what_limits_its_agents_then() -> None:
    client = StageClient()
    async with stage(client, press=("5", "down", "x")) as (app, pilot):
        await shows(pilot, "Remove budget checkout", "still by fleet", "nothing has been done yet")
        await pilot.press("escape", "x")
        await shows(pilot, "Remove budget checkout")
        assert client.calls == []
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, RemoveBudgetScreen))
        await until(pilot, lambda: "label team=checkout" not in text(app) and "├─checkout" not in text(app))
    assert client.calls == [("remove_budget", "checkout")]


async def test_enter_answers_what_a_budget_holds_and_opens_the_form_where_it_holds_nothing() -> None:
    async with stage(press=("5", *["down"] * 9, "enter")) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, ApprovalScreen))
        await shows(pilot, "migrate waits: budget")
        await pilot.press("escape", "up", "enter")
        await until(pilot, lambda: isinstance(app.screen, BudgetScreen))


async def test_a_goes_to_the_agents_it_covers_and_esc_shows_all_again() -> None:
    async with stage(press=("5", *["down"] * 3, "a")) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
        shown = await shows(pilot, "budget api")
        assert [line.id for line in app.model.lines] == ["b20c", "b7e4"]
        assert "migrate" not in shown.split("Events")[0]
        await pilot.press("escape")
        await until(pilot, lambda: len(app.model.lines) == 14)


async def test_s_orders_by_who_is_stopped_next() -> None:
    async with stage(press=("5", "s")) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, BudgetsScreen)
        await until(
            pilot, lambda: [line.info.budget.name for line in screen.lines[:2]] == ["migrate", "lead"]
        )
        await pilot.press("s")
        assert screen.order == "used"


async def test_tab_shows_the_providers_with_breaker_limits_key_and_who_waits() -> None:
    async with stage(press=("5", "tab")) as (_, pilot):
        shown = await shows(pilot, "Providers", "anthropic")
        lines = shown.splitlines()
        (openai,) = [line for line in lines if line.startswith(" openai")]
        for part in ("half-open", "present", "12", "in 4s", "local", "https://api.openai.com/v1"):
            assert part in openai, part
        assert "5 of 6 calls failed: 529 overloaded" in shown
        assert any("147k left" in line and "again in 21s, learned" in line for line in lines)
        await pilot.press("tab")
        await shows(pilot, "Burn-down")


async def test_without_a_budget_the_pane_says_how_to_make_one() -> None:
    client = StageClient()
    client.budget_list = []
    async with stage(client, press=("5",)) as (app, pilot):
        await shows(pilot, "no budget yet: n makes one")
        await pilot.press("plus", "a", "e", "enter")
        assert isinstance(app.screen, BudgetsScreen)


async def test_b_on_the_fleet_changes_an_agents_own_budget_or_makes_one() -> None:
    client = StageClient()
    async with stage(client, press=("b",)) as (app, pilot):
        await shows(pilot, "Budget lead", "Spent 16.85 of 25.00")
        await pilot.press("escape")
        app.model.cursor = "39c6"
        await pilot.press("b")
        await shows(pilot, "New budget", "flaky-hunt", "Covers 1 live agent now: flaky-hunt")


async def test_a_refusal_of_the_kernel_is_said_and_nothing_typed_is_lost() -> None:
    class Refusing(StageClient):
        async def set_budget(self, request: BudgetRequest) -> object:  # type: ignore[override]
            raise Conflict("The budget was not set", "the journal cannot be written", "Free some space")

    async with stage(Refusing(), press=("5", "down", "e", "enter")) as (_, pilot):
        await shows(pilot, "The budget was not set. the journal cannot be written.", "Budget checkout")


async def test_the_pane_stays_readable_while_the_kernel_is_away() -> None:
    client = StageClient()
    async with stage(client, press=("5",)) as (app, pilot):
        await shows(pilot, "Burn-down  fleet")
        client.fail()
        await shows(pilot, "Kernel unreachable")
        await pilot.press("escape")
        await shows(pilot, "├─checkout")
        await pilot.press("plus")
        assert isinstance(app.screen, BudgetsScreen), "what needs a kernel is refused"


async def test_hostile_names_are_shown_harmless() -> None:
    client = StageClient()
    client.budget_list[0].target_name = "x"
    client.budget_list[3].target_name = "evil\x1b[31m\x1b]0;title\x07api"
    client.provider_list[0].breaker_why = "\x1b[2J[bold]gone"
    async with stage(client, (200, 50), press=("5",)) as (_, pilot):
        shown = await shows(pilot, "agent evilapi", "[bold]gone")
        assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("size", "theme"), [((80, 24), "mono"), ((60, 18), "ansi"), ((40, 10), "htop"), ((20, 5), "htop")]
)
async def test_it_works_on_small_terminals_without_colour_and_unicode(
    size: tuple[int, int], theme: str
) -> None:
    async with stage(StageClient(), size, theme=theme, ascii=True, press=("5",)) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, BudgetsScreen) and app.screen.known)
        for key in ("down", "tab", "tab", "tab", "tab", "end", "pageup", "home", "s"):
            await pilot.press(key)
            assert text(app).isascii()
            assert max(len(line) for line in text(app).splitlines()) <= size[0]
        for key in ("e", "plus", "minus", "x", "n"):
            await pilot.press(key)
            await pilot.pause()
            assert text(app).isascii()
            await pilot.press("escape")
        await pilot.resize_terminal(200, 50)
        await pilot.resize_terminal(80, 24)
        assert text(app).isascii()


async def test_below_another_pane_it_asks_nothing_and_goes_on_when_that_is_left() -> None:
    client = StageClient()
    async with stage(client, press=("5",)) as (app, pilot):
        await shows(pilot, "Burn-down  fleet")
        app.open_details("0c77", tab="Spec")
        await shows(pilot, "triage 0c77")
        client.budget_list[0].spent_usd = 49.0
        providers = client.looked.get("usage", 0)
        await until(pilot, lambda: client.looked["budgets"] >= 4)
        assert client.looked.get("usage", 0) == providers
        await pilot.press("escape")
        await shows(pilot, "98%")
