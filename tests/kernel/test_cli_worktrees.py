"""Worktrees as a person meets them on the command line: work that is in no commit is never lost."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.repos import ENVIRON, Repo

from agenttop.core.paths import Paths
from agenttop.core.uds import answers

from .test_cli import COMMAND, Shell


@pytest.fixture
def repo(home: Path, tmp_path: Path) -> Repo:
    return Repo(tmp_path / "proj")


@pytest.fixture
def shell(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for name, value in ENVIRON.items():
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)
    shell = Shell(repo.path)
    yield shell
    if answers(Paths.from_environ().socket):
        shell("kill", "--all", "--yes")
        assert shell("kernel", "stop").returncode == 0


def test_uncommitted_work_of_a_removed_agent_is_still_there_and_the_message_says_where(
    shell: Shell, repo: Repo
) -> None:
    script = "echo precious > notes; echo changed >> README"
    shell.ok("run", "--name", "api", "--worktree", "--wait", "--", "sh", "-c", script)
    workspace = json.loads(shell.ok("inspect", "api"))[0]["workspace"]
    tree = Path(workspace["folder"])
    assert (workspace["branch"], workspace["worktree"], workspace["files"]) == ("agenttop/api", True, 2)
    assert not (repo.path / "notes").exists()
    diff = shell.ok("diff", "api")
    assert "+precious" in diff
    assert "+changed" in diff
    assert "2 files changed" in shell.ok("diff", "api", "--stat")
    assert "precious" not in shell.ok("diff", "api", "--", "README")
    assert repo("status", "--porcelain", cwd=tree) == " M README\n?? notes"  # the diff added nothing

    done = shell("rm", "api")
    assert done.returncode == 0
    assert f"its worktree stays in {tree} on branch agenttop/api: 1 changed file, 1 new file" in done.stdout
    assert f"cd {tree}" in done.stderr
    assert (tree / "notes").read_text() == "precious\n"
    assert shell.ps("--all") == []
    assert str(tree) in repo.worktrees()
    assert str(tree) in shell("doctor").stdout


def test_work_is_discarded_only_by_an_option_of_its_own_and_a_yes(shell: Shell, repo: Repo) -> None:
    shell.ok("run", "--name", "api", "-w", "--branch", "mine", "--wait", "--", "sh", "-c", "echo x > notes")
    tree = Path(json.loads(shell.ok("inspect", "api"))[0]["workspace"]["folder"])
    refused = shell.fails(2, "rm", "--discard", "api")
    assert "new  notes" in refused
    assert "needs an answer" in refused
    assert tree.exists()
    assert "1 new file" in shell.ok("rm", "--discard", "--yes", "api")
    assert not tree.exists()
    assert repo.branches() == {"main"}


def test_what_cannot_have_a_worktree_is_said_in_a_line(shell: Shell, repo: Repo, tmp_path: Path) -> None:
    said = shell.fails(2, "run", "--worktree", "--cwd", str(tmp_path), "--", "true")
    assert "It is in no git repository" in said
    assert "ask for one" in shell.fails(2, "run", "--branch", "x", "--", "true")
    assert "never reset" not in shell.fails(1, "run", "-w", "--branch", "main", "--", "true")
    assert repo.branches() == {"main"}
    assert "no git repository" in shell.fails(1, "diff", started(shell, tmp_path))


def started(shell: Shell, folder: Path) -> str:
    return shell.ok("run", "--cwd", str(folder), "--", "true").split()[0]


def test_who_starts_where_another_agent_works_is_warned_and_started(shell: Shell, repo: Repo) -> None:
    shell.ok("run", "--name", "one", "--", "sleep", "600")
    done = shell("run", "--name", "two", "--", "sleep", "600")
    assert done.returncode == 0
    assert done.stderr.startswith(f"agenttop: one works in {repo.path}, too")
    assert {agent["name"] for agent in shell.ps()} == {"one", "two"}
    assert "works with one in one folder" in shell.ok("events", "two")


def test_on_a_terminal_git_shows_the_diff_in_its_pager(shell: Shell, repo: Repo) -> None:
    shell.ok("run", "--name", "api", "-w", "--wait", "--", "sh", "-c", "echo precious > notes")
    leader, follower = pty.openpty()
    environ = {**os.environ, "GIT_PAGER": "sed s/^/paged:/", "TERM": "dumb"}
    with subprocess.Popen(
        [*COMMAND, "diff", "api"],
        cwd=repo.path,
        env=environ,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    ) as process:
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 4096):
                shown += chunk
        except OSError:  # its other end was closed
            pass
        os.close(leader)
    assert process.returncode == 0
    assert b"paged:" in shown
    assert b"precious" in shown


def test_a_fleet_file_gives_each_of_several_agents_a_branch(shell: Shell, repo: Repo) -> None:
    text = '[agents.w]\ncommand = "sleep 600"\ncount = 2\nworktree = true\nbranch = "work"\n'
    repo.write("fleet.toml", text)
    first = shell("up")
    assert first.returncode == 0
    assert first.stderr.count("1 file is not committed") == 1
    assert {agent["name"] for agent in shell.ps()} == {"w-1", "w-2"}
    assert repo.branches() == {"main", "work-1", "work-2"}
    assert shell.ok("up").count("unchanged") == 2
    (repo.path / "fleet.toml").write_text(text.replace("600", "601"))
    assert shell("up").stdout.count("changed") == 2
    assert len(repo.worktrees()) == 3
    done = shell.ok("down", "--yes")
    assert done.count("removed, its worktree too") == 2
    assert repo.branches() == {"main"}
