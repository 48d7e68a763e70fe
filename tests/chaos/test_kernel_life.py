"""Kernels that die, race, restart or are of another version, seen from the command line."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import anyio

from agenttop.core.connect import connect

from .conftest import Shell, alive, marked, until

LOOP = "while :; do echo tick; sleep 0.02; done"


def test_a_socket_left_by_a_dead_kernel_is_replaced(sh: Shell) -> None:
    sh.paths.make_state()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(sh.paths.socket))
    said = sh.fails(1, "kernel", "status")
    assert "left by a kernel that died" in said
    sh.ok("run", "--name", "one", "--", "sleep", "600")
    assert [agent["name"] for agent in sh.ps()] == ["one"]


def test_of_two_kernels_started_at_once_one_wins_and_both_commands_succeed(sh: Shell) -> None:
    racers = [sh.popen("run", "--name", f"racer-{n}", "--", "sleep", "600") for n in range(4)]
    for racer in racers:
        out, err = racer.communicate(timeout=60)
        assert (racer.returncode, err) == (0, b""), out
    assert sorted(agent["name"] for agent in sh.ps()) == [f"racer-{n}" for n in range(4)]
    assert len(sh.happened("KernelStarted")) == 1


def test_a_kernel_of_another_version_is_named_and_can_be_replaced(sh: Shell) -> None:
    sh.ok("run", "--name", "one", "--", "sleep", "600")
    old = sh.kernel
    code = (
        "import sys, agenttop.core as core; core.__version__ = '9.9.9'\n"
        "from agenttop.tui.main import main; sys.exit(main())"
    )

    def newer(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments],
            env=sh.environ, capture_output=True, text=True, timeout=60, cwd="/tmp",
        )  # fmt: skip

    for arguments in (("ps",), ("kill", "one"), ("run", "--", "true")):
        done = newer(*arguments)
        assert done.returncode == 1, done
        assert done.stderr.startswith("agenttop: the kernel is of another version. ")
        assert "agenttop kernel restart" in done.stderr
    status = newer("kernel", "status")
    assert status.returncode == 0
    assert f"pid {old}" in status.stdout
    pid = sh.agent("one")["pid"]
    done = newer("kernel", "restart")
    assert done.returncode == 0, done
    assert sh.kernel != old
    assert sh.agent("one")["pid"] == pid
    assert newer("kernel", "stop").returncode == 0
    assert alive(pid)


def test_term_ends_the_kernel_and_no_agent(sh: Shell) -> None:
    sh.ok("run", "--name", "one", "--", "sh", "-c", LOOP)
    before = sh.agent("one")
    sh.kill_kernel(signal.SIGTERM)
    assert alive(before["pid"])
    after = sh.agent("one")
    assert (after["pid"], after["run"]) == (before["pid"], 1)
    assert len(sh.happened("RunStarted", name="one")) == 1


def test_a_stop_cut_in_its_grace_is_finished_by_the_next_kernel(sh: Shell) -> None:
    sh.ok("run", "--name", "deaf", "--grace", "3s", "--", "sh", "-c", "trap '' TERM; " + LOOP)
    until(lambda: b"tick" in sh.printed("deaf"), "the first output")
    with sh.popen("stop", "deaf") as stopping:
        until(lambda: sh.happened("StopRequested", name="deaf"), "the stop's beginning")
        sh.kill_kernel()
        assert stopping.wait(20) == 1
        assert stopping.stderr is not None
        assert b"agenttop: the kernel went away" in stopping.stderr.read()
    assert marked(sh.home)
    sh("wait", "deaf")
    ended = sh.agents()["deaf"]
    assert (ended["state"], ended["detail"]) == ("terminated", "stopped")
    assert not marked(sh.home)
    assert until(lambda: sh.happened("KillProven", name="deaf"), "the proof")


def test_frozen_stays_frozen_over_a_killed_kernel_and_resumes(sh: Shell) -> None:
    sh.ok("run", "--name", "one", "--", "sh", "-c", LOOP)
    until(lambda: b"tick" in sh.printed("one"), "the first output")
    sh.ok("pause", "one")
    size = len(sh.printed("one"))
    sh.kill_kernel()
    found = sh.agent("one")
    assert (found["state"], found["reason"]) == ("paused", "freeze")
    time.sleep(0.2)
    assert len(sh.printed("one")) == size
    sh.ok("resume", "one")
    until(lambda: len(sh.printed("one")) > size, "output after the resume")


def test_a_hold_survives_kernel_restarts_of_either_kind(sh: Shell) -> None:
    sh.ok("run", "--name", "one", "--", "sleep", "600")
    sh.ok("hold", "one")
    sh.ok("kernel", "restart")
    first = sh.agents()["one"]
    assert (first["state"], first["reason"]) == ("paused", "hold")
    sh.kill_kernel()
    again = sh.agent("one")
    assert (again["state"], again["reason"]) == ("paused", "hold")
    sh.ok("resume", "one")
    assert sh.agent("one")["state"] != "paused"


def test_a_policy_s_back_off_is_taken_up_by_the_next_kernel(sh: Shell, tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"echo x >> {count}; exit 1"
    file = tmp_path / "fleet.toml"
    file.write_text(
        f'[agents.flaky]\ncommand = ["sh", "-c", "{script}"]\ncwd = "/tmp"\n'
        '[agents.flaky.restart]\npolicy = "on-failure"\nbackoff = "1s"\nmax_restarts = 1\n'
    )
    sh.ok("up", "-f", str(file))
    until(lambda: sh.happened("RestartScheduled", name="flaky"), "the restart being scheduled")
    sh.kill_kernel()
    time.sleep(0.2)
    assert sh("wait", "flaky").returncode in (0, 1)
    assert count.read_text() == "x\nx\n"
    assert sh.agent("flaky")["run"] == 2


def test_input_written_before_and_after_a_killed_kernel_arrives_whole(sh: Shell) -> None:
    sh.ok("run", "--name", "cat", "--stdin", "--", "cat")

    async def write(data: bytes | None) -> None:
        async with await connect(sh.paths) as client:
            await client.write("cat", data)

    anyio.run(write, b"before\n")
    until(lambda: sh.printed("cat") == b"before\n", "the first line")
    sh.kill_kernel()
    anyio.run(write, b"after\n")
    anyio.run(write, None)
    sh.ok("wait", "cat")
    assert sh.ok("logs", "cat") == "before\nafter\n"
