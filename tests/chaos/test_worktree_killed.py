"""Kill -9 the kernel while git makes a worktree: neither lost nor doubled, and the agent runs in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.repos import Repo

from agenttop.core import quick

from .conftest import Shell, alive, until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Path]:
    """A file that git waits for while it checks a worktree out."""
    gate = tmp_path / "gate"
    yield gate
    gate.touch()


def gits(folder: Path) -> list[int]:
    """The processes of git that check something out below ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if command.startswith(b"git\0") and str(folder).encode() in command and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("git", ["survives", "dies"])
def test_a_worktree_that_a_killed_kernel_had_begun_is_there_once(
    sh: Shell, tmp_path: Path, slow: Path, git: str
) -> None:
    repo = Repo(tmp_path / "proj")
    for number in range(5):
        repo.write(f"file-{number}", "x\n")
    repo.write("slow", "x\n")
    repo.write(".gitattributes", "slow filter=slow\n")
    repo.commit("files")
    # The gate is open for whoever finds it; the first git has to wait.
    repo("config", "filter.slow.smudge", f"while [ ! -e {slow} ]; do sleep 0.05; done; cat")
    asked = sh.popen("run", "--name", "api", "--worktree", "--cwd", str(repo.path), "--", "sleep", "600")
    trees = sh.paths.worktrees
    until(lambda: list(trees.glob("*/proj/file-0")), "git being half way")
    sh.kill_kernel()
    if git == "dies":
        for pid in gits(trees):
            subprocess.run(["kill", "-KILL", str(pid)], check=False)
        until(lambda: not gits(trees), "git's end")
    asked.communicate(timeout=60)
    agent = sh.agent("api")  # another kernel, while the first one's git may still be at it
    slow.touch()

    def runs() -> bool:
        return bool(sh.agents()["api"]["pid"])

    until(runs, "the agent running", 60)
    [tree] = trees.glob("*/proj")
    assert tree.parent.name == f"api-{agent['id']}"
    assert repo.worktrees() == [str(repo.path), str(tree)]
    assert repo("status", "--porcelain", "--branch", cwd=tree) == "## agenttop/api"
    assert repo.branches() == {"main", "agenttop/api"}
    assert Path(f"/proc/{sh.agents()['api']['pid']}/cwd").resolve() == tree
    assert len(sh.happened("WorktreeMade")) == 1
    assert quick.ask(sh.paths.socket, "/v1/agents?all=true", any_version=True)[0]["run"] == 1
    sh.ok("rm", "--force", "--yes", "api")
    assert repo.worktrees() == [str(repo.path)]
