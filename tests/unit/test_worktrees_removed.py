"""Worktrees are removed without losing anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.repos import Repo

from agenttop.core.workspaces import making, planning
from agenttop.core.workspaces.losses import losses
from agenttop.core.workspaces.planning import plan
from agenttop.core.workspaces.removal import dispose

from .worktree_stage import half_made, made


def test_a_clean_worktree_goes_and_its_branch_with_it(repo: Repo, root: Path) -> None:
    tree = made(repo, root)
    left = dispose(tree)
    assert (left.kept, left.branch_kept, left.said) == ("", False, "its worktree too")
    assert repo.worktrees() == [str(repo.path)]
    assert repo.branches() == {"main"}
    assert not root.exists()


def test_a_branch_with_commits_of_its_own_stays(repo: Repo, root: Path) -> None:
    tree = made(repo, root)
    repo.write("work", "done", top=tree.path)
    tip = repo.commit("done", top=tree.path)
    left = dispose(tree)
    assert left.kept == ""
    assert "its branch agenttop/api stays: it has commits that are nowhere else" in left.said
    assert repo("rev-parse", "agenttop/api") == tip
    assert not Path(tree.path).exists()


def test_a_merged_branch_goes(repo: Repo, root: Path) -> None:
    tree = made(repo, root)
    repo.write("work", "done", top=tree.path)
    repo.commit("done", top=tree.path)
    repo("merge", "-q", "--no-edit", "agenttop/api")
    assert not dispose(tree).branch_kept
    assert repo.branches() == {"main"}


def test_a_branch_that_was_there_before_is_never_deleted(repo: Repo, root: Path) -> None:
    repo("branch", "feature")
    dispose(made(repo, root, branch="feature"))
    assert repo.branches() == {"main", "feature"}


def changed(repo: Repo, top: str) -> None:
    repo.write("README", "changed", top=top)


def staged(repo: Repo, top: str) -> None:
    repo.write("README", "changed", top=top)
    repo("add", "README", cwd=top)


def deleted(repo: Repo, top: str) -> None:
    Path(top, "README").unlink()


def untracked(repo: Repo, top: str) -> None:
    repo.write("notes/today", "x", top=top)


def untracked_though_unwanted(repo: Repo, top: str) -> None:
    repo("config", "status.showUntrackedFiles", "no")
    repo.write("notes", "x", top=top)


def ignored(repo: Repo, top: str) -> None:
    repo.write(".gitignore", ".env\n", top=top)
    repo.commit("ignore", top=top)
    repo.write(".env", "SECRET=1", top=top)


def overlooked(repo: Repo, top: str) -> None:
    repo("update-index", "--assume-unchanged", "README", cwd=top)
    repo.write("README", "local", top=top)


def skipped(repo: Repo, top: str) -> None:
    repo("update-index", "--skip-worktree", "README", cwd=top)
    repo.write("README", "local", top=top)


def detached(repo: Repo, top: str) -> None:
    repo("checkout", "-q", "--detach", cwd=top)
    repo.commit("on no branch", top=top)


def merging(repo: Repo, top: str) -> None:
    repo("commit", "-q", "--allow-empty", "-m", "main moves")
    repo("commit", "-q", "--allow-empty", "-m", "mine", cwd=top)
    repo("merge", "-q", "--no-commit", "--no-ff", "main", cwd=top)


def locked(repo: Repo, top: str) -> None:
    repo("worktree", "lock", "--reason", "mine", top)


def nested(repo: Repo, top: str) -> None:
    Repo(Path(top, "cloned"))


def embedded(repo: Repo, top: str) -> None:
    """A clone added as it is: a commit of another repository is tracked, and that repository is in it."""
    inner = Repo(Path(top, "cloned"))
    repo("add", "cloned", cwd=top)
    repo("commit", "-q", "-m", "embedded", cwd=top)
    inner("checkout", "-q", "-b", "elsewhere")
    inner.commit("nowhere else")
    inner("checkout", "-q", "main")


def gitless(repo: Repo, top: str) -> None:
    Path(top, ".git").unlink()


def piped(repo: Repo, top: str) -> None:
    gitless(repo, top)
    os.mkfifo(Path(top, ".git"))


def broken_index(repo: Repo, top: str) -> None:
    admin = making.private(top)
    assert admin is not None
    (admin / "index").write_bytes(b"garbage")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (changed, "1 changed file"), (staged, "1 changed file"), (deleted, "1 changed file"),
        (untracked, "1 new file"), (untracked_though_unwanted, "1 new file"),
        (ignored, "1 ignored file (.env)"),
        (overlooked, "told to overlook"), (skipped, "told to overlook"),
        (detached, "commits that are on no branch"), (merging, "a merge is not finished"),
        (locked, "git worktree lock keeps it (mine)"), (nested, "1 new file"),
        (embedded, "submodules with repositories of their own"),
        (gitless, "git cannot tell"), (piped, "git cannot tell"), (broken_index, "git cannot tell"),
    ],
)  # fmt: skip
def test_what_would_be_lost_keeps_the_worktree(
    repo: Repo, root: Path, work: Callable[[Repo, str], None], said: str
) -> None:
    tree = made(repo, root)
    work(repo, tree.path)
    before = {path: path.read_bytes() for path in Path(tree.path).rglob("*") if path.is_file()}
    left = dispose(tree)
    assert said in left.kept, left
    assert tree.path in left.said
    assert tree.branch in left.said
    assert {path: path.read_bytes() for path in Path(tree.path).rglob("*") if path.is_file()} == before
    assert tree.branch in repo.branches()


@pytest.mark.parametrize("work", [changed, untracked, ignored, detached, merging, gitless])
def test_all_of_it_goes_when_that_is_told(repo: Repo, root: Path, work: Callable[[Repo, str], None]) -> None:
    tree = made(repo, root)
    work(repo, tree.path)
    left = dispose(tree, discard=True)
    assert left.kept == ""
    assert not Path(tree.path).exists()
    assert repo.worktrees() == [str(repo.path)]


def test_a_locked_worktree_stays_whatever_is_told(repo: Repo, root: Path) -> None:
    tree = made(repo, root)
    locked(repo, tree.path)
    assert "git worktree lock" in dispose(tree, discard=True).kept
    assert Path(tree.path).exists()


def test_a_worktree_in_which_another_agent_works_stays(repo: Repo, root: Path) -> None:
    tree = made(repo, root)
    assert dispose(tree, discard=True, others=["helper"]).kept == "helper works in it"
    assert Path(tree.path).exists()


def test_caches_that_tools_make_anew_keep_nothing_and_others_as_configured(repo: Repo, root: Path) -> None:
    repo.write(".gitignore", "__pycache__/\nnode_modules/\n")
    repo.commit("ignore")
    tree = made(repo, root)
    repo.write("src/__pycache__/app.pyc", "x", top=tree.path)
    repo.write("web/node_modules/left-pad/index.js", "x", top=tree.path)
    assert losses(tree).ignored == ["web/node_modules/"]
    assert "node_modules" in dispose(tree).kept
    assert dispose(tree, caches={"__pycache__", "node_modules"}).kept == ""
    assert not Path(tree.path).exists()


def test_a_worktree_that_was_removed_by_hand_is_gone(repo: Repo, root: Path) -> None:
    tree = made(repo, root)
    repo("worktree", "remove", tree.path)
    assert dispose(tree).said == "its worktree was gone already"
    assert repo.branches() == {"main"}


def test_what_is_left_of_a_repository_that_is_gone_stays(repo: Repo, root: Path) -> None:
    tree = made(repo, root)
    repo.write("work", "x", top=tree.path)
    shutil.rmtree(repo.path)
    assert "git cannot tell" in dispose(tree).kept
    assert Path(tree.path, "work").exists()
    left = dispose(tree, discard=True)
    assert (left.kept, left.notes) == ("", [])
    assert not root.exists()


def test_a_crash_while_it_is_deleted_leaves_nothing_that_the_next_attempt_keeps(
    repo: Repo, root: Path
) -> None:
    tree = made(repo, root)
    os.rename(tree.path, tree.path + planning.GONE)
    Path(tree.path + planning.GONE, "README").unlink()
    assert dispose(tree).kept == ""
    assert not root.exists()
    assert repo.worktrees() == [str(repo.path)]


def test_half_of_an_attempt_is_cleared_with_its_branch(repo: Repo, root: Path) -> None:
    tree = plan("api", str(repo.path), root=root).worktree
    half_made(tree, repo)
    assert dispose(tree).said == ""
    assert repo.worktrees() == [str(repo.path)]
    assert repo.branches() == {"main"}


@pytest.mark.parametrize("name", ["my.gone", "my.gone.gone", "...git", "..git", "é" * 120])
def test_no_repository_is_called_so_that_its_worktree_is_taken_for_rubbish(
    root: Path, tmp_path: Path, name: str
) -> None:
    bare = name.endswith(".git")
    repo = Repo(tmp_path / name, bare=bare)
    if bare:
        tree = repo("hash-object", "-t", "tree", "-w", "/dev/null")
        names = ("-c", "user.name=n", "-c", "user.email=n@example.invalid")
        repo("update-ref", "refs/heads/main", repo(*names, "commit-tree", tree, "-m", "first"))
    own = made(repo, root)
    assert Path(own.path).parent == root
    assert Path(own.path).resolve().parent == root.resolve()
    assert not own.path.endswith(planning.GONE)
    assert making.swept(own) == []
    assert Path(own.path, ".git").exists()
    assert dispose(own).kept == ""
