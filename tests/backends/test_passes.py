"""A pass over /proc reads only what is new or ours, and still mistakes nobody for somebody else."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from agenttop.backends import proc, signals, tree
from agenttop.backends.ends import Ends
from agenttop.backends.runs import Run
from agenttop.core.backend import MARKER

pytestmark = pytest.mark.anyio

#: A pid namespace of its own, so that pids can be given out again without anybody else noticing.
_UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c"]

_PRELUDE = """
import os, subprocess, sys, time
sys.path.insert(0, os.path.join(sys.argv[1], ".typing"))
from pathlib import Path
from agenttop.backends import proc, tree
from agenttop.backends.runs import Run
from agenttop.core.backend import MARKER

def again(pid, *command, **env):
    # The next process gets this pid, which nobody has any more.
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(pid - 1))
    started = subprocess.Popen(command, start_new_session=True, env={**os.environ, **env})
    assert started.pid == pid, (started.pid, pid)
    return started

def settle(table, pid):
    # A pass reads young strangers again; only then are they taken as known.
    while (pid, proc.stat(pid).start_time) not in table._markers:
        time.sleep(0.05)
        table.fresh()
"""


def in_a_pid_namespace(script: str) -> str:
    if os.geteuid() != 0:
        pytest.skip("only root makes a pid namespace and chooses the next pid")
    code = _PRELUDE + textwrap.dedent(script)
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([*_UNSHARE, code, root], capture_output=True, text=True, timeout=60, check=False)
    if "unshare failed" in done.stderr or "ns_last_pid" in done.stderr:
        pytest.skip(f"no pid namespace here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_known_stranger_whose_pid_was_given_out_again_is_read_anew() -> None:
    said = in_a_pid_namespace(
        """
        table = tree.Table()
        stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
        settle(table, stranger.pid)
        stranger.kill(); stranger.wait()
        ours = again(stranger.pid, "sleep", "600", **{MARKER: "a.1"})
        while True:
            found = table.fresh().marked.get("a.1", [])
            if found:
                break
        print([process.pid == ours.pid for process in found])
        """
    )
    assert said.strip() == "[True]"


def test_an_orphan_is_not_taken_for_the_child_of_who_has_its_parents_pid_now() -> None:
    said = in_a_pid_namespace(
        """
        table = tree.Table()
        parent = subprocess.Popen(
            ["sh", "-c", "setsid sleep 600 & echo $!; exec sleep 600"], stdout=subprocess.PIPE, text=True
        )
        orphan = int(parent.stdout.readline())
        settle(table, parent.pid); settle(table, orphan)
        assert table.fresh().processes[orphan].ppid == parent.pid
        parent.kill(); parent.wait()
        ours = again(parent.pid, "sleep", "600", **{MARKER: "a.1"})
        run = Run("a.1", Path("/nowhere"), ours.pid, proc.stat(ours.pid).start_time, "")
        print([process.pid for process in tree.related(run, table.fresh())] == [ours.pid])
        """
    )
    assert said.strip() == "True"


@pytest.fixture
def marked() -> Iterator[subprocess.Popen[str]]:
    """A process of a run, which says so, and reads its orders from us."""
    env = {**os.environ, MARKER: f"passes{os.getpid()}.1"}
    shell = subprocess.Popen(
        ["sh"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    yield shell
    for process in tree.Table().fresh().marked.get(env[MARKER], ()):
        signals.send(process.pid, process.start_time, 9)
    shell.kill()
    shell.communicate()


def test_what_left_its_tree_after_a_pass_is_followed(marked: subprocess.Popen[str]) -> None:
    assert marked.stdin is not None
    assert marked.stdout is not None
    table = tree.Table()
    found = proc.stat(marked.pid)
    assert found is not None
    run = Run(f"passes{os.getpid()}.1", Path("/nowhere"), *found.key, "")
    # Without our marker and in a session of its own: known only by having been seen below us.
    marked.stdin.write(f"env -u {MARKER} setsid sh -c 'echo $$; exec sleep 600' & wait_for=$!\n")
    marked.stdin.flush()
    child = int(marked.stdout.readline())
    assert child in {process.pid for process in tree.related(run, table.fresh())}
    marked.stdin.write("exit\n")
    marked.stdin.flush()
    marked.wait()
    try:
        again = table.fresh().processes[child]
        assert again.ppid != marked.pid
        assert [process.pid for process in tree.related(run, table.fresh())] == [child]
    finally:
        signals.send(again.pid, again.start_time, 9)


# -- ends


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


def sleeper() -> tuple[subprocess.Popen[bytes], tuple[int, int]]:
    started = subprocess.Popen(["sleep", "600"], start_new_session=True)
    found = proc.stat(started.pid)
    assert found is not None
    return started, found.key


async def test_everyone_who_waits_is_told_of_the_end(ends: Ends) -> None:
    started, key = sleeper()
    told: list[int] = []

    async def wait(number: int) -> None:
        await ends.wait(key)
        told.append(number)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, 1)
            tasks.start_soon(wait, 2)
            await anyio.wait_all_tasks_blocked()
            assert told == []
            started.kill()
        assert sorted(told) == [1, 2]
        await ends.wait(key)  # it is gone: at once
    started.wait()


async def test_who_leaves_takes_the_others_wait_not_away(ends: Ends) -> None:
    started, key = sleeper()
    with anyio.move_on_after(0.01) as left:
        await ends.wait(key)
    assert left.cancelled_caught
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ends.wait, key)
            await anyio.wait_all_tasks_blocked()
            started.kill()
    started.wait()


async def test_an_end_before_anybody_waited_is_not_missed(ends: Ends) -> None:
    started, key = sleeper()
    ends.add(key, os.pidfd_open(started.pid))
    started.kill()
    started.wait()
    with anyio.fail_after(10):
        await ends.wait(key)
