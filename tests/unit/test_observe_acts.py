"""What can and cannot be done to a tree that somebody else started: real processes, shells and users."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agenttop.core.observe.acts import Acts
from agenttop.core.observe.proc import stat

from ..support.clis import Clis, start_time, states

DEADLINE = 60.0


@pytest.fixture
def clis(tmp_path: Path) -> Iterator[Clis]:
    made = Clis(tmp_path)
    yield made
    made.close()


def key(pid: int) -> tuple[int, int]:
    return pid, start_time(pid)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_another_process_of_the_same_pid_is_not_touched(clis: Clis) -> None:
    pid = clis.start("claude", "READY; read line")
    stranger = Acts((pid, start_time(pid) - 1))
    assert stranger.look() == []
    assert stranger.freeze(deadline=1.0).total == 0
    assert stranger.stop(0.0).processes == 0
    assert states(pid) == "S"


def test_what_a_managed_agent_runs_below_it_is_not_touched(clis: Clis) -> None:
    marked = "AGENTTOP_RUN=0123456789ab/a1b2.1 sleep 600 & sleep 600 & READY; read line"
    pid = clis.start("claude", marked)
    acts = Acts(key(pid))
    until(lambda: [process.comm for process in acts.look()] == ["claude", "sleep"])
    assert acts.freeze().frozen == 2
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert sorted(states(*children)) == ["S", "T"]
    acts.thaw()


def test_a_child_whose_parent_died_meanwhile_is_still_ended(clis: Clis) -> None:
    pid = clis.start("claude", "(trap '' TERM; echo; while :; do sleep 0.05; done) & READY; read line")
    acts = Acts(key(pid))
    until(lambda: len(acts.look()) >= 2)
    os.kill(pid, signal.SIGKILL)
    clis.reap(pid)
    killed = acts.stop(0.2)
    assert killed.survivors == ()
    assert killed.steps[-1].ok
    assert acts.look() == []


@pytest.fixture
def terminal() -> Iterator[Callable[..., int]]:
    """Starts an interactive shell in a terminal of its own; gives the terminal."""
    opened: list[tuple[int, int]] = []

    def start(command: str) -> int:
        pid, master = pty.fork()
        if not pid:
            os.execvp("bash", ["bash", "--norc", "-i"])
        opened.append((pid, master))
        os.write(master, f"{command}\n".encode())
        return master

    yield start
    for pid, master in opened:
        os.kill(pid, signal.SIGKILL)
        os.close(master)
        os.waitpid(pid, 0)


def test_what_its_shell_took_the_terminal_from_says_so_when_it_is_let_go(
    clis: Clis, terminal: Callable[..., int], tmp_path: Path
) -> None:
    told = tmp_path / "pid"
    script = f"echo $$ > {told}.new; mv {told}.new {told}; while :; do read line; done"
    master = terminal(f"{clis.program('claude')} -c '{script}'")
    until(lambda: _drained(master) and told.exists())
    pid = int(told.read_text())
    try:
        acts = Acts(key(pid))
        assert acts.freeze().complete
        until(lambda: _drained(master) and (found := stat(pid)) is not None and found.background)
        thawed = acts.thaw()
        # It goes on, reads from a terminal that is its shell's now, and is stopped for that.
        until(lambda: _drained(master) and states(pid) == "T")
        again = acts.thaw()
        assert (again.complete, again.background) == (False, (pid,)) or thawed.background == (pid,)
        os.write(master, b"fg\n")
        until(lambda: _drained(master) and states(pid) == "S")
        assert acts.thaw().complete
    finally:
        os.kill(pid, signal.SIGKILL)


def _drained(master: int) -> bool:
    while select.select([master], [], [], 0)[0]:
        os.read(master, 4096)
    return True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_other_users_processes_are_named_and_left_alone(clis: Clis) -> None:
    pid = clis.start("claude", "sleep 600 & READY; read line")
    script = (
        "import os; from agenttop.core.observe.acts import Acts\n"
        "os.setuid(65534)\n"
        f"acts = Acts(({pid}, {start_time(pid)}))\n"
        "print(len(acts.forbidden()), acts.freeze(deadline=0.2).frozen, len(acts.stop(0.0).survivors))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    assert done.stdout.split() == ["2", "0", "2"], done.stderr
    assert states(pid) == "S"
