"""The command line as a script meets it: whole processes, exit codes, stdout and stderr."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agenttop.core import lock
from agenttop.core.paths import Paths
from agenttop.core.uds import answers

LOOP = "while :; do echo tick; sleep 0.05; done"
SCRIPTS_RELY_ON = """id name state reason backend template owner parent labels nice model pid pids tokens
    cost_usd context_tokens context_limit run started_at exit_code observed"""
COMMAND = [sys.executable, "-P", "-m", "agenttop.tui.main"]


class Shell:
    """Runs ``agenttop`` in a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60,
            cwd=self.folder, env={**os.environ, **environ},
        )  # fmt: skip

    def ok(self, *arguments: str, stdin: str = "") -> str:
        done = self(*arguments, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), (arguments, done)
        return done.stdout

    def fails(self, status: int, *arguments: str, stdin: str = "", **environ: str) -> str:
        done = self(*arguments, stdin=stdin, **environ)
        assert (done.returncode, done.stdout) == (status, ""), done
        assert done.stderr.startswith("agenttop: ")
        assert "Traceback" not in done.stderr
        return done.stderr

    def ps(self, *arguments: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.ok("ps", "--json", *arguments))
        return found

    def popen(self, *arguments: str, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *arguments], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd=self.folder, **options,
        )  # type: ignore[call-overload,no-any-return]  # fmt: skip


@pytest.fixture
def sh(home: Path, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    paths = Paths.from_environ()
    if answers(paths.socket):
        shell("kill", "--all", "--yes")
        told = shell("kernel", "stop")
        assert told.returncode == 0, told
    log = paths.log.read_text() if paths.log.exists() else ""
    assert lock.holder_of(paths.lock) is None, log
    assert not paths.holder_socket.exists(), log


def test_the_first_show(sh: Shell) -> None:
    agent, name = sh.ok("run", "--name", "hello", "--", "sh", "-c", LOOP).split()
    assert name == "hello"
    (found,) = sh.ps()
    assert set(SCRIPTS_RELY_ON.split()) <= set(found)
    assert found["id"] == agent
    with sh.popen("logs", "-f", "hello") as following:
        assert following.stdout is not None
        assert [following.stdout.readline() for _ in range(3)] == ["tick\n"] * 3
        assert sh.ok("pause", "hello").startswith("hello frozen")
        (found,) = sh.ps()
        assert (found["state"], found["reason"]) == ("paused", "freeze")
        assert isinstance(found["pids"], list)
        assert "terminated" not in sh.ok("ps")
        assert sh.ok("resume", agent[:3]) == "hello resumed\n"
        killed = sh.ok("kill", "hello")
        assert killed.startswith("hello killed")
        assert "0 survivors" in killed
        following.stdout.read()
        assert following.wait(20) == 0
    assert sh.ps() == []
    assert [row["state"] for row in sh.ps("--all")] == ["terminated"]
    assert "terminated (" in sh.ok("ps", "-a")
    assert sh.ok("rm", "hello") == "hello removed\n"


def test_exit_codes(sh: Shell) -> None:
    assert "no agent nobody" in sh.fails(3, "kill", "nobody")
    unknown = sh("inspect", "nobody")
    assert (unknown.returncode, unknown.stdout) == (3, "[]\n")
    sh.fails(2, "pause")
    sh.fails(2, "pause", "x", "--all")
    sh.fails(2, "nonsense")
    assert "--nope" in sh.fails(2, "ps", "--nope")
    sh.fails(2, "ps", "--filter", "colour=red")
    assert "memory" in sh.fails(2, "run", "--memory", "lots", "--", "true")
    assert "newline" not in sh.fails(2, "run", "--name", "two\nlines", "--", "true")
    assert "/no/such" in sh.fails(1, "run", "--", "/no/such/program")
    assert sh("run", "--wait", "--", "sh", "-c", "exit 7").returncode == 7
    attached = sh("run", "-f", "--", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (attached.returncode, attached.stdout, attached.stderr) == (5, "out\n", "err\n")


def test_several_at_a_time_do_all_they_can(sh: Shell) -> None:
    for name in ("one", "two"):
        sh.ok("run", "--name", name, "--", "sleep", "600")
    done = sh("pause", "one", "nobody", "two")
    assert done.returncode == 3
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["one", "two"]
    assert done.stderr == "agenttop: no agent nobody. `agenttop ps --all` lists every agent.\n"
    told = json.loads(sh.ok("resume", "--all", "--json"))
    assert {outcome["name"] for outcome in told} == {"one", "two"}


def test_names_are_made_up_and_numbered_and_a_given_one_must_be_free(sh: Shell) -> None:
    names = [sh.ok("run", "--", "sleep", "600").split()[1] for _ in range(2)]
    assert names[0] == "sleep"
    assert names[1] not in ("", "sleep")
    assert "sleep" in sh.fails(1, "run", "--name", "sleep", "--", "true")


def test_what_destroys_much_asks_first(sh: Shell) -> None:
    sh.ok("run", "--name", "one", "--", "sleep", "600")
    assert "--yes" in sh.fails(2, "kill", "--all")
    assert "--yes" in sh.fails(2, "prune")
    assert "--yes" in sh.fails(2, "rm", "-f", "one")
    assert len(sh.ps()) == 1
    assert "one killed" in sh.ok("kill", "--all", "--yes")
    assert sh.ok("prune", "--yes") == "one removed\n"


def test_wait_prints_each_exit_code(sh: Shell) -> None:
    sh.ok("run", "--name", "a", "--", "sh", "-c", "exit 3")
    sh.ok("run", "--name", "b", "--", "sh", "-c", "exit 0")
    assert sh.ok("wait", "a", "b") == "3\n0\n"
    sh.ok("run", "--name", "c", "--", "sleep", "600")
    assert "0.1 s are over" in sh.fails(1, "wait", "--timeout", "0.1", "c")


def test_run_s_options_reach_the_spec(sh: Shell) -> None:
    (sh.folder / "env").write_text("# comment\nB=2\n\nA=0\n")
    sh.ok(
        "run", "--name", "x", "-e", "A=1", "--env-file", "env", "-l", "team=a", "--nice", "5",
        "--restart", "on-failure",
        "--max-restarts", "2", "--backoff", "10ms", "--grace", "1s", "--prompt", "do it",
        "--budget", "$5/day",
        "--", "sh", "-c", "echo $A$B; pwd",
    )  # fmt: skip
    sh.ok("wait", "x")
    assert sh.ok("logs", "x") == f"12\n{sh.folder}\n"
    (detail,) = json.loads(sh.ok("inspect", "x"))
    spec = detail["spec"]
    assert (spec["nice"], spec["labels"], spec["stop_grace"]) == (5, {"team": "a"}, 1.0)
    assert spec["restart"]["policy"] == "on-failure"
    assert spec["restart"]["max_restarts"] == 2
    assert spec["restart"]["backoff"] == 0.01
    assert detail["info"]["task"] == "do it"
    assert (spec["budget"]["usd"], spec["budget"]["window"]) == (5.0, "day")


def test_stdin_is_passed_through(sh: Shell) -> None:
    assert sh.ok("run", "-i", "-f", "--", "tr", "a-z", "A-Z", stdin="hello\n") == "HELLO\n"


def test_logs_are_raw_in_a_pipe_and_harmless_on_a_terminal(sh: Shell) -> None:
    sh.ok("run", "--name", "x", "--", "printf", r"a\033]0;title\007\033[31mb\033[0m\033[2J\n1\n2\n3\n")
    sh.ok("wait", "x")
    assert sh.ok("logs", "x") == "a\x1b]0;title\x07\x1b[31mb\x1b[0m\x1b[2J\n1\n2\n3\n"
    assert sh.ok("logs", "-n", "2", "x") == "2\n3\n"
    master, slave = pty.openpty()
    subprocess.run([*COMMAND, "logs", "x"], stdout=slave, stdin=subprocess.DEVNULL, check=True, timeout=60)
    os.close(slave)
    shown = b""
    while b"3\r\n" not in shown:
        shown += os.read(master, 4096)
    os.close(master)
    assert shown.startswith(b"a\x1b[31mb\x1b[0m\r\n1\r\n")


def test_nice_takes_negative_values_and_steps(sh: Shell) -> None:
    sh.ok("run", "--name", "x", "--", "sleep", "600")
    assert sh.ok("nice", "-5", "x") == "x nice -5\n"
    assert sh.ok("nice", "--by", "3", "x") == "x nice -2\n"
    sh.fails(2, "nice", "99", "x")


def test_events_since_tell_everything_once(sh: Shell) -> None:
    sh.ok("run", "--name", "x", "--", "true")
    sh.ok("wait", "x")
    rows = [json.loads(line) for line in sh.ok("events", "--since", "0", "--json").splitlines()]
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert "RunExited" in [row["kind"] for row in rows]
    only = sh.ok("events", "--since", "0", "--kind", "RunExited", "x")
    assert len(only.splitlines()) == 1


def test_top_in_batches(sh: Shell) -> None:
    sh.ok("run", "--name", "x", "--", "sleep", "600")
    tables = sh.ok("top", "-b", "-n", "2", "-d", "0.1").split("\n\n")
    assert len([table for table in tables if table.strip()]) == 2
    assert all(" x " in table for table in tables if table.strip())


def test_a_fleet_goes_up_twice_and_down(sh: Shell) -> None:
    (sh.folder / "fleet.toml").write_text(
        '[agents.a]\ncommand = ["sleep", "600"]\n[agents.b]\ncommand = ["sleep", "601"]\n'
    )
    assert sorted(sh.ok("up").splitlines()) == ["a created", "b created"]
    assert sorted(sh.ok("up", "-f", "fleet.toml").splitlines()) == ["a unchanged", "b unchanged"]
    (sh.folder / "fleet.toml").write_text('[agents.a]\ncommand = ["sleep", "602"]\n')
    assert "a changed" in sh.ok("up")
    assert len(sh.ok("down").splitlines()) == 2
    (sh.folder / "fleet.toml").write_text('[agents.a]\ncommand = ["sleep"]\nnice = "high"\n')
    assert "line 3" in sh.fails(2, "up")


def test_kernel_commands(sh: Shell) -> None:
    assert "kernel.sock is not there" in sh.fails(1, "kernel", "status")
    agent = sh.ok("run", "--name", "x", "--", "sleep", "600").split()[0]
    before = json.loads(sh.ok("kernel", "status", "--json"))
    assert {"pid", "version", "port", "agents"} <= set(before)
    assert before["agents"] == 1
    sh.ok("kernel", "restart")
    after = json.loads(sh.ok("kernel", "status", "--json"))
    assert after["pid"] != before["pid"]
    assert after["port"] == before["port"]
    assert [(row["id"], row["run"]) for row in sh.ps()] == [(agent, 1)]
    assert "answers at" in sh.ok("kernel", "log")
    sh.ok("kernel", "stop")
    assert [row["id"] for row in sh.ps()] == [agent]  # starts the kernel again; the agent ran on
    assert "--yes" in sh.fails(2, "kernel", "stop", "--agents")
    sh.ok("kernel", "stop", "--agents", "--yes")
    assert sh.ps() == []


def test_a_reader_that_leaves_is_no_error(sh: Shell) -> None:
    sh.ok("run", "--name", "x", "--", "sh", "-c", "yes | head -c 3000000")
    sh.ok("wait", "x")
    with sh.popen("logs", "x") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 141


def test_ctrl_c_is_130_and_the_agent_runs_on(sh: Shell) -> None:
    # Where the tests run in the background of a shell, SIGINT is ignored, and children inherit that.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = ("run", "--name", "x", "-f", "--", "sh", "-c", LOOP)
    with sh.popen(*command, start_new_session=True, preexec_fn=heard) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "tick\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
        assert "runs on" in process.stderr.read()
    assert [row["name"] for row in sh.ps()] == ["x"]


def test_inside_an_agent_children_are_its_own(sh: Shell) -> None:
    command = " ".join(COMMAND)
    sh.ok(
        "run",
        "--name",
        "mother",
        "--",
        "sh",
        "-c",
        f"{command} run --name child -- sleep 600; {command} kill child; sleep 600",
    )
    deadline = time.monotonic() + 30
    while "forbidden" not in (said := sh("logs", "mother").stderr) and "may not" not in said:
        assert time.monotonic() < deadline, said
    by_name = {row["name"]: row for row in sh.ps()}
    assert by_name["child"]["parent"] == by_name["mother"]["id"]


def test_doctor_says_what_there_is(sh: Shell) -> None:
    done = sh("doctor")
    assert done.returncode == 0
    assert "subprocess" in done.stdout
    assert {"group", "name", "level", "found", "hint"} <= set(json.loads(sh.ok("doctor", "--json"))[0])


def test_doctor_fails_when_the_state_folder_cannot_be_used(home: Path) -> None:
    home.write_text("in the way")
    done = subprocess.run([*COMMAND, "doctor"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "missing  state" in done.stdout


def test_version_help_and_completion_need_no_kernel(sh: Shell) -> None:
    assert sh.ok("--version").startswith("agenttop ")
    assert "Commands:" in sh.ok("--help")
    for shell in ("bash", "zsh", "fish"):
        assert "_AGENTTOP_COMPLETE" in sh.ok("completion", shell)
    done = sh(_AGENTTOP_COMPLETE="complete_bash", COMP_WORDS="agenttop ki", COMP_CWORD="1")
    assert done.stdout.split() == ["kill"]
    assert not Paths.from_environ().state.exists()


def test_agents_names_are_completed(sh: Shell) -> None:
    sh.ok("run", "--name", "hello", "--", "sleep", "600")
    done = sh(_AGENTTOP_COMPLETE="complete_bash", COMP_WORDS="agenttop kill he", COMP_CWORD="2")
    assert done.stdout.split() == ["hello"]


def test_ps_counts_the_processes_of_each_tree(sh: Shell) -> None:
    sh.ok("run", "--name", "tree", "--", "sh", "-c", "sleep 600 & sleep 600; :")
    sh.ok("run", "--name", "done", "--", "true")
    sh.ok("wait", "done")
    deadline = time.monotonic() + 20
    while len(sh.ps()[0]["pids"]) != 4:  # type: ignore[arg-type]  # the wrapper, its shell and two sleeps
        assert time.monotonic() < deadline
    heading, *rows = sh.ok("ps", "-a").splitlines()
    at = heading.index("PIDS")
    assert {row.split()[1]: row[at : at + 4].strip() for row in rows} == {"tree": "4", "done": "-"}
