from __future__ import annotations

import asyncio

import pytest

from agenttop.core.api import HostGauge
from agenttop.core.api.bus import (
    AskRequest,
    BusWatchRequest,
    DeadActRequest,
    PublishRequest,
    SendRequest,
    WaitRow,
)
from agenttop.core.errors import Conflict
from agenttop.tui.app import AgentTopApp
from agenttop.tui.screens.bus import BusScreen
from agenttop.tui.screens.dead_drop import DropScreen
from agenttop.tui.screens.message import MessageScreen
from agenttop.tui.screens.send import SendScreen

from ..support.sample import NOW, header
from ..support.sample_bus import MESSAGES, TALK, info, message
from .stage import StageClient, shows, stage, text, typed, until

pytestmark = pytest.mark.anyio

SIZES = [(80, 24), (40, 10), (90, 40), (250, 70)]


def pane(app: AgentTopApp) -> BusScreen:
    assert isinstance(app.screen, BusScreen)
    return app.screen


def asked(client: StageClient, verb: str) -> list[object]:
    return [request for name, request in client.calls if name == verb]


async def on(pilot: object, app: AgentTopApp) -> None:
    """The first picture is there."""
    await until(pilot, lambda: isinstance(app.screen, BusScreen) and app.screen.picture.known)  # type: ignore[arg-type]


async def test_the_pane_shows_trace_conversation_mailboxes_and_topics() -> None:
    async with stage(press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("down", "down", "down", "down")
        shown = await shows(pilot, "Conversation 9120", "4 messages; review waits for api")
    lines = shown.splitlines()
    (asks,) = [line for line in lines if " 9123 " in line]
    for part in (
        "14:04:18",
        "review",
        "api",
        "request",
        "delivered",
        "2m03",
        "is retry safe here?  deadline in 7m57",
    ):
        assert part in asks, part
    (dead,) = [line for line in lines if " 9124 " in line]
    assert "(receiver in error)" in dead
    assert "acked 3/4" in shown
    assert any("◀╌╌╌" in line for line in lines), "what is not acknowledged is dashed"
    assert any("──▶" in line for line in lines)
    for part in ("delivered, not acked", "waits 2m03", "in Bash since 14:05:40", "06:21 now"):
        assert part in shown, part
    (triage,) = [line.partition("│ triage")[2] for line in lines if "│ triage" in line]
    assert triage.split() == ["7", "50", "━────", "41s", "0"]
    for part in (
        "12 unread, 3 dead",
        "#issues",
        "3 subscribers",
        "4.1/min",
        "388 sent",
        "p95 0.9s",
        "3 dead",
    ):
        assert part in shown, part
    assert "No cycle in the wait-for graph.  longest wait: review for api, 2m03" in shown


async def test_a_deadlock_is_said_with_the_names_wherever_one_looks() -> None:
    client = StageClient()
    async with stage(client, (80, 24), press=("3",)) as (app, pilot):
        await on(pilot, app)
        client.bus.rings = (("api", "review", "docs"),)
        client.bus.waits = tuple(
            WaitRow(a, b, 9200 + n, NOW - 12 + n, NOW + 60)
            for n, (a, b) in enumerate((("api", "review"), ("review", "docs"), ("docs", "api")))
        )
        client.bus.push(whole=True)
        await shows(pilot, "DEADLOCK  api → review → docs → api  wait for each other since 10s")
        await pilot.press("g")
        await shows(pilot, "Who waits for whom", "3 waiting")
        # The names must be read without colour too: the badge is in reverse.
        strips = app.screen._compositor.render_strips()
        badge = [segment for strip in strips for segment in strip if segment.text == " DEADLOCK "]
        assert badge
        assert all(segment.style.bgcolor != segment.style.color for segment in badge)


async def test_the_newest_is_followed_until_the_cursor_leaves_it_and_f_goes_back() -> None:
    client = StageClient()
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        client.bus.push(message(9128, 0, "ui", "lead", "direct", "accepted", "done with the drawer"))
        await shows(pilot, "done with the drawer", "Conversation 9128")
        await pilot.press("down")
        await shows(pilot, "Conversation 9127", "f follows")
        client.bus.push(message(9129, 0, "ui", "lead", "direct", "accepted", "one more thing"))
        await shows(pilot, "1 newer, f follows", "Conversation 9127")
        assert "one more thing" not in text(app), "what is read does not move away"
        await pilot.press("f")
        await shows(pilot, "one more thing", "Conversation 9129")
        assert pane(app).table.following
        await pilot.press("f")
        assert not pane(app).table.following
        await pilot.press("end", "home")
        assert pane(app).table.following


async def test_a_message_changes_where_it_stands() -> None:
    client = StageClient()
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        client.bus.push(MESSAGES[6]._replace(state="acked", latency=24.0))
        await until(
            pilot, lambda: "acked" in next(line for line in text(app).splitlines() if " 9125 " in line)
        )
        assert len(pane(app).picture.trace.order) == len(MESSAGES)


async def test_standing_still_loses_nothing_and_says_how_many_are_new() -> None:
    client = StageClient()
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("Z")
        await shows(pilot, "STANDS, nothing new")
        for n in range(3):
            client.bus.push(
                *[
                    message(9130 + 10 * n + k, 0, "ui", "lead", "direct", "acked", f"new {n}{k}")
                    for k in range(10)
                ]
            )
        client.bus.push(MESSAGES[6]._replace(state="acked", latency=24.0))
        await shows(pilot, "STANDS, 30 new")
        assert "new 00" not in text(app)
        assert " accepted " in text(app)
        await pilot.press("Z")
        await shows(pilot, "new 29")
        trace = pane(app).picture.trace
        assert {f"new {n}{k}" for n in range(3) for k in range(10)} <= {
            row.text for row in trace.rows.values()
        }
        assert trace.rows[9125].state == "acked"


async def test_filter_asks_the_kernel_sifts_at_once_and_is_cleared_by_escape() -> None:
    client = StageClient()
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("backslash", *typed("triage"), "enter")
        await until(pilot, lambda: any(
            isinstance(request, BusWatchRequest) and request.text == "triage"
            for request in asked(client, "bus.watch")
        ))  # fmt: skip
        shown = await shows(pilot, "filter triage", " 9127 ", " 9125 ")
        assert " 9126 " not in shown
        client.bus.push(message(9140, 0, "ui", "lead", "direct", "acked", "not for this filter"))
        client.bus.push(message(9141, 0, "triage", "lead", "direct", "acked", "one for it"))
        await shows(pilot, "one for it")
        assert "not for this filter" not in text(app)
        await pilot.press("escape")
        await shows(pilot, "not for this filter", " 9121 ")
        await pilot.press("backslash", *typed("zzzz"), "enter")
        await shows(pilot, "no message has this in it")
        await pilot.press("backslash", "x", "escape")
        await shows(pilot, "filter zzzz")


async def test_search_goes_back_to_what_says_it() -> None:
    async with stage(press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("slash", *typed("price"))
        await until(pilot, lambda: (row := pane(app).table.current) is not None and row.seq == 9124)
        await pilot.press("escape")
        await until(pilot, lambda: pane(app).table.following)
        await pilot.press("slash", *typed("diff"), "enter")
        await shows(pilot, "Conversation 9120", "4 messages")


async def test_the_whole_conversation_is_asked_for_when_the_cursor_rests() -> None:
    client = StageClient()
    early = message(
        4_000, 9_000, "lead", "api", "direct", "acked", "begin with orders", trace=TALK, latency=1.0
    )
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        client.bus.rows[early.seq] = early  # the kernel has it, this trace does not
        await pilot.press("down", "down", "down", "down")
        await shows(pilot, "Conversation 4000", "4 parties, 5 messages", "begin with orders")
        assert [request.trace for request in asked(client, "bus.watch") if request.trace] == [TALK]  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", SIZES)
async def test_tab_goes_round_all_parts_at_every_size(size: tuple[int, int]) -> None:
    async with stage(size=size, press=("3",)) as (app, pilot):
        await on(pilot, app)
        said = {
            "talk": "Conversation",
            "graph": "Who waits",
            "boxes": "Mailboxes",
            "dead": "dead letters",
            "trace": "FROM",
        }
        for part in ("talk", "graph", "boxes", "dead", "trace"):
            await pilot.press("tab")
            await until(pilot, lambda part=part: pane(app).part == part)  # type: ignore[misc]
            await shows(pilot, said[part])
            for key in ("end", "pageup", "home"):
                await pilot.press(key)
        await pilot.press("shift+tab")
        assert pane(app).part == "dead"


@pytest.mark.parametrize("size", [(80, 24), (120, 34), (50, 12)])
async def test_without_colour_and_unicode_all_of_it_is_ascii(size: tuple[int, int]) -> None:
    async with stage(size=size, theme="mono", ascii=True, press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("down", "down", "down", "down")
        for _ in range(5):
            await pilot.press("tab")
            await pilot.pause()
            assert text(app).isascii(), text(app)
        await pilot.press("tab")
        shown = await shows(pilot, "Conversation")
        if size == (120, 34):
            assert "----->" in shown
            assert "<- - -" in shown


async def test_g_shows_who_talks_to_whom() -> None:
    async with stage(press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("g")
        shown = await shows(pilot, "Who talks to whom", "Who waits for whom")
        (row,) = [line for line in shown.splitlines() if line.startswith(" triage")]
        assert row.split("│")[0].split() == ["triage", "188", ".", ".", "26", ".", ".", ".", "214"]
        assert "is retry safe here?" in shown
        await pilot.press("g")
        await shows(pilot, "Conversation")


async def test_enter_opens_a_message_with_provenance_and_the_payload_in_full() -> None:
    client = StageClient()
    client.bus.payloads[9123] = {"question": "is retry safe?", "paths": ["orders.py", {"line": 3}]}
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("down", "down", "down", "down", "enter")
        shown = await shows(
            pilot, "Message m9123", "review (e5d1)", "it is no person's word", '"paths": [', '"line": 3',
            "14:14:18, in 7m57", "caused by", "m9122, 3 hops", f"00-{TALK}-",
        )  # fmt: skip
        assert "priority 4 of 9" in shown
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, SendScreen))
        assert app.screen.values["to"] == "e5d1"  # type: ignore[attr-defined]
        assert app.screen.cause == "m9123"  # type: ignore[attr-defined]


async def test_a_message_that_is_gone_says_so() -> None:
    client = StageClient()
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        del client.bus.rows[9127]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, MessageScreen))
        await shows(pilot, "no message m9127", "It is finished")


async def test_what_agents_write_is_text_and_nothing_else() -> None:
    evil = "\x1b]0;owned\x07[bold red]not markup[/] \x1b[2J\u202egnp \u0007 end"
    client = StageClient()
    client.bus.rows = {}
    client.bus.push(
        message(1, 5, "ev\x1b[31mil", "li\nne", "direct", "accepted", evil, type="ty\x1b[0m", note=evil)
    )
    client.bus.payloads[1] = {"a\x1b[2J": [evil, 1]}
    client.bus.dead[0] = client.bus.dead[0].model_copy(
        update={"reason": evil, "message": info(client.bus.rows[1], evil)}
    )
    async with stage(client, (200, 50), press=("3",)) as (app, pilot):
        await on(pilot, app)
        for key in ("enter", "escape", "g", "d", "d", "tab"):
            shown = text(app)
            assert not [char for char in shown if char != "\n" and not char.isprintable()], repr(shown)
            assert "\u202e" not in shown
            await pilot.press(key)
            await pilot.pause()
        assert "[bold red]not markup[/]" in text(app)


async def test_m_sends_as_a_person_and_an_error_loses_nothing_typed() -> None:
    client = StageClient()
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("down", "m")
        await shows(pilot, "New message", "as you: a person", "To")
        await pilot.press(*typed("please look"), "shift+tab", "ctrl+e", "ctrl+u", *typed("nobody"), "enter")
        await shows(pilot, "no mailbox nobody", "please look")
        await pilot.press("ctrl+e", "ctrl+u", *typed("api"), "enter")
        await until(pilot, lambda: not isinstance(app.screen, SendScreen))
        await pilot.press("f")
        await shows(pilot, "please look", "@ana")
    sent = asked(client, "bus.send")[-1]
    assert isinstance(sent, SendRequest)
    assert (sent.to, sent.payload, sent.type, sent.priority) == ("api", "please look", "text", 4)


async def test_json_is_checked_in_the_form_and_a_topic_is_published_to() -> None:
    client = StageClient()
    async with stage(client, press=("3", "m")) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, SendScreen))
        form = app.screen
        assert isinstance(form, SendScreen)
        form.inputs["to"].value = "#builds/ui"
        form.inputs["payload"].value = '{"ok": tru'
        form.inputs["format"].value = "JSON"
        form.inputs["priority"].value = "9"
        await pilot.press("enter")
        await shows(pilot, "This is no JSON", '{"ok": tru')
        assert not asked(client, "bus.publish")
        form.inputs["payload"].value = '{"ok": true}'
        await pilot.press("enter")
        await until(pilot, lambda: bool(asked(client, "bus.publish")))
    (sent,) = asked(client, "bus.publish")
    assert isinstance(sent, PublishRequest)
    assert (sent.topic, sent.payload, sent.type, sent.priority) == ("builds/ui", {"ok": True}, "json", 9)


async def test_a_question_is_waited_for_and_its_reply_read_in_the_form() -> None:
    client = StageClient()
    async with stage(client, press=("m",)) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, SendScreen))
        form = app.screen
        assert isinstance(form, SendScreen)
        assert form.values["to"] == "lead", "on the fleet it is for the cursor's agent"
        form.inputs["how"].value = "ask"
        await pilot.press(*typed("how far"), "enter")
        await shows(pilot, "Waiting for the reply")
        await until(pilot, lambda: client.bus.replies is not None)
        await pilot.press("escape")
        await shows(pilot, "You stopped waiting", "how far")
        await pilot.press("enter")
        await until(pilot, lambda: len(asked(client, "bus.ask")) == 2)
        await shows(pilot, "Waiting for the reply")
        assert client.bus.replies is not None
        client.bus.replies.put_nowait(info(message(9300, 0, "lead", "@ana", "reply", "acked", "half way")))
        await shows(pilot, "Reply from lead", "half way")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is app.fleet)
    (request, _) = asked(client, "bus.ask")
    assert isinstance(request, AskRequest)
    assert request.timeout == 60.0


async def test_dead_letters_are_put_back_and_thrown_away_after_asking() -> None:
    client = StageClient()
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("d")
        await shows(pilot, "3 dead letters", "receiver in error", "not acknowledged", "1h08")
        await pilot.press("r")
        await shows(pilot, "2 dead letters", "put back")
        await pilot.press("escape", "down", "x")
        await shows(pilot, "Throw a dead letter away", "nothing has been done yet", "All 2 of scrape")
        assert not asked(client, "bus.drop")
        await pilot.press("escape", "x", "enter")
        await until(pilot, lambda: not isinstance(app.screen, DropScreen))
        await shows(pilot, "1 dead letter ")
        await pilot.press("enter")
        await shows(pilot, "Message m")
    (revived,) = asked(client, "bus.revive")
    (dropped,) = asked(client, "bus.drop")
    assert isinstance(revived, DeadActRequest)
    assert (revived.agent, revived.ids) == ("4d15", ["m9124"])
    assert isinstance(dropped, DeadActRequest)
    assert dropped.ids == ["m9008"]


async def test_a_dead_message_of_the_trace_is_put_back_too_and_another_is_not() -> None:
    client = StageClient()
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("r")
        await shows(pilot, "No dead letter here")
        await pilot.press("down", "down", "down", "r")
        await until(pilot, lambda: bool(asked(client, "bus.revive")))
    (revived,) = asked(client, "bus.revive")
    assert isinstance(revived, DeadActRequest)
    assert (revived.agent, revived.ids) == ("scrape", ["m9124"])


async def test_enter_on_a_mailbox_shows_only_its_messages_and_m_writes_to_it() -> None:
    async with stage(press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("tab", "tab", "tab", "down", "down", "m")
        await until(pilot, lambda: isinstance(app.screen, SendScreen))
        assert app.screen.values["to"] == "api"  # type: ignore[attr-defined]
        await pilot.press("escape", "enter")
        shown = await shows(pilot, "filter api")
        assert " 9124 " not in shown


async def test_a_kernel_that_is_lost_leaves_what_was_seen_marked_and_is_watched_again() -> None:
    client = StageClient()
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        client.bus.fail()
        client.fail()
        await until(pilot, lambda: app.lost)
        await pilot.press("escape")
        await shows(pilot, "is retry safe here?")
        strips = app.screen._compositor.render_strips()
        (segments,) = [list(strip) for strip in strips if "price list" in strip.text]
        assert all(segment.style.italic for segment in segments if segment.text.strip())
        await pilot.press("r")
        await shows(pilot, "This can be done when it is back")
        client.dead = False
        app.try_now()
        await until(pilot, lambda: not app.lost)
        client.bus.push(message(9150, 0, "ui", "lead", "direct", "acked", "and we are back"))
        await shows(pilot, "and we are back")


async def test_a_bus_that_cannot_be_watched_says_why() -> None:
    client = StageClient()
    client.bus.failing["bus.watch"] = Conflict("the bus is closed", "Its store cannot be written")
    async with stage(client, press=("3",)) as (app, pilot):
        await shows(pilot, "the bus is closed", "cannot be written")
        del client.bus.failing["bus.watch"]
        await on(pilot, app)
        await shows(pilot, " 9127 ")


async def test_an_empty_bus_says_how_to_begin() -> None:
    client = StageClient()
    client.bus.rows, client.bus.boxes, client.bus.topics, client.bus.pairs = {}, (), (), ()
    client.bus.waits, client.bus.dead = (), []
    async with stage(client, press=("3",)) as (app, pilot):
        await shows(
            pilot, "no message yet: m writes the first one", "no mailbox yet", "Nobody waits for a reply"
        )
        await pilot.press("g", "d")
        await shows(pilot, "none: every message was delivered")
        await pilot.press("escape", "enter", "x", "r", "tab")
        assert isinstance(app.screen, BusScreen)


async def test_of_several_hosts_the_cursor_s_is_shown_and_o_goes_on() -> None:
    client = StageClient()
    rows = [row._replace(host="shed", id=f"shed/{row.id}") for row in list(client.rows.values())[:3]]
    client = StageClient(rows, header(rows)._replace(hosts=(HostGauge("box"), HostGauge("shed"))))
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        await shows(pilot, "on shed, o others")
        await pilot.press("m")
        await shows(pilot, "on shed, as you")
        await pilot.press("escape", "o")
        await shows(pilot, "on box, o others")
        await until(
            pilot,
            lambda: [getattr(request, "host", "") for request in asked(client, "bus.watch")][-1] == "box",
        )


async def test_a_change_that_comes_while_the_screen_is_taken_apart_is_let_go() -> None:
    client = StageClient()
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        await app.screen.query_one("#sentence").remove()  # as leaving does, before it ends who waits
        client.bus.push(message(9160, 0, "ui", "lead", "direct", "acked", "too late"))
        await until(pilot, lambda: not [one for one in app.workers if one.group == "bus"])


async def test_leaving_ends_both_watches() -> None:
    client = StageClient()
    async with stage(client, press=("3",)) as (app, pilot):
        await on(pilot, app)
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.fleet)
        await until(pilot, lambda: not [one for one in app.workers if one.group.startswith("bus")])
        assert asyncio.get_running_loop().is_running()


async def test_the_palette_opens_the_pane_and_writes_a_message() -> None:
    async with stage(press=("colon", *typed("bus"), "enter")) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, BusScreen))
        await pilot.press("1", "colon", *typed("message docs"), "enter")
        await until(pilot, lambda: isinstance(app.screen, SendScreen))
        assert app.screen.values["to"] == "docs"  # type: ignore[attr-defined]
