from __future__ import annotations

import pytest

from agenttop.core.errors import UsageError
from agenttop.tui import keys
from agenttop.tui.app import AgentTopApp
from agenttop.tui.screens.budgets import BudgetsScreen
from agenttop.tui.screens.bus import BusScreen
from agenttop.tui.screens.details import DetailsScreen
from agenttop.tui.screens.events import EventsScreen
from agenttop.tui.screens.fleet import FleetScreen

SCREENS = {
    keys.FLEET: FleetScreen, keys.EVENTS: EventsScreen, keys.BUDGETS: BudgetsScreen,
    keys.DETAILS: DetailsScreen, keys.BUS: BusScreen,
}  # fmt: skip


@pytest.mark.parametrize("pane", keys.EVERYWHERE)
def test_no_key_means_two_things_in_one_pane(pane: str) -> None:
    seen: dict[str, str] = {}
    for entry in keys.KeyTable().pane(pane):
        for key in entry.keys:
            assert key not in seen, f"{key}: {seen.get(key)} and {entry.id}"
            seen[key] = entry.id


@pytest.mark.parametrize("pane", list(SCREENS))
def test_every_entry_of_a_pane_has_a_method(pane: str) -> None:
    for entry in keys.KeyTable().pane(pane):
        method = "do_" + entry.id.replace(".", "_")
        assert hasattr(SCREENS[pane], method) or hasattr(AgentTopApp, method), entry.id


def test_no_plain_letter_destroys() -> None:
    for entry in keys.TABLE:
        if entry.id in ("agent.kill", "budget.remove", "agent.freeze_all"):
            assert not {"k", "d"} & set(entry.keys)


def test_the_kill_switch_is_no_key_that_is_typed_by_accident() -> None:
    assert all(len(key) > 1 for key in keys.BY_ID["agent.freeze_all"].keys)


def test_the_ten_function_keys_fit_eighty_cells() -> None:
    first = keys.KeyTable().footer(keys.FLEET)[:10]
    assert [keys.shown(entry.keys[0]) for entry in first] == [f"F{n}" for n in range(1, 11)]


def test_a_person_may_change_a_key_and_takes_it_from_its_former_use() -> None:
    table = keys.KeyTable({"agent.kill": "h", "agent.hold": ["^K", "H"]})
    assert table.lookup(keys.FLEET)["h"].id == "agent.kill"
    assert table.lookup(keys.FLEET)["ctrl+k"].id == "agent.hold"
    assert "x" not in table.lookup(keys.FLEET)


@pytest.mark.parametrize("wrong", [{"agent.fly": "f"}, {"agent.kill": "h", "agent.hold": "h"}])
def test_keys_that_cannot_be_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"\[keys\]"):
        keys.KeyTable(wrong)


@pytest.mark.parametrize("entry", keys.TABLE, ids=lambda entry: entry.id)
def test_what_is_shown_can_be_typed_into_the_configuration(entry: keys.Key) -> None:
    for key in entry.keys:
        assert keys.named(keys.shown(key)) == key


def test_the_details_footer_says_the_way_back_first_and_fits_eighty_cells() -> None:
    shown = keys.KeyTable().footer(keys.DETAILS)
    assert shown[0].id == "app.back"
    cells = sum(
        len(keys.shown(key.keys[0])) + (6 if key.keys[0].startswith("f") and key.keys[0][1:].isdigit()
        else len(key.label) + 1)
        for key in shown[: [key.id for key in shown].index("agent.diff") + 1]
    )  # fmt: skip
    assert cells <= 80
    assert {"agent.restart", "agent.kill", "app.help"} <= {key.id for key in shown}
