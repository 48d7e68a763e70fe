"""An agent that begins to wait for its person calls them: bell, notification, mark in the header."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from agenttop.core.api import Row
from agenttop.core.client import KernelClient
from agenttop.core.clock import ManualClock
from agenttop.tui.app import AgentTopApp

from ..conftest import missing
from ..support.sample import NOW, SampleClient
from .stage import TERMINAL, text, until

pytestmark = pytest.mark.anyio

SAID = "\x1b]9;agenttop: api waits for input\a\x1b]777;notify;agenttop;api waits for input\a"


class Recorded(AgentTopApp):
    """Keeps what is written to the terminal besides the screen itself."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.called: list[str] = []
        super().__init__(*args, clock=ManualClock(NOW), environ=TERMINAL, **options)

    def listen(self) -> None:
        """Take what is for a person from what is written to the driver."""
        assert self._driver is not None
        write = self._driver.write

        def kept(data: str) -> None:
            if "\a" in data:
                self.called.append(data)
            write(data)

        self._driver.write = kept  # type: ignore[method-assign]


@asynccontextmanager
async def screen(
    client: SampleClient, *, terminal: bool = True, **options: Any
) -> AsyncIterator[tuple[Recorded, Pilot[int]]]:
    async def connect() -> KernelClient:
        return client

    app = Recorded(connect, terminal=terminal, **options)
    async with app.run_test(size=(120, 34)) as pilot:
        app.listen()
        await soon(pilot, lambda: app.model.known)
        yield app, pilot


async def soon(pilot: Pilot[int], true: Callable[[], bool]) -> None:
    await until(pilot, true, 30.0)


def waits(client: SampleClient, *names: str) -> list[Row]:
    """Rows of agents as they are when they wait for input."""
    found = [row for row in client.rows.values() if row.name in names]
    assert len(found) == len(names)
    return [row._replace(state="waiting", reason="input", needs=True) for row in found]


async def test_who_begins_to_wait_rings_and_notifies_once_and_is_counted_in_the_header() -> None:
    client = SampleClient()
    async with screen(client) as (app, pilot):
        before = app.model.needing_you
        assert app.model.waiting  # who waited before the screen was opened is not told of
        (row,) = waits(client, "api")
        client.push(row)
        await soon(pilot, lambda: bool(app.called))
        assert app.called == [SAID + "\a"]
        assert f"Need you:  {before + 1} " in text(app)
        client.push(row._replace(rate=1))
        await soon(pilot, lambda: app.model.rows[row.id].rate == 1)
        assert app._notices._waits.due() is None  # nothing more to come of it


async def test_a_storm_is_one_bell_and_one_sentence() -> None:
    client = SampleClient()
    async with screen(client) as (app, pilot):
        client.push(*waits(client, "api", "ui", "docs", "review"))
        await soon(pilot, lambda: bool(app.called))
        (said,) = app.called
        assert said.count("\x1b]9;") == 1
        assert "4 agents wait for you: " in said


@pytest.mark.parametrize(("keys", "said"), [(("bell",), [SAID]), (("osc",), ["\a"]), (("bell", "osc"), [])])
@pytest.mark.parametrize("where", ["config", "settings"])
async def test_each_can_be_turned_off_in_the_configuration_and_in_the_settings(
    keys: tuple[str, ...], said: list[str], where: str
) -> None:
    client = SampleClient()
    off = dict.fromkeys(keys, False)
    async with screen(client, notify=off if where == "config" else None) as (app, pilot):
        if where == "settings":
            app.change(**off)
        client.push(*waits(client, "api"))
        await soon(pilot, lambda: app._notices._waits._last > 0)
        assert app.called == said


async def test_without_the_mark_the_header_counts_plainly() -> None:
    client = SampleClient()
    async with screen(client, notify={"header": False}) as (app, _):
        needing = app.model.needing_you
        assert needing > 0
        assert f"Need you: {needing} " in text(app)


async def test_where_no_terminal_is_nothing_is_written() -> None:
    client = SampleClient()
    async with screen(client, terminal=False) as (app, pilot):
        client.push(*waits(client, "api"))
        await soon(pilot, lambda: app._notices._waits._last > 0)
        assert app.called == []


async def test_while_another_program_has_the_terminal_nothing_is_written_and_then_it_is() -> None:
    client = SampleClient()
    async with screen(client) as (app, pilot):
        app.app_suspend_signal.publish(app)
        client.push(*waits(client, "api"))
        await soon(pilot, lambda: bool(app.model.rows and len(app.model.waiting) > 0))
        await pilot.pause(1.2)
        assert app.called == []
        app.app_resume_signal.publish(app)
        await soon(pilot, lambda: bool(app.called))
        assert app.called == [SAID + "\a"]


# --- inside a tmux -------------------------------------------------------------------------------


class Outer:
    """Somebody's own tmux, attached to on a terminal of the test's, with the screen in its first window."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.go = folder, folder / "go"
        config = folder / "tmux.conf"
        config.write_text("set -g allow-passthrough on\nset -g monitor-bell on\nset -g bell-action any\n")
        self._tmux = ["tmux", "-S", str(folder / "socket"), "-f", str(config)]
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("TMUX", "AGENTTOP_", "STY"))}
        environ |= {"AGENTTOP_HOME": str(folder / "home"), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        command = [sys.executable, "-m", "tests.pilot.waiting_screen", str(self.go)]
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 34, 120, 0, 0))
        self.client = subprocess.Popen(
            [*self._tmux, "new-session", "-s", "own", "-n", "screen", *command],
            stdin=slave, stdout=slave, stderr=slave, env=environ, cwd=Path(__file__).parents[2],
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.said = b""

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([*self._tmux, *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def shows(self, window: str, what: str) -> str:
        """A format of tmux's for one of its windows; empty: the current one."""
        return self("display-message", "-p", "-t", f"own:{window}", what)

    def until(self, true: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Read what its terminal is sent until something is so."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"no {what}; it has {self.said[-800:]!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.said += os.read(self.master, 65_536)

    def close(self) -> None:
        """Leave nothing."""
        self("kill-server")
        self.client.kill()
        self.client.wait()
        os.close(self.master)


@pytest.fixture
def outer(tmp_path: Path) -> Iterator[Outer]:
    if shutil.which("tmux") is None:
        missing("tmux", "it is not on the PATH")
    one = Outer(tmp_path)
    try:
        yield one
    finally:
        one.close()


@pytest.mark.tmux
def test_a_notification_reaches_the_terminal_around_a_tmux_and_no_name_acts_on_it(outer: Outer) -> None:
    outer.until(lambda: b"Need you" in outer.said, "screen")
    outer.go.touch()
    outer.until(lambda: b"\x1b]9;agenttop: " in outer.said, "notification")
    outer.until(lambda: b"\x1b]777;notify;agenttop;ev" in outer.said, "second notification")
    outer.until(lambda: outer.said.rpartition(b"\x1b]777;")[2].count(b"\a") >= 2, "bell")
    said = outer.said.partition(b"\x1b]9;")[2].partition(b"\a")[0]
    assert said.startswith(b"agenttop: ev")
    assert said.endswith(b"waits for input")
    assert b"\x1b" not in said
    assert b"\x1b]2;il" not in outer.said


@pytest.mark.tmux
def test_the_bell_marks_the_window_of_the_screen_in_a_tmux(outer: Outer) -> None:
    outer.until(lambda: b"Need you" in outer.said, "screen")
    outer("new-window", "-t", "own:", "-n", "other", "exec sleep 300")
    outer.until(lambda: outer.shows("", "#{window_name}") == "other", "window")
    assert outer.shows("screen", "#{window_bell_flag}") == "0"
    outer.go.touch()
    outer.until(lambda: outer.shows("screen", "#{window_bell_flag}") == "1", "bell flag")
