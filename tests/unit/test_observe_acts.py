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

from agenttop.core.agents.sampler import Load
from agenttop.core.observe.acts import Acts
from agenttop.core.observe.control import stayed
from agenttop.core.observe.gauges import Tree
from agenttop.core.observe.proc import Census, below, stat

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


def test_what_only_names_a_kernel_is_no_kernel_and_is_ended_with_the_rest(clis: Clis) -> None:
    named = "import time; time.sleep(600)  # -m agenttop.core.daemon /holder_process.py"
    script = f"{sys.executable} -c '{named}' & READY; wait"
    pid = clis.start("claude", script)
    acts = Acts(key(pid))
    until(lambda: len(acts.look()) == 2)
    killed = acts.stop(0.0)
    assert (killed.processes, killed.survivors) == (2, ())


def test_a_kernel_that_an_agent_started_is_not_ended_with_it(clis: Clis, tmp_path: Path) -> None:
    module = tmp_path / "holder_process.py"
    module.write_text("import time; time.sleep(600)")
    pid = clis.start("claude", f"{sys.executable} -I -S {module} & READY; wait")
    acts = Acts(key(pid))
    until(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text())
    (kernel,) = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    begins = sys.executable.encode()
    until(lambda: Path(f"/proc/{kernel}/cmdline").read_bytes().startswith(begins))  # it has execed
    try:
        assert [process.pid for process in acts.look()] == [pid]
        assert acts.stop(0.0).processes == 1
        assert states(kernel) in "RS"
    finally:
        os.kill(kernel, signal.SIGKILL)


def test_what_left_the_tree_for_a_session_of_its_own_since_it_was_seen_is_not_in_it(clis: Clis) -> None:
    leave = "import os, sys; os.read(0, 1); os.setsid(); os.write(1, b'x'); os.read(0, 1)"
    start = "exec 3<&0; (PYTHON -c LEAVE <&3; :) & wait; read x".replace("PYTHON", sys.executable)
    pid = clis.start("claude", "READY; " + start.replace("LEAVE", f'"{leave}"'))
    watched = Census()

    def tree() -> Tree:
        watched.refresh()
        found = [stat(one) for one in below([pid], watched.children)]
        return Tree(tuple(process for process in found if process), Load(), 0, 0)

    until(lambda: len(tree().processes) == 3)
    seen = tree()
    main, shell, server = (process.pid for process in seen.processes)
    assert {one for one, _ in stayed(seen.processes[0], seen)} == {main, shell, server}
    stdin, stdout = clis.pipes(pid)
    stdin.write(b"x")
    stdin.flush()
    assert stdout.read(1) == b"x"
    os.kill(shell, signal.SIGKILL)
    until(lambda: states(shell) in "-Z")
    left = stayed(seen.processes[0], seen)
    assert {one for one, _ in left} == {main}
    Acts(key(pid), left).stop(0.0)
    try:
        assert states(server) == "S"
    finally:
        os.kill(server, signal.SIGKILL)


def test_more_processes_than_there_are_descriptors_are_ended_all_the_same(clis: Clis) -> None:
    script = (
        "import resource, sys; from agenttop.core.observe.acts import Acts\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (90, 90))\n"
        "print(len(Acts((int(sys.argv[1]), int(sys.argv[2]))).stop(0.2).survivors))\n"
    )
    pid = clis.start("claude", "trap '' TERM; for i in $(seq 120); do sleep 600 & done; READY; wait")
    done = subprocess.run(
        [sys.executable, "-c", script, str(pid), str(start_time(pid))],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.stdout.split() == ["0"], done.stderr


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
