"""Terminals from the command line: in front of an agent in a real terminal, and from scripts."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenttop.core.uds import answers

from ..support.outer import PATIENCE, Outer, need_tmux, outer_tmux
from .test_cli import COMMAND, Shell, sh

pytestmark = pytest.mark.tmux

__all__ = ["sh"]

ECHO = "echo hello there; while read line; do echo got $line; done"
US = shlex.join(COMMAND)


@pytest.fixture(autouse=True)
def _tmux() -> None:
    need_tmux()


@pytest.fixture
def person(sh: Shell, tmp_path: Path) -> Iterator[Outer]:
    """A shell in a terminal of 90×24; what it ran last is followed by its status."""
    # As somebody's own shell would be: it knows nothing of what is typed into agents.
    rc = tmp_path / "rc"
    rc.write_text(f'PS1=\'$ \'; agenttop() {{ {US} "$@"; echo "status=$?"; }}\n')
    with outer_tmux(tmp_path, f"exec bash --rcfile {rc} -i", (90, 24)) as outer:
        outer.until_shows("$")
        yield outer


def test_a_person_attaches_types_and_is_back_in_their_shell_as_it_was(sh: Shell, person: Outer) -> None:
    sh.ok("run", "-t", "--name", "hello", "--", "sh", "-c", ECHO)
    person.type("stty -g >before; agenttop attach hello")
    person.press("Enter")
    person.until_shows("hello there", "Ctrl-\\ leads back")
    person.type("a word")
    person.press("Enter")
    person.until_shows("got a word")
    person.press("C-\\")
    shown = person.until_shows("status=0")
    assert "runs on" in shown
    assert "attached to hello" in shown
    assert "got a word" not in shown
    person.type("stty -g | cmp before - && echo as it was")
    person.press("Enter")
    person.until_shows("\nas it was")
    (found,) = sh.ps()
    assert found["state"] != "terminated"
    assert "got a word" in sh.ok("history", "hello")
    assert "attached to its terminal" in sh.ok("events", "hello")


def test_two_people_see_the_same_and_each_leaves_alone(sh: Shell, person: Outer, tmp_path: Path) -> None:
    sh.ok("run", "-t", "--name", "hello", "--", "sh", "-c", ECHO)
    second = tmp_path / "second"
    second.mkdir()
    with outer_tmux(second, f"{US} attach hello; echo status=$?; sleep 600", (70, 20)) as other:
        other.until_shows("hello there")
        person.type("agenttop attach hello")
        person.press("Enter")
        person.until_shows("hello there")
        other.type("from the other")
        other.press("Enter")
        person.until_shows("got from the other")
        person.press("C-\\")
        person.until_shows("status=0")
        other.type("still here")
        other.press("Enter")
        other.until_shows("got still here")


def test_an_agent_that_ends_shows_its_last_lines_and_gives_its_status(sh: Shell, person: Outer) -> None:
    person.type('agenttop run -it --name hello -- sh -c "echo asked; read x; echo no, $x; exit 7"')
    person.press("Enter")
    person.until_shows("asked")
    person.press("y", "Enter")
    shown = person.until_shows("status=7")
    assert "no, " in shown
    assert "run 1 exited 7" in shown


def test_a_frozen_agent_is_attached_to_once_it_is_resumed(sh: Shell, person: Outer) -> None:
    sh.ok("run", "-t", "--name", "hello", "--", "sh", "-c", ECHO)
    sh.ok("pause", "hello")
    person.type("agenttop attach hello")
    person.press("Enter")
    assert "agenttop resume hello" in person.until_shows("status=1").replace("\n", "")
    person.type("clear; agenttop attach --resume hello")
    person.press("Enter")
    person.until_shows("hello there")
    person.press("C-\\")
    person.until_shows("status=0")


def test_who_kills_the_client_leaves_the_agent_alone_and_the_terminal_usable(
    sh: Shell, person: Outer
) -> None:
    sh.ok("run", "-t", "--name", "hello", "--", "sh", "-c", ECHO)
    person.type("stty -g >before; agenttop attach hello")
    person.press("Enter")
    person.until_shows("hello there")
    os.kill(child_of(person, "attach"), 9)
    # Its client ends with it and takes its screen away: what the shell said meanwhile may go with that.
    person.until(lambda shown: "hello there" not in shown, "the end of the client")
    person.type("echo us''able")
    person.press("Enter")
    person.until_shows("\nusable")
    person.type("stty -g | cmp before - && echo as it was")
    person.press("Enter")
    person.until_shows("\nas it was")
    sh.ok("send-keys", "hello", "x", "Enter")


@pytest.mark.parametrize("killed", ["client", "server"])
def test_a_client_or_server_that_is_killed_leaves_the_terminal_as_it_was(
    sh: Shell, person: Outer, killed: str
) -> None:
    sh.ok("run", "-t", "--name", "hello", "--", "sh", "-c", ECHO)
    person.type("stty -g >before; agenttop attach hello; stty -g | cmp before - && echo as it was")
    person.press("Enter")
    person.until_shows("hello there")
    ours = child_of(person, "attach")
    (pid,) = Path(f"/proc/{ours}/task/{ours}/children").read_text().split()
    if killed == "server":
        argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        command = [*argv[: argv.index("attach-session")], "display-message", "-p", "#{pid}"]
        pid = subprocess.check_output(command, text=True, cwd=f"/proc/{pid}/cwd")
    os.kill(int(pid), 9)
    person.until_shows("status=", "\nas it was")
    flags = "#{alternate_on}#{mouse_any_flag}#{cursor_flag}#{keypad_flag}#{keypad_cursor_flag}"
    assert person("display-message", "-p", flags).strip() == "00100"


def child_of(person: Outer, word: str) -> int:
    """The process of ours that the person's shell waits for."""
    shell = person("display-message", "-p", "#{pane_pid}").strip()
    for pid in Path(f"/proc/{shell}/task/{shell}/children").read_text().split():
        if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return int(pid)
    raise AssertionError("it is not there")


def test_without_a_terminal_nobody_is_attached_and_nothing_is_started(sh: Shell) -> None:
    sh.ok("run", "--name", "plain", "--", "sleep", "600")
    assert "send-keys" in sh.fails(2, "attach", "plain")
    assert "no terminal" in sh.fails(2, "run", "-it", "--name", "hello", "--", "sh", "-c", ECHO)
    assert "--tty and --backend docker" in sh.fails(2, "run", "-t", "--backend", "docker", "--", "sh")
    assert [agent["name"] for agent in sh.ps()] == ["plain"]
    for command in (
        ["history", "plain"],
        ["send-keys", "plain", "x"],
        ["send-keys", "plain", "-l", "x"],
        ["send-keys", "plain", "-"],
    ):
        assert "has no terminal" in sh.fails(1, *command)
    sh.fails(3, "history", "nobody")
    sh.fails(2, "send-keys", "plain")


def test_scripts_type_and_read(sh: Shell) -> None:
    sh.ok("run", "-itd", "--name", "hello", "--", "sh", "-c", "printf '\\033[31mred\\033[0m\\n'; " + ECHO)
    sh.ok("send-keys", "hello", "first words", "Enter")
    sh.ok("send-keys", "hello", "-l", "Enter")
    sh.ok("send-keys", "hello", "Enter")
    sh.ok("send-keys", "hello", "-", stdin="from stdin\n")
    sh.ok("send-keys", "hello", "the last", "Enter")
    end = time.monotonic() + PATIENCE
    while "got the last" not in (said := sh.ok("history", "hello")):
        assert time.monotonic() < end, said
    assert [line for line in said.splitlines() if line.startswith("got")] == [
        "got first words", "got Enter", "got from stdin", "got the last",
    ]  # fmt: skip
    assert sh("history", "hello", "--grep", "GOT f").returncode == 1
    assert sh.ok("history", "hello", "--grep", "got f") == "got first words\ngot from stdin\n"
    assert sh.ok("history", "hello", "-n", "1") == "got the last\n"
    nothing = sh("history", "hello", "--grep", "nowhere")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "is no pattern" in sh.fails(2, "history", "hello", "--grep", "(")
    # The log is what can be read; every byte is there for who wants it.
    assert sh.ok("logs", "hello", "--tail", "1") == "got the last\n"
    assert "\x1b" not in sh.ok("logs", "hello")
    assert "\x1b[31mred" in sh.ok("logs", "--raw", "hello")
    sh.ok("kill", "hello")
    assert sh.ok("history", "hello").startswith(said)  # "Killed", says the wrapper's shell
    assert sh.ok("logs", "hello").startswith(said)


def test_where_tmux_is_missing_it_is_said_how_to_get_it_and_headless_agents_work(
    sh: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for program in ("sh", "sleep", "cat", "env", "bash", "echo"):
        found = shutil.which(program)
        assert found is not None
        (bare / program).symlink_to(found)
    monkeypatch.setenv("PATH", str(bare))
    assert "apt install tmux" in sh.fails(1, "run", "-t", "--name", "hello", "--", "sh", "-c", ECHO)
    assert sh.ps("--all") == []
    assert sh("run", "-f", "--", "sh", "-c", "echo works").stdout == "works\n"
    assert "apt install tmux" in sh("doctor").stdout
    assert answers(Path(os.environ["AGENTTOP_HOME"]) / "state" / "kernel.sock")
