from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttop.core.backend import Chunk
from agenttop.tui.screens.details import DetailsScreen
from agenttop.tui.screens.logs import FileScreen, tail
from agenttop.tui.widgets.log_view import LogView
from agenttop.tui.widgets.output_feed import FLOOD, PACE, OutputFeed
from agenttop.tui.widgets.output_window import Change, OutputWindow

from .stage import StageClient, shows, stage, text, typed, until

pytestmark = pytest.mark.anyio

LINES = b"".join(b"line %05d of the output\n" % n for n in range(40_000))


def log_of(app: object) -> LogView:
    screen = app.screen  # type: ignore[attr-defined]
    assert isinstance(screen, DetailsScreen)
    return screen.log_view


@given(st.lists(st.binary(max_size=60), max_size=30), st.integers(2, 12))
@settings(deadline=None)
def test_the_window_is_bounded_contiguous_and_can_be_read_back(pieces: list[bytes], most: int) -> None:
    data = b"\n".join(pieces)
    window = OutputWindow(max_lines=most, max_chars=10_000)
    for at in range(0, len(data), 7):
        window.append([Chunk("out", at, data[at : at + 7])])
        assert len(window.lines) <= most
    low = window.low.get("out", 0)
    again = OutputWindow(max_lines=10_000)
    again.append([Chunk("out", 0, data)])
    kept = [line.text for line in window.lines]
    assert kept == [line.text for line in again.lines][len(again.lines) - len(kept) :]
    window.max_lines = 20_000
    window.prepend([Chunk("out", 0, data[:low])])
    assert [line.text for line in window.lines] == [line.text for line in again.lines]
    assert not window.more_above


def test_a_gap_clears_the_window_and_is_counted() -> None:
    window = OutputWindow()
    window.append([Chunk("out", 0, b"one\n")])
    change = window.append([Chunk("out", 5_004, b"late\n")])
    assert change.cleared
    assert [line.text for line in window.lines] == ["late"]
    assert window.skipped == 5_000


def test_what_overlaps_is_not_shown_twice() -> None:
    window = OutputWindow()
    window.append([Chunk("out", 0, b"one\ntwo\n"), Chunk("out", 4, b"two\nthree\n")])
    assert [line.text for line in window.lines] == ["one", "two", "three"]


def test_the_next_run_begins_at_zero_and_is_marked() -> None:
    window = OutputWindow()
    window.run = 1
    window.append([Chunk("out", 0, b"old\nhalf"), Chunk("out", 0, b"new\n")])
    assert [(line.text, line.mark) for line in window.lines] == [
        ("old", False), ("half", False), ("run 2", True), ("new", False),
    ]  # fmt: skip


async def test_following_shows_the_newest_line_and_both_streams() -> None:
    client = StageClient()
    client.out, client.err = LINES, b"warning on stderr\n"
    async with stage(client, press=("down", "l")) as (app, pilot):
        shown = await shows(pilot, "line 39999 of the output", "following")
        assert "▎warning on stderr" in shown
        await pilot.press("s")
        shown = await shows(pilot, "only out")
        assert "warning" not in shown
        assert log_of(app).following


async def test_scrolling_back_reads_everything_there_is_without_loss() -> None:
    client = StageClient()
    client.out = LINES
    async with stage(client, press=("down", "l")) as (app, pilot):
        await shows(pilot, "line 39999")
        log = log_of(app)
        seen: set[int] = set()
        for _ in range(30):
            await pilot.press("home")
            await until(pilot, lambda: log._reader is None or log._reader.is_finished)
            seen |= {int(line.text[5:10]) for line in log.window.lines}
            if not log.window.more_above:
                break
        await pilot.press("home")
        assert "line 00000 of the output" in await shows(pilot, "line 00000")
        assert seen == set(range(40_000))
        assert len(log.window.lines) <= log.window.max_lines
        await pilot.press("f")
        await shows(pilot, "line 39999", "following")


async def test_scrolling_down_again_goes_on_where_the_window_ends() -> None:
    client = StageClient()
    client.out = LINES
    async with stage(client, press=("down", "l")) as (app, pilot):
        await shows(pilot, "line 39999")
        log = log_of(app)
        while log.window.more_above:
            await pilot.press("home")
            await until(pilot, lambda: log._reader is None or log._reader.is_finished)
        before = int(log.window.lines[-1].text[5:10])
        assert before < 39_999
        log._go(len(log._rows) + 5)
        await until(pilot, lambda: int(log.window.lines[-1].text[5:10]) > before)
        numbers = [int(line.text[5:10]) for line in log.window.lines]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_search_finds_what_is_not_in_memory() -> None:
    client = StageClient()
    client.out = LINES
    async with stage(client, press=("down", "l")) as (app, pilot):
        await shows(pilot, "line 39999")
        await pilot.press("slash", *typed("line 30001"), "enter")
        await shows(pilot, "line 30001 of the output")
        assert not log_of(app).following
        await pilot.press("slash", *typed("LINE 2"), "enter")
        await shows(pilot, "nothing above")
        await pilot.press("escape")
        assert log_of(app).needle == ""


async def test_n_and_shift_n_go_through_the_matches() -> None:
    client = StageClient()
    client.out = b"".join(b"row %03d%s\n" % (n, b" ERROR" if n % 50 == 7 else b"") for n in range(400))
    async with stage(client, press=("down", "l")) as (app, pilot):
        await shows(pilot, "row 399")
        await pilot.press("slash", *typed("error"), "enter")
        log = log_of(app)
        found = []
        for key in ("N", "N", "n"):
            assert log._found is not None
            found.append(log._found.text)
            await pilot.press(key)
        assert found == ["row 357 ERROR", "row 307 ERROR", "row 257 ERROR"]
        assert log._found is not None
        assert log._found.text == "row 307 ERROR"


async def test_long_lines_are_cut_and_w_wraps_them() -> None:
    client = StageClient()
    client.out = b"start " + b"x" * 200 + b" the-end\n"
    async with stage(client, (80, 24), press=("down", "l")) as (_, pilot):
        assert "the-end" not in await shows(pilot, "start xxx", "…")
        await pilot.press("w")
        await shows(pilot, "the-end")
        await pilot.press("w", *["right"] * 20)
        await shows(pilot, "the-end")


async def test_hostile_output_is_text() -> None:
    client = StageClient()
    client.out = b"[bold red]markup[/]\n\x1b[2J\x1b]0;title\x07\x1b[31mred\x1b[0m\x1b[10;10Hhere\n"
    client.out += b" 10%\r 99%\n\x00\xff\n"
    async with stage(client, press=("down", "l")) as (_, pilot):
        shown = await shows(pilot, "[bold red]markup[/]", "redhere", "99%")
    assert "\x1b" not in shown
    assert "10%" not in shown


async def test_a_flood_is_skipped_and_costs_little() -> None:
    class Flooding(StageClient):
        sent = 0

        async def output(
            self, ref: str, *, follow: bool = False, run: int | None = None, tail: int | None = None
        ) -> AsyncIterator[Chunk]:
            # 200 MB/s and more: the next chunk is always there, and time passes in bytes.
            self.sent += 64 << 20
            at = self.sent - (tail or 0)
            block = b"flood of output, line after line\n" * 1986
            while True:
                yield Chunk("out", at, block)
                at += len(block)
                self.sent = max(self.sent, at)
                await anyio.lowlevel.checkpoint()

    client = Flooding()
    async with stage(client, press=("down", "l")) as (app, pilot):
        await shows(pilot, "MB skipped")
        log = log_of(app)
        assert log._feed is not None
        decoded = 0
        append = log.window.append

        def counting(chunks: Iterable[Chunk]) -> Change:
            nonlocal decoded
            some = list(chunks)
            decoded += sum(len(chunk.data) for chunk in some)
            return append(some)

        log.window.append = counting  # type: ignore[method-assign]
        began, sent = time.monotonic(), client.sent
        await until(pilot, lambda: time.monotonic() - began > 1.0)
        seconds = time.monotonic() - began
        assert client.sent - sent > 100 << 20
        assert 0 < decoded < (seconds / PACE + 2) * (FLOOD + (64 << 10))
        assert log._feed._size <= FLOOD + (64 << 10)
        assert log.window.skipped > 64 << 20
        await pilot.press("escape")


async def test_a_reader_holds_the_flood_back_instead_of_losing_lines() -> None:
    client = StageClient()
    client.out = LINES
    feed = OutputFeed(client, "b20c")
    feed.may_skip = False
    got: list[Chunk] = []

    def deliver(chunks: list[Chunk]) -> bool:
        got.extend(chunks)
        return True

    with anyio.move_on_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(feed.follow, deliver)
            while not got or got[-1].offset + len(got[-1].data) < len(LINES):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert all(a.offset + len(a.data) == b.offset for a, b in pairwise(got))
    assert got[-1].offset + len(got[-1].data) == len(LINES)


async def test_no_room_stops_the_reading_until_somebody_goes_on() -> None:
    client = StageClient()
    client.out = LINES[: 90 << 10]
    feed = OutputFeed(client, "b20c")
    calls = 0

    def deliver(chunks: list[Chunk]) -> bool:
        nonlocal calls
        calls += 1
        return calls > 1

    async with anyio.create_task_group() as group:
        group.start_soon(feed.follow, deliver)
        with anyio.fail_after(5):
            while calls < 1:
                await anyio.lowlevel.checkpoint()
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert calls == 1
        feed.go_on()
        group.cancel_scope.cancel()


def test_the_tail_of_a_file_begins_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "kernel.log"
    path.write_bytes(b"first\nsecond\nthird\n")
    assert tail(path) == (0, b"first\nsecond\nthird\n")
    assert tail(path, 9) == (13, b"third\n")


async def test_the_kernel_log_can_be_read_without_a_kernel(tmp_path: Path) -> None:
    path = tmp_path / "kernel.log"
    path.write_text("it began\nit \x1b[31mfailed\x1b[0m\n")
    async with stage() as (app, pilot):
        app.push_screen(FileScreen(path, "Kernel log"))
        await shows(pilot, "Kernel log", "it failed")
        path.write_text("another day\n")
        await pilot.press("r")
        assert "it failed" not in await shows(pilot, "another day")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, FileScreen))


async def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    async with stage() as (app, pilot):
        app.push_screen(FileScreen(tmp_path / "missing.log", "Kernel log"))
        await shows(pilot, "cannot be read: No such file or directory")
        assert text(app)
