"""The screen in a real terminal: into an agent and back, and the fleet is as it was."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenttop.core import quick
from agenttop.core.paths import Paths
from agenttop.tui.demo.cleanup import clean

from ..support.outer import Outer, need_tmux, outer_tmux

pytestmark = pytest.mark.tmux

US = shlex.join([sys.executable, "-P", "-m", "agenttop.tui.main"])
# What it prints does not stand in its command, which is in the table.
ECHO = "echo hello th''ere; while read line; do echo got $line; done"


class Fleet:
    """Some agents of one kernel, two of them in terminals."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def ask(self, target: str, body: object = None) -> object:
        return quick.ask(self.paths.socket, target, body)

    def run(self, name: str, backend: str, script: str) -> None:
        spec = {"name": name, "backend": backend, "command": ["sh", "-c", script], "cwd": "/tmp"}
        environ = {"PATH": os.environ["PATH"]}
        self.ask("/v1/run", {"spec": spec, "environ": environ})

    def history(self, name: str) -> list[str]:
        found = self.ask(f"/v1/agents/{name}/history")
        assert isinstance(found, dict)
        return list(found["lines"])


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Outer]:
    """A person's shell of 120×34, in a tmux of their own."""
    need_tmux()
    rc = tmp_path / "rc"
    rc.write_text(f'PS1=\'$ \'; agenttop() {{ {US} "$@"; echo "status=$?"; }}\n')
    home.mkdir()
    (home / "config.toml").write_text("[observe]\nenabled = false\n")
    try:
        with outer_tmux(tmp_path, f"exec bash --rcfile {rc} -i", (120, 34)) as outer:
            outer.until_shows("$")
            yield outer
    finally:
        assert clean(home, None) == []


@pytest.fixture
def screen(shell: Outer) -> Outer:
    """agenttop on it, with four agents."""
    shell.type("agenttop ps -q; clear; agenttop")
    shell.press("Enter")
    shell.until_shows("F10Quit")
    fleet = Fleet(Paths.from_environ())
    fleet.run("plain", "subprocess", "exec sleep 600")
    fleet.run("talker", "terminal", ECHO)
    fleet.run("talker-2", "terminal", "sleep 600")
    fleet.run("other", "subprocess", "exec sleep 600")
    shell.until_shows("plain", "talker-2", "other")
    return shell


def table(shown: str) -> list[str]:
    """The rows of the table without what changes by itself: name, tag, order."""
    return re.findall(r"^.*\b(?:plain|talker-2|talker|other)\b.*?(?=\s[A-Z] )", shown, re.MULTILINE)


def settled(screen: Outer, *texts: str) -> list[str]:
    return table(screen.until_shows(*texts))


def test_a_leads_into_an_agent_and_the_detach_key_back_to_the_fleet_as_it_was(screen: Outer) -> None:
    screen.press("t")  # a list
    screen.press("\\")
    screen.until_shows("Filter:")
    screen.type("talker")
    screen.press("Enter")
    screen.until(lambda shown: "plain" not in table_text(shown), "the filter")
    screen.press("Home")
    screen.press("Space")
    before = settled(screen, "aAttach", "•")
    assert len(before) == 2
    # The cursor may be on either: both are in terminals.
    screen.press("Home")
    screen.until_shows("aAttach")
    for word in ("once", "twice"):
        screen.press("a")
        screen.until_shows("leads back")
        screen.type(word)
        screen.press("Enter")
        screen.until(lambda shown, word=word: word in shown, "what was typed")  # type: ignore[misc]
        screen.press("C-\\")
        after = settled(screen, "F10Quit", "aAttach", "•")
        assert after == before
        assert "plain" not in table_text(screen.shown())
    # The size is that of whoever sits there: here, and where one comes back to.
    screen.press("a")
    screen.until_shows("leads back")
    screen("resize-window", "-x", "90", "-y", "20")
    screen.press("C-\\")
    screen.until(lambda shown: "F10Quit" in (shown.rstrip().splitlines() or [""])[-1], "the smaller screen")
    assert max(map(len, screen.shown().splitlines())) <= 90
    said = [line for name in ("talker", "talker-2") for line in Fleet(Paths.from_environ()).history(name)]
    assert "once" in said
    screen.press("Escape")
    screen.until(lambda shown: "plain" in table_text(shown), "the filter being taken away")
    screen.press("q")
    screen.until_shows("status=0")


def table_text(shown: str) -> str:
    """Everything above the events."""
    return shown.split("Events ──")[0]


def test_from_the_log_the_same_key_comes_back_to_it_and_an_end_leads_back_too(screen: Outer) -> None:
    find(screen, "talker")
    screen.press("l")
    screen.until_shows("hello there", "following")
    screen.press("a")
    screen.until_shows("leads back")
    screen.type("a word")
    screen.press("Enter")
    screen.until_shows("got a word")
    screen.press("C-\\")
    screen.until_shows("following", "got a word", "aAttach")
    screen.press("Escape")
    screen.until_shows("other", "F10Quit", "aAttach")
    # It ends while somebody sits in front of it: that leads back too, and is told.
    screen.press("a")
    screen.until_shows("hello there")
    screen.press("C-d")
    screen.until_shows("talker ended", "run 1 exited 0", "F10Quit")


def find(screen: Outer, name: str) -> None:
    """Put the cursor on an agent."""
    screen.press("/")
    screen.until_shows("Search:")
    screen.type(name)
    screen.until_shows(f"Search: {name}")
    screen.press("Enter")
    screen.until_shows("F10Quit")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_a_screen_that_is_ended_while_attached_leaves_agent_and_terminal_as_they_were(
    shell: Outer, how: signal.Signals
) -> None:
    shell.type("agenttop ps -q; stty -g >before; clear; agenttop")
    shell.press("Enter")
    shell.until_shows("F10Quit")
    fleet = Fleet(Paths.from_environ())
    fleet.run("talker", "terminal", ECHO)
    shell.until_shows("talker")
    find(shell, "talker")
    shell.until_shows("aAttach")
    shell.press("a")
    shell.until_shows("hello there")
    os.kill(waited_for(shell), how)
    shell.until(lambda shown: "hello there" not in shown, "the end of the client")
    shell.press("Enter")
    shell.type("echo us''able")
    shell.press("Enter")
    shell.until_shows("\nusable")
    shell.type("stty -g | cmp before - && echo as it was")
    shell.press("Enter")
    shell.until_shows("\nas it was")
    fleet.ask("/v1/press", {"ref": "talker", "keys": ["still here", "Enter"]})
    shell.type("agenttop attach talker")
    shell.press("Enter")
    shell.until_shows("got still here")


def waited_for(shell: Outer) -> int:
    """The screen, which the person's shell waits for."""
    pid = shell("display-message", "-p", "#{pane_pid}").strip()
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)
