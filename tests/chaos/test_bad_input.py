"""What a person may get wrong: each answer says what, why and what to do, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import missing

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.clock import SystemClock
from agenttop.core.journal.events import AgentCreated, RunExited, RunStarting
from agenttop.core.journal.journal import Journal

from .conftest import Shell

USER = 61_235

FLEET = """\
[agents.lead]
command = ["sleep", "600"]
cwd = "/tmp"
nice = 5

[agents.coder]
command = ["sleep", "600"]
cwd = "/tmp"
parent = "lead"
labels = { team = "api" }

nice = "very"
"""


def test_an_unknown_reference_is_exit_3_and_the_others_are_done(sh: Shell) -> None:
    sh.ok("run", "--name", "one", "--", "sleep", "600")
    said = sh.fails(3, "inspect", "nobody")
    assert said == "agenttop: no agent nobody. `agenttop ps --all` lists every agent.\n"
    done = sh("pause", "nobody", "one")
    assert done.returncode == 3
    assert "no agent nobody" in done.stderr
    assert sh.agent("one")["state"] == "paused"
    for verb in ("resume", "stop", "kill", "restart", "wait", "logs", "rm"):
        assert "no agent nobody" in sh.fails(3, verb, "nobody")


@pytest.mark.anyio
async def test_an_ambiguous_prefix_names_whom_it_fits(sh: Shell) -> None:
    sh.paths.make_state()
    async with await Journal.open(sh.paths.journal, SystemClock()) as journal:
        for agent, name in (("ab01", "first"), ("ab02", "second")):
            spec = AgentSpec(name=name, command=["true"])
            await journal.commit(
                AgentCreated(agent=agent, spec=spec, owner="ana"),
                RunStarting(agent=agent, run=1),
                RunExited(agent=agent, run=1, code=0, cause="exit", failed=False, seconds=1.0),
            )
    said = sh.fails(3, "inspect", "ab")
    assert "ab is the beginning of 2 ids" in said
    assert "ab01 first, ab02 second" in said
    assert "Give more characters" in said
    assert "first" in sh.ok("inspect", "ab01")


def test_a_second_agent_of_the_same_name_is_refused_and_the_first_lives(sh: Shell) -> None:
    first = sh.ok("run", "--name", "api", "--", "sleep", "600").split()[0]
    said = sh.fails(1, "run", "--name", "api", "--", "sleep", "600")
    assert f"the name api is taken. Agent {first} has it".lower() in said.lower()
    assert [agent["id"] for agent in sh.ps("--all")] == [first]


def test_a_wrong_type_in_a_fleet_file_names_file_line_and_field(sh: Shell, tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(FLEET)
    said = sh.fails(2, "up", "-f", str(file))
    assert said.startswith(f"agenttop: {file} line 12: agents.coder.nice: "), said
    assert sh("ps", "--json", "--all").stdout.strip() == "[]"  # nothing of it was begun


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "a" * 64, "-dash", "sp ace"])
def test_a_name_that_would_break_a_line_is_a_usage_error(sh: Shell, name: str) -> None:
    said = sh.fails(2, "run", f"--name={name}", "--", "true")
    assert "a name has letters" in said
    assert "\x1b" not in said
    assert said.count("\n") == 1


def interpreter() -> str:
    """A Python that an ordinary user may run; the tests' own may lie in root's home."""
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        check = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
        command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", candidate, "-c", check]
        if os.path.exists(candidate) and subprocess.run(command, capture_output=True).returncode == 0:
            return candidate
    missing("user", "no interpreter of this version that an ordinary user may run")
    raise AssertionError


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="agenttop-user-", dir="/tmp"))
    try:
        made.chmod(0o755)
        yield made
    finally:
        shutil.rmtree(made)


def as_user(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parent.parent.parent
    libraries = [str(root / ".typing"), *(path for path in sys.path if "site-packages" in path)]
    return subprocess.run(
        [
            *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
            *(interpreter(), "-P", "-m", "agenttop.tui.main", *arguments),
        ],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "AGENTTOP_HOME": str(home),
            "PYTHONPATH": os.pathsep.join(libraries),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
    )


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that is not ours")
@pytest.mark.parametrize("made", [False, True], ids=["its parent is not ours", "it is somebody else's"])
def test_an_unwritable_state_folder_is_said_with_a_way_out(made: bool) -> None:
    with folder() as home:
        if made:
            (home / "state").mkdir(mode=0o755)
        for arguments in (("ps",), ("run", "--", "true")):
            done = as_user(home, *arguments)
            assert done.returncode == 1, done
            assert done.stdout == ""
            assert done.stderr.startswith("agenttop: cannot use the state folder"), done.stderr
            assert str(home / "state") in done.stderr
            assert "Set AGENTTOP_HOME to a folder you can write." in done.stderr
            assert done.stderr.count("\n") == 1
