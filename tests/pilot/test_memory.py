from __future__ import annotations

from typing import Any

import pytest

from agenttop.core.api import memory as api
from agenttop.core.errors import Conflict
from agenttop.tui import keys
from agenttop.tui.screens.fleet import FleetScreen
from agenttop.tui.screens.memory import MemoryScreen
from agenttop.tui.screens.memory_edit import EditScreen
from agenttop.tui.screens.memory_export import ExportScreen
from agenttop.tui.screens.memory_forget import ForgetScreen
from agenttop.tui.screens.memory_item import ItemScreen
from agenttop.tui.screens.memory_place import PlaceScreen
from agenttop.tui.screens.memory_versions import VersionsScreen

from ..support.sample_memory import API, TEAM, MemoryClient, block, note
from .stage import shows, stage, text, typed, until

pytestmark = pytest.mark.anyio

#: Opens the pane on ``api``.
OPEN = ("down", "4")


def pane(app: Any) -> MemoryScreen:
    screen = app.pane
    assert isinstance(screen, MemoryScreen)
    return screen


def asked(client: MemoryClient, verb: str) -> list[Any]:
    """The requests of one verb, in order."""
    return [request for name, request in client.calls if name == f"memory.{verb}"]


async def test_the_pane_shows_three_tiers_and_what_moved_between_them() -> None:
    async with stage(MemoryClient(), press=OPEN) as (_, pilot):
        shown = await shows(
            pilot, "WORKING", "RECALL", "ARCHIVAL", "Movements", "Search  all tiers", "955 more"
        )
    lines = shown.splitlines()
    assert "api b20c" in shown
    assert "namespaces it may use: private/api, team/checkout, shared" in shown
    (task,) = [line for line in lines if line.startswith(" task")]
    for part in ("1.9k/2.0k", "pinned", "━"):
        assert part in task
    for part in ("4.8k/8.0k 60%", "3.2k free", "871 entries  1.9M tokens  11M", "861 older", "961 notes",
                 "embeddings: off", "team/checkout", "orders.idem", "lead", "10 today"):  # fmt: skip
        assert part in shown, part
    (moved,) = [line for line in lines if "api wrote orders.idempotency" in line]
    assert moved.split()[:4] == ["14:01", "working", "→", "archival"]
    assert any("moved file list ← working" in line for line in lines)


async def test_it_asks_for_little_and_for_nothing_when_it_is_not_shown() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await until(pilot, lambda: len(asked(client, "fill")) >= 3)
        looks = len(asked(client, "fill"))
        for verb in ("blocks", "recall", "notes", "moves"):
            assert len(asked(client, verb)) < looks, f"{verb} is asked for only where something changed"
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
        before = len(client.calls)
        await pilot.pause(2.0)
        assert len(client.calls) == before


async def test_what_changed_in_the_kernel_comes_on_the_screen() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "955 more")
        client.block_list.append(block("scratch", "a new thought", 300, 1_000))
        client._remember("assistant", "something newly said", "call:c99")
        await shows(pilot, "scratch", "something newly", "5.1k/8.0k", "872 entries")


async def test_tab_goes_round_the_parts_and_back() -> None:
    async with stage(MemoryClient(), press=OPEN) as (app, pilot):
        await shows(pilot, "▌ WORKING")
        for title in ("▌ RECALL", "▌ ARCHIVAL", "▌ Movements", "▌ Search", "▌ WORKING"):
            await pilot.press("tab")
            await shows(pilot, title)
        await pilot.press("shift+tab", "left", "right")
        assert pane(app).focus_on == "search"


async def test_below_a_hundred_columns_there_is_one_tier_at_a_time() -> None:
    async with stage(MemoryClient(), (80, 24), press=OPEN) as (_, pilot):
        assert "RECALL" not in await shows(pilot, "WORKING", "plan", "1/5 Tab next")
        await pilot.press("tab")
        assert "WORKING" not in await shows(pilot, "RECALL", "861 older")
        await pilot.press("tab")
        await shows(pilot, "ARCHIVAL", "money.rounding")
        await pilot.press("tab")
        await shows(pilot, "Movements", "old test output")
        await pilot.press("tab")
        await shows(pilot, "Search  all tiers")
        await pilot.resize_terminal(120, 34)
        await shows(pilot, "WORKING", "RECALL", "ARCHIVAL", "Movements")


async def test_another_agent_and_the_fleets_cursor_goes_with_it() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "api b20c")
        await pilot.press("greater_than_sign")
        await shows(
            pilot, "api-tests b7e4", "no block: n makes one", "nothing was said yet", "nothing moved yet"
        )
        await pilot.press("comma", "comma")
        await shows(pilot, "lead a1f3")
        assert app.model.cursor == "a1f3"
        await pilot.press("full_stop")
        await shows(pilot, "api b20c", "pinned")


async def test_an_observed_agent_has_no_memory_and_that_is_said() -> None:
    client = MemoryClient()
    async with stage(client) as (app, pilot):
        app.model.cursor = "6aa2"
        await pilot.press("4")
        await shows(pilot, "codex-977 is observed: agenttop did not start it")
        for key in ("n", "x", "o", "e", "plus", "enter"):
            await pilot.press(key)
        assert isinstance(app.screen, MemoryScreen)
        assert not client.calls
        await pilot.press("less_than_sign")
        await shows(pilot, "nightly 2b9a", "WORKING")


async def test_without_an_agent_the_pane_says_how_to_get_one() -> None:
    client = MemoryClient(())
    async with stage(client, press=("4",)) as (_, pilot):
        await shows(pilot, "no agent yet")
        await pilot.press("tab", "enter", "less_than_sign", "n", "x")
    assert not client.calls


# --- opening ---------------------------------------------------------------------------------


async def test_enter_opens_a_block_an_entry_and_a_note_with_where_they_come_from() -> None:
    async with stage(MemoryClient(), press=OPEN) as (_, pilot):
        await shows(pilot, "955 more")
        await pilot.press("down", "enter")
        await shows(
            pilot, "Block plan of api", "v12", "by       api", "1.7k of 3.0k", "Now: 3. Open: expiry race."
        )
        await pilot.press("escape", "tab", "down", "enter")
        await shows(pilot, "Recall of api: message", "message:m7", "review: is retry safe here?")
        await pilot.press("escape", "tab", "end", "home", *["down"] * 3, "enter")
        await shows(pilot, "Note team/checkout/orders.idempotency", "v3", "call:c3", "key + body hash, 24 h")
        await pilot.press("escape", "tab", "enter")
        await shows(pilot, "Note team/checkout/orders.idempotency")


async def test_from_the_opened_thing_its_other_keys_go_on() -> None:
    async with stage(MemoryClient(), press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        for key, screen in (
            ("e", EditScreen),
            ("v", VersionsScreen),
            ("x", ForgetScreen),
            ("a", PlaceScreen),
        ):
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, ItemScreen))
            await pilot.press(key)
            await until(pilot, lambda screen=screen: isinstance(app.screen, screen))  # type: ignore[misc]
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, MemoryScreen))


async def test_enter_on_a_namespace_lists_its_notes_and_esc_all_again() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "955 more")
        await pilot.press("tab", "tab", "down", "enter")
        shown = await shows(pilot, "Esc all namespaces", "35 more")
        assert not [line for line in shown.splitlines() if "db.conventions " in line and "migrate" in line]
        assert asked(client, "notes")[-1].namespace == TEAM
        await pilot.press("escape")
        await shows(pilot, "db.conventions", "955 more")


async def test_the_end_of_recall_reads_what_is_older() -> None:
    client = MemoryClient()
    client._remember("assistant", "the newest", "call:c9")
    first = client.entry_list[-1]
    client.entry_list += [
        first.model_copy(update={"id": first.id - n, "at": first.at - n / 1e6, "text": f"older {n}"})
        for n in range(1, 120)
    ]
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "the newest")
        await pilot.press("tab", "end")
        await until(pilot, lambda: len(pane(app).recall.entries) > 60)
        await pilot.press("end")
        await until(pilot, lambda: len(pane(app).recall.entries) > 120)
        await pilot.press("end")
        await shows(pilot, "older 119")
        assert len({entry.id for entry in pane(app).recall.entries}) == len(pane(app).recall.entries)


# --- writing ---------------------------------------------------------------------------------


async def test_e_edits_a_block_on_top_of_the_version_it_was_read_in() -> None:
    client = MemoryClient()
    async with stage(client, press=(*OPEN,)) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("down", "e")
        await shows(pilot, "Block plan of api", "about 15 of 3.0k tokens")
        await pilot.press("ctrl+end", *typed(" done"), "ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, MemoryScreen))
        await shows(pilot, "is v13")
    (request,) = asked(client, "write-block")
    assert (request.name, request.expected, request.text) == (
        "plan", 12, "1 test 2 handler 3 index 4 docs\nNow: 3. Open: expiry race. done",
    )  # fmt: skip


async def test_a_note_is_edited_too() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("tab", "tab", *["down"] * 3, "e")
        await shows(pilot, "Note team/checkout/orders.idempotency", "key + body hash, 24 h")
        await pilot.press("ctrl+end", *typed(" more"), "ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, MemoryScreen))
    (request,) = asked(client, "write-note")
    assert (request.namespace, request.expected, request.text) == (TEAM, 3, "key + body hash, 24 h more")


async def test_a_race_shows_both_texts_and_neither_is_lost() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("down", "e")
        await shows(pilot, "Now: 3. Open: expiry race.")
        await pilot.press("ctrl+end", *typed(" mine"))
        client._write_block(api.WriteBlockRequest(name="plan", text="theirs entirely"))
        await pilot.press("ctrl+s")
        await shows(pilot, "expiry race. mine", "v13 by @ana: written meanwhile", "theirs entirely")
        await pilot.press("ctrl+t")
        await until(pilot, lambda: "written meanwhile" not in text(app))
        await shows(pilot, "expiry race. mine", "theirs entirely")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, MemoryScreen))
    last = asked(client, "write-block")[-1]
    assert last.expected == 13
    assert last.text.endswith("expiry race. mine\ntheirs entirely")
    assert client.block_texts["plan", 13] == "theirs entirely"


async def test_after_a_race_ones_own_text_can_be_written_over_theirs() -> None:
    client = MemoryClient()
    async with stage(client, press=(*OPEN,)) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("down", "e")
        await shows(pilot, "Now: 3. Open: expiry race.")
        await pilot.press("ctrl+end", *typed(" mine"))
        client._write_block(api.WriteBlockRequest(name="plan", text="theirs entirely"))
        await pilot.press("ctrl+s")
        await shows(pilot, "Write yours over v13")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, MemoryScreen))
    assert asked(client, "write-block")[-1].expected == 13
    assert client._there("plan").text.endswith("mine")


async def test_esc_throws_nothing_away_without_saying_so() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("e")
        await shows(pilot, "about 15 of 2.0k tokens")
        await pilot.press("z", "escape")
        await shows(pilot, "Not saved. Esc again throws away what you typed.")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MemoryScreen))
    assert not asked(client, "write-block")


async def test_a_refusal_is_said_and_what_was_typed_stays() -> None:
    def refuse(request: api.WriteBlockRequest) -> None:
        raise Conflict("block task was not written", "It would have 3000 of 2000 tokens", "Shorten it")

    client = MemoryClient()
    client.answers["memory.write-block"] = refuse
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "955 more")
        await pilot.press("e")
        await shows(pilot, "about 15 of 2.0k tokens")
        await pilot.press("z", "ctrl+s")
        await shows(pilot, "It would have 3000 of 2000 tokens", "zMake POST")


async def test_n_makes_a_block_and_in_the_archive_a_note() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("n")
        await shows(pilot, "New in the memory of api")
        await pilot.press("tab", *typed("plan"), "enter")
        await shows(pilot, "There is a block plan: e edits it")
        await pilot.press("ctrl+u", *typed("facts"), "tab", *typed("500"), "enter")
        await shows(pilot, "Block facts of api", "new", "of 500 tokens")
        await pilot.press(*typed("one fact"), "ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, MemoryScreen))
        await shows(pilot, "facts", "one fact")
        await pilot.press("tab", "tab", "n")
        await shows(pilot, "Namespace")
        await pilot.press("tab", "right", "tab", *typed("a/key"), "enter")
        await shows(pilot, "Note team/checkout/a/key")
        await pilot.press(*typed("text"), "ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, MemoryScreen))
        await shows(pilot, "a/key")
    (made,) = asked(client, "write-block")
    assert (made.name, made.text, made.expected, made.limit, made.pinned) == (
        "facts",
        "one fact",
        0,
        500,
        False,
    )
    (noted,) = asked(client, "write-note")
    assert (noted.namespace, noted.key, noted.expected) == (TEAM, "a/key", 0)


async def test_p_pins_and_unpins() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "955 more")
        await pilot.press("p")
        await until(pilot, lambda: not client._there("task").pinned)
        await pilot.press("p")
        await until(pilot, lambda: client._there("task").pinned)
        await shows(pilot, "pinned: it is never moved out")
    assert [request.pinned for request in asked(client, "pin")] == [False, True]


async def test_minus_evicts_and_it_is_shown_what_moved_where() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "955 more")
        await pilot.press("minus")
        await shows(pilot, "block task was not moved")
        await pilot.press("escape", "down", "minus")
        await shows(pilot, "14:06   working → recall   plan: taken out", "plan ← working", "11 today")
    assert asked(client, "evict")[-1] == api.BlockRequest(agent=API, name="plan")


async def test_plus_promotes_an_entry_and_a_note_into_a_block() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("plus")
        await shows(pilot, "Nothing to promote here")
        await pilot.press("escape", "tab", "plus")
        await shows(pilot, "Promote into a block of api", "It is added at the end of this block")
        await pilot.press("ctrl+u", *typed("facts"), "enter")
        await shows(pilot, "facts v1")
        await pilot.press("escape", "tab", *["down"] * 3, "plus")
        await shows(pilot, "Promote into a block of api")
        await pilot.press("ctrl+u", *typed("facts"), "enter")
        await until(pilot, lambda: "hash" in client._there("facts").text)
        assert isinstance(app.screen, MemoryScreen)
    (promoted,) = asked(client, "promote")
    assert (promoted.entry, promoted.block) == (client.entry_list[0].id, "facts")
    assert client._there("facts").text.startswith("pytest: 1 failed")


async def test_a_keeps_a_block_and_an_entry_as_notes_with_the_tier_they_come_from() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "955 more")
        await pilot.press("down", "a", "tab", "enter")
        await shows(pilot, "kept in private/b20c")
        await pilot.press("tab", "a")
        await shows(pilot, "Keep in the archive")
        await pilot.press("right", "tab", *typed("found"), "enter")
        await until(pilot, lambda: len(asked(client, "write-note")) == 2)
    block_kept, entry_kept = asked(client, "write-note")
    assert (block_kept.key, block_kept.moved_from, block_kept.text[:6]) == ("plan", "working", "1 test")
    assert (entry_kept.namespace, entry_kept.key, entry_kept.moved_from) == (TEAM, "found", "recall")


# --- versions --------------------------------------------------------------------------------


async def test_v_shows_versions_and_the_diff_between_any_two() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("tab", "tab", *["down"] * 3, "v")
        shown = await shows(pilot, "3 versions", "-key alone, 24 h", "+key + body hash, 24 h")
        assert "--- v2" in shown
        await pilot.press("end", "space", "home")
        await shows(pilot, "--- v1", "+++ v3", "-key alone", "+key + body hash, 24 h")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MemoryScreen))


async def test_a_version_is_taken_back_through_the_editor() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("tab", "tab", *["down"] * 3, "v")
        await shows(pilot, "3 versions")
        await pilot.press("end", "r")
        await until(pilot, lambda: isinstance(app.screen, EditScreen))
        await shows(pilot, "key alone")
        assert not asked(client, "write-note")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, MemoryScreen))
    (request,) = asked(client, "write-note")
    assert (request.text, request.expected) == ("key alone", 3)


# --- search ----------------------------------------------------------------------------------


async def test_a_search_is_made_as_it_is_typed_and_marks_the_words() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("slash", *typed("retry key expiry"))
        shown = await shows(pilot, "hits, 3 ms", "working   plan", "archival  orders.idempotency v3")
        assert "/ retry key expiry" in shown
        assert len(asked(client, "search")) <= 8, "not at every key"
        marked = [
            segment.text
            for strip in pane(app).query_one("#search")._lines  # type: ignore[attr-defined]
            for segment in strip
            if segment.style is not None and segment.style.bold and segment.text in ("expiry", "key", "retry")
        ]
        assert {"expiry", "key"} <= set(marked)
        assert asked(client, "search")[-1].agent == API


async def test_keys_that_are_typed_do_nothing_else_and_esc_ends_the_search() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("slash", *typed("qxnvp-+"))
        await shows(pilot, "/ qxnvp-+", "found nowhere")
        await pilot.press("escape")
        await until(pilot, lambda: "qxnvp" not in text(app))
        assert isinstance(app.screen, MemoryScreen)
        assert not [
            name for name, _ in client.calls if name in ("memory.pin", "memory.evict", "memory.forget")
        ]


async def test_a_hit_is_opened_and_forgotten_and_is_not_found_again() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("slash", *typed("grep"), "enter")
        await shows(pilot, "1 hit")
        await pilot.press("enter")
        await shows(pilot, "Recall of api: tool", "grep place_order: 11 hits")
        await pilot.press("x")
        await shows(pilot, "would be gone  1 entry of recall")
        assert [request.dry for request in asked(client, "forget")] == [True]
        await pilot.press("enter")
        await shows(pilot, "gone           1 entry of recall", "nothing of it is found any more")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, MemoryScreen))
        await shows(pilot, "0 hits", "found nowhere", "870 entries")
    assert [request.dry for request in asked(client, "forget")] == [True, False, True]


async def test_forget_counts_for_what_is_chosen_and_esc_forgets_nothing() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("slash", *typed("expiry"), "enter")
        await shows(pilot, "4 hits")
        await pilot.press("x")
        await shows(pilot, "Forget", "this block", "all of api with: expiry", "would be gone  1 block")
        await pilot.press("right")
        await shows(pilot, "would be gone  1 block, 2 entries of recall, 1 note")
        await pilot.press("right")
        await shows(pilot, "would be gone  3 blocks, 10 entries of recall")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MemoryScreen))
    assert all(request.dry for request in asked(client, "forget"))


async def test_some_words_and_missing_meaning_are_said() -> None:
    client = MemoryClient()

    def search(request: api.SearchRequest) -> api.SearchInfo:
        hit = api.HitInfo(
            tier="archival", title="shared/a/b", text="some of it", at=1, version=2, meaning=True
        )
        return api.SearchInfo(hits=[hit], loose=True, degraded="the provider is away", seconds=0.0123)

    client.answers["memory.search"] = search
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "955 more")
        await pilot.press("slash", "a")
        await shows(
            pilot, "these have some", "by words only: the provider is away", "a/b v2", "by meaning", "12 ms"
        )


async def test_all_agents_are_searched_and_each_hit_says_whose_it_is() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "955 more")
        await pilot.press("slash", *typed("expiry"), "enter", "A")
        await shows(pilot, "Search  all agents", "plan  api")
        assert asked(client, "search")[-1].agent == ""
        await pilot.press("A")
        await shows(pilot, "Search  all tiers")


async def test_a_search_that_is_refused_says_why() -> None:
    def refuse(request: api.SearchRequest) -> None:
        raise Conflict("That cannot be searched", "it has nothing to look for")

    client = MemoryClient()
    client.answers["memory.search"] = refuse
    async with stage(client, press=OPEN) as (_, pilot):
        await shows(pilot, "955 more")
        await pilot.press("slash", *typed("\"'"), "enter")
        await shows(pilot, "That cannot be searched")


# --- the rest --------------------------------------------------------------------------------


async def test_o_exports_to_a_file_or_a_folder() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        await pilot.press("o")
        await shows(pilot, "Export memory of api", "memory-api.jsonl")
        await pilot.press("tab", "right")
        await shows(pilot, "A folder of Markdown files")
        await pilot.press("tab", "ctrl+u", *typed("here"), "enter")
        await shows(pilot, "The path is not absolute")
        await pilot.press("home", "slash", "enter")
        await until(pilot, lambda: not isinstance(app.screen, ExportScreen))
        await shows(pilot, "Exported to /here", "3 blocks, 861 entries, 6 notes")
    last = asked(client, "export")[-1]
    assert (last.agent, last.path, last.format) == (API, "/here", "markdown")


async def test_a_lost_kernel_leaves_what_was_known_and_takes_away_what_acts() -> None:
    client = MemoryClient()
    async with stage(client, press=OPEN) as (app, pilot):
        await shows(pilot, "955 more")
        client.fail()
        await shows(pilot, "Kernel unreachable")
        await pilot.press("escape")
        await shows(pilot, "expiry race.", "no kernel answers")
        await pilot.press("minus", "n", "x")
        assert isinstance(app.screen, MemoryScreen)
        client.dead = False
        await shows(pilot, "The kernel answers")
        await until(pilot, lambda: "no kernel answers" not in text(app))


async def test_hostile_texts_are_shown_harmless_and_edited_without_what_is_hidden() -> None:
    evil = "evil\x1b[31m\x1b]0;title\x07 [bold]text\u202e"
    client = MemoryClient()
    client.block_list[0] = block("task", evil, 10, 2_000)
    client.entry_list[0] = client.entry_list[0].model_copy(
        update={"text": evil, "role": evil, "source": evil}
    )
    client.note_list[0] = note("key\x1b[2J", evil, 1, evil, client.note_list[0].at)
    client.move_list[0] = client.move_list[0].model_copy(update={"what": evil, "why": evil})
    async with stage(client, (200, 50), press=OPEN) as (app, pilot):
        shown = await shows(pilot, "evil [bold]text")
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        for keys_pressed in (("enter",), ("tab", "enter"), ("tab", "down", "down", "down", "enter")):
            await pilot.press(*keys_pressed)
            await until(pilot, lambda: isinstance(app.screen, ItemScreen))
            assert "\x1b" not in text(app)
            await pilot.press("escape")
        await pilot.press("slash", *typed("evil"), "enter")
        await shows(pilot, "hits")
        assert "\x1b" not in text(app)
        await pilot.press("tab", "e")
        await shows(pilot, "Block task of api", "evil [bold]text", "hidden characters left out")
        assert "\x1b" not in text(app)


async def test_every_key_of_the_pane_has_something_that_does_it() -> None:
    async with stage(MemoryClient(), press=OPEN) as (app, _):
        screen = pane(app)
        for key in app.keys.pane(keys.MEMORY):
            method = "do_" + key.id.replace(".", "_")
            assert hasattr(screen, method) or hasattr(app, method), key.id


async def test_leaving_at_once_harms_nobody() -> None:
    client = MemoryClient()
    async with stage(client) as (app, pilot):
        for _ in range(3):
            await pilot.press(
                "down", "4", "slash", "a", "escape", "v", "escape", "e", "escape", "escape", "1"
            )
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))


@pytest.mark.parametrize(
    ("size", "theme"), [((80, 24), "mono"), ((60, 18), "ansi"), ((40, 10), "htop"), ((20, 5), "htop")]
)
async def test_it_works_on_small_terminals_without_colour_and_unicode(
    size: tuple[int, int], theme: str
) -> None:
    client = MemoryClient()
    client.block_list[1] = block("plan", "größer → 漢字 ist hier", 20, 2_000)
    async with stage(client, size, theme=theme, ascii=True, press=OPEN) as (app, pilot):
        await until(pilot, lambda: bool(pane(app).working.blocks))
        for key in ("down", "tab", "down", "tab", "tab", "tab", "tab", "end", "pageup", "home", "pagedown"):
            await pilot.press(key)
            assert text(app).isascii()
            assert max(len(line) for line in text(app).splitlines()) <= size[0]
        for key in ("enter", "e", "v", "x", "n", "o"):
            await pilot.press("home", "down", key)
            await pilot.pause(0.1)
            assert text(app).isascii(), key
            await pilot.press("escape")
        await pilot.resize_terminal(200, 50)
        await pilot.resize_terminal(80, 24)
        assert text(app).isascii()
