from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agenttop.core.agents.states import Pause
from agenttop.core.api import NiceRequest, PauseRequest, Row, Target
from agenttop.core.backend import Chunk
from agenttop.core.client import KernelClient
from agenttop.core.clock import ManualClock
from agenttop.core.paths import Paths
from agenttop.tui import settings
from agenttop.tui.app import AgentTopApp
from agenttop.tui.settings import Settings

from ..support.sample import NOW, ROWS, SampleClient, header, row
from .stage import TERMINAL, StageClient, shows, stage, text, until

pytestmark = pytest.mark.anyio


def replace_state(one: Row, state: str) -> Row:
    """The same agent in another state."""
    return one._replace(state=state, reason=None, pause=None)


def names(shown: str) -> list[str]:
    """The names in the table, top down."""
    known = {one.name for one in ROWS}
    found = []
    for line in shown.splitlines():
        words = line.replace("├─", " ").replace("└─", " ").replace("│", " ").replace("•", " ").split()
        found += [word for word in words[:2] if word in known][:1]
    return found


async def test_the_first_frame_comes_before_any_answer_of_the_kernel() -> None:
    async def never() -> KernelClient:
        await asyncio.Event().wait()
        raise AssertionError

    app = AgentTopApp(never, clock=ManualClock(NOW), environ=TERMINAL)
    async with app.run_test(size=(80, 24)) as pilot:
        shown = await shows(pilot, "1 Fleet", "F1Help", "Agents: -", "NAME")
        assert "Spend: -" in shown


async def test_rows_show_state_reason_numbers_and_what_is_estimated() -> None:
    async with stage(size=(120, 34)) as (_, pilot):
        shown = await shows(pilot, "claude-4182", "tool shell: npm test")
    lines = {line.split()[0].lstrip("•"): line for line in shown.splitlines() if line.strip()}
    assert (
        "├─api            X Bash 41s   sonnet-4.5    76  108k  29k  5.4M  61k  3.54   44    1"
        in lines["b20c"]
    )
    assert "~69  ~40k" in lines["5e80"]
    assert "~1.96  obs" in lines["5e80"]
    assert "unpr." in lines["17de"]
    assert "frz 14/14" in lines["2b9a"]
    assert "3!" in lines["4d15"]


@pytest.mark.parametrize("size", [(80, 24), (120, 34), (200, 50), (40, 10), (60, 16), (20, 5)])
async def test_no_line_is_longer_than_the_terminal(size: tuple[int, int]) -> None:
    async with stage(size=size) as (app, pilot):
        await shows(pilot, "lead")
        lines = app.screen._compositor.render_strips()
        assert [strip.cell_length for strip in lines] == [size[0]] * size[1]


async def test_forty_by_ten_is_usable() -> None:
    async with stage(size=(40, 10)) as (_, pilot):
        shown = await shows(pilot, "14 agents", "NAME", "WHY", "F10Quit", "F9Kill")
        assert len(names(shown)) == 7
        await pilot.press("end")
        await shows(pilot, "embed")


async def test_the_header_sums_what_the_rows_say() -> None:
    async with stage(size=(120, 34)) as (_, pilot):
        shown = await shows(pilot, "Agents: 14")
    for part in ("4 executing 3 planning 2 idle 3 waiting 1 paused 1 error", "253k/400k tok/min",
                 "$23.41/$50.00 today", "in 4.6M cache 30M out 838k  ≥$25.70", "$2.29 observed, 1 unpr.",
                 "Token load: 0.71 0.64 0.41", "$50 lasts 1h39", "kernel 0.4% 49M"):  # fmt: skip
        assert part in shown, part


async def test_search_moves_the_cursor_as_one_types_and_escape_goes_back() -> None:
    async with stage(press=("slash", "f", "l", "a")) as (app, pilot):
        await until(pilot, lambda: app.model.current is not None and app.model.current.name == "flaky-hunt")
        await shows(pilot, "Search: fla")
        await pilot.press("escape")
        assert app.model.current is not None
        assert app.model.current.name == "lead"
        await shows(pilot, "F1Help")


async def test_filter_keeps_what_matches_and_escape_clears_it() -> None:
    async with stage(press=("backslash", *"codex", "enter")) as (_, pilot):
        await until(pilot, lambda: len(names(text(pilot.app))) < 14)
        assert set(names(text(pilot.app).split("─ Events")[0])) == {"ui", "migrate", "codex-977"}
        await pilot.press("escape")
        await shows(pilot, "scrape", "embed")


async def test_keys_typed_into_the_prompt_do_nothing_else() -> None:
    client = SampleClient()
    async with stage(client, press=("slash", "p", "q", "x", "h", "f10")) as (app, pilot):
        await shows(pilot, "Search: pqxh")
        assert app.is_running
    assert client.calls == []


async def test_tree_and_list() -> None:
    async with stage() as (_, pilot):
        await shows(pilot, "└─api-tests")
        await pilot.press("t")
        await until(pilot, lambda: "└─" not in text(pilot.app))
        assert names(text(pilot.app))[:3] == ["lead", "api", "migrate"]


async def test_sorting_by_the_column_beside_and_from_the_list() -> None:
    async with stage(press=("t", "greater_than_sign")) as (app, pilot):
        await shows(pilot, "▽BUD%")
        assert names(text(app))[0] == "migrate"
        await pilot.press("f6")
        await shows(pilot, "Sort by", "tokens in the last minute")
        while app.screen.query_one("#choices").at > 1:  # type: ignore[attr-defined]
            await pilot.press("up")
        await pilot.press("enter")
        await shows(pilot, "NAME△")
        assert names(text(app))[:3] == ["api", "api-tests", "claude-4182"]


async def test_only_what_needs_me() -> None:
    async with stage(press=("exclamation_mark",)) as (_, pilot):
        await until(pilot, lambda: len(names(text(pilot.app).split("─ Events")[0])) == 3)
        assert set(names(text(pilot.app).split("─ Events")[0])) == {"migrate", "flaky-hunt", "scrape"}


async def test_pause_freezes_the_row_and_pause_again_resumes_it() -> None:
    client = SampleClient()
    async with stage(client, press=("down", "p")) as (_, pilot):
        await shows(pilot, "F frozen 9/9", "▌ frozen 9/9")
        await pilot.press("p")
        await until(pilot, lambda: len(client.calls) == 2)
    assert client.calls == [
        ("pause", PauseRequest(refs=["b20c"], how=Pause.FREEZE)),
        ("resume", Target(refs=["b20c"])),
    ]


async def test_hold_acts_on_all_tagged_rows() -> None:
    client = SampleClient()
    async with stage(client, press=("space", "space", "h")) as (_, pilot):
        await until(pilot, lambda: bool(client.calls))
        await shows(pilot, "2 tagged", "lead, api")
    assert client.calls == [("pause", PauseRequest(refs=["a1f3", "b20c"], how=Pause.HOLD))]


async def test_nice_steps_by_one() -> None:
    client = SampleClient()
    async with stage(client, size=(200, 50), press=("f8",)) as (app, pilot):
        await until(pilot, lambda: app.model.rows["a1f3"].nice == -4)
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: app.model.rows["a1f3"].nice == -5)
    assert [request for _, request in client.calls] == [
        NiceRequest(refs=["a1f3"], delta=1), NiceRequest(refs=["a1f3"], delta=-1),
    ]  # fmt: skip


async def test_an_error_is_a_toast_with_the_command_lines_own_words() -> None:
    async with stage(press=("slash", *"scrape", "enter", "p")) as (app, pilot):
        await shows(pilot, "scrape cannot be changed", "it has no process. Restart it first.")
        app.clock.advance(60)  # type: ignore[attr-defined]
        await pilot.pause(1.2)
        assert "scrape cannot be changed" in text(app), "errors stay until Esc"
        await pilot.press("escape")
        await until(pilot, lambda: "cannot be changed" not in text(app))


async def test_a_toast_never_lies_over_the_cursors_row() -> None:
    async with stage(size=(80, 16), press=("end",)) as (app, pilot):
        for _ in range(3):
            app.toast("something", "happened")
        await pilot.pause()
        toasts = app.fleet.query_one("#toasts").region
        y = app.fleet.cursor_y()
        assert y is not None
        assert not toasts.y <= y < toasts.bottom


async def test_a_frozen_display_stands_still_and_says_so() -> None:
    client = SampleClient()
    async with stage(client, press=("Z",)) as (app, pilot):
        await shows(pilot, "STANDS")
        client.push(client.rows["a1f3"]._replace(rate=777_000))
        await until(pilot, lambda: app.model.rows["a1f3"].rate == 777_000)
        assert "777k" not in text(app)
        await pilot.press("Z")
        await shows(pilot, "777k")


async def test_the_window_of_the_sums_changes_with_the_watch() -> None:
    async with stage(press=("w",)) as (app, pilot):
        await shows(pilot, "window total", "Total:")
        await until(pilot, lambda: app.model.window == "total")


async def test_states_are_counted_in_letters_where_their_words_do_not_fit() -> None:
    few = [replace_state(one, "idle") for one in ROWS]
    async with stage(SampleClient(few)) as (_, pilot):
        await shows(pilot, f"Agents: {len(few)}  {len(few)} idle")
    states = ("executing", "planning", "idle", "waiting", "paused", "error", "initializing", "terminated")
    many = [replace_state(one, states[n % len(states)]) for n, one in enumerate(ROWS)]
    async with stage(SampleClient(many)) as (_, pilot):
        first = (await shows(pilot, "Agents: ")).splitlines()[0]
        assert "…" not in first
        assert first.split("Agents:")[1].split()[1:] == ["2X", "2P", "2I", "2W", "2F", "2E", "1N", "1T"]


async def test_what_below_the_table_has_room_is_shown() -> None:
    async with stage(size=(80, 24)) as (_, pilot):
        await shows(pilot, "lead a1f3", "4 processes")
    async with stage(size=(120, 34)) as (_, pilot):
        await shows(pilot, "Events", "labelled #4127 bug")
        await pilot.press("i")
        await shows(pilot, "4 processes")
    async with stage(size=(200, 50)) as (_, pilot):
        await shows(pilot, "Output  lead a1f3", "Calls  lead", "412 today")


async def test_the_split_follows_the_cursor() -> None:
    async with stage(size=(200, 50), press=("down",)) as (_, pilot):
        await shows(pilot, "Output  api b20c", "Calls  api")


async def test_the_split_reads_on_when_the_agent_it_shows_begins() -> None:
    class Late(StageClient):
        asked = 0

        async def output(
            self, ref: str, *, follow: bool = False, run: int | None = None, tail: int | None = None
        ) -> AsyncIterator[Chunk]:
            self.asked += 1
            if self.asked > 1:  # the first look came before its first run
                yield Chunk("out", 0, b"here I am\n")
                await self.gone.wait()

    async with stage(Late(), size=(200, 50)) as (_, pilot):
        await shows(pilot, "Output  lead a1f3", "here I am")


async def test_panes_that_are_not_there_yet_say_so() -> None:
    async with stage(press=("2",)) as (app, pilot):
        await shows(pilot, "No Tasks pane yet", "later version")
        assert app.screen is app.fleet


async def test_the_events_pane_shows_filters_and_goes_back() -> None:
    async with stage(press=("6",)) as (app, pilot):
        await shows(pilot, "spawned api-tests", "following")
        await pilot.press("backslash", *"frozen", "enter")
        await until(pilot, lambda: "spawned" not in text(app))
        await shows(pilot, "frozen by ana: 14/14")
        await pilot.press("escape", "escape")
        await until(pilot, lambda: app.screen is app.fleet)


async def test_an_empty_fleet_says_what_was_found_and_what_to_press() -> None:
    async with stage(SampleClient(()), size=(80, 24)) as (_, pilot):
        shown = await shows(
            pilot, "No agents yet.", "New agent", "Found on this machine", "2.1.329", "kernel 0.4%"
        )
        assert "no key: set GEMINI_API_KEY" in shown


async def test_a_lost_kernel_leaves_the_last_snapshot_and_takes_the_acting_keys_away() -> None:
    client = SampleClient()
    async with stage(client) as (app, pilot):
        client.fail()
        await until(pilot, lambda: app.lost)
        await until(pilot, lambda: app.screen is not app.fleet)
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.fleet)
        shown = await shows(pilot, "scrape")
        assert "Pause" not in shown
        assert "Kill" not in shown
        await pilot.press("p")
        await shows(pilot, "No kernel answers")
        client.dead = False
        app.try_now()
        await until(pilot, lambda: not app.lost)
        await shows(pilot, "F9Kill")


async def test_stale_rows_say_since_when_and_tokens_stay_exact() -> None:
    rows = tuple(one._replace(stale=NOW - 38) if one.backend == "docker" else one for one in ROWS)
    async with stage(SampleClient(rows)) as (_, pilot):
        await shows(pilot, "stale 38s", " STALE ", "docker has not answered for 38s", "embed, nightly")


async def test_an_ailing_kernel_says_what_ails_it() -> None:
    sums = header(ROWS, problem="the journal cannot be written: no space left on device")
    async with stage(SampleClient(ROWS, sums)) as (_, pilot):
        await shows(pilot, " KERNEL ", "no space left on device")


async def test_hostile_names_and_tasks_are_only_text() -> None:
    hostile = row("dead", "a\x1b[31m\n[bold]b[/]", "idle", task="\x1b]0;pwned\x07[red]x[/red]\u202e")
    async with stage(SampleClient((hostile,))) as (_, pilot):
        shown = await shows(pilot, "a [bold]b[/]", "[red]x[/red]")
    assert "\x1b" not in shown
    assert "pwned" not in shown


async def test_without_unicode_every_line_is_ascii() -> None:
    async with stage(size=(120, 34), ascii=True, theme="mono", press=("down", "space")) as (_, pilot):
        shown = await shows(pilot, "|-api", "`-api-tests", "v$", ">=$25.70")
    assert shown.replace("●", "").isascii()


async def test_choices_are_kept_and_read_again(tmp_path: object) -> None:
    paths = Paths(config=tmp_path / "config", state=tmp_path / "state")  # type: ignore[operator]
    settings.save(
        paths.screen_file, Settings(columns=("name", "task"), sort="name", largest=False, theme="dusk")
    )
    async with stage(paths=paths) as (app, pilot):
        shown = await shows(pilot, "NAME△")
        assert "WHY" not in shown
        assert app.look.palette.data.name == "dusk"
        await pilot.press("i")
        await pilot.pause()
    assert settings.load(paths.screen_file).events is False


async def test_settings_that_cannot_be_read_are_told_and_do_no_harm(tmp_path: object) -> None:
    paths = Paths(config=tmp_path, state=tmp_path / "state")  # type: ignore[operator,arg-type]
    paths.screen_file.write_text("columns = 7\n")
    async with stage(paths=paths) as (_, pilot):
        await shows(pilot, "columns is 7", "lead")


async def test_quit_leaves_with_zero() -> None:
    async with stage() as (app, pilot):
        await pilot.press("q")
        await pilot.pause()
    assert app.return_value == 0


async def test_one_message_for_a_delta_whatever_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    client = SampleClient(tuple(row(f"{n:04x}", f"a{n}", "idle") for n in range(500)))
    async with stage(client) as (app, pilot):
        seen: list[object] = []
        monkeypatch.setattr(app.model, "apply", seen.append)
        client.push(*(one._replace(rate=5) for one in client.rows.values()))
        await until(pilot, lambda: bool(seen))
        assert len(seen) == 1


async def test_a_socket_that_opens_but_says_nothing_is_not_taken_for_a_kernel() -> None:
    client = SampleClient()
    async with stage(client) as (app, pilot):

        async def opens() -> KernelClient:
            return client

        app._session._connect = opens  # type: ignore[union-attr]
        client.fail()
        await until(pilot, lambda: app.trouble is not None and app.trouble.attempt >= 3)
        assert not [toast for toast in app.toasts if "answers" in toast.title]
        assert len([screen for screen in app.screen_stack if screen is not app.fleet]) == 1


async def test_a_failed_agent_says_in_its_row_how_it_ended_and_what_it_said_last() -> None:
    client = StageClient()
    (scrape,) = [row for row in client.rows.values() if row.name == "scrape"]
    async with stage(client) as (_, pilot):
        client.push(scrape._replace(detail="exit 3: ValueError: the bucket is gone"))
        shown = await shows(pilot, "ValueError: the bucket is")
        (line,) = [line for line in shown.splitlines() if "scrape" in line and "E exit 3" in line]
        assert "E exit 3 1m" in line
