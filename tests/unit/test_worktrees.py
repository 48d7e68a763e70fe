"""Worktrees as git makes them: planned, and made whatever happened before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.repos import Repo, need_git

from agenttop.core.agents.spec import NAME, AgentSpec
from agenttop.core.agents.worktree import Worktree
from agenttop.core.errors import AgentTopError, Conflict, UsageError
from agenttop.core.workspaces import branches, head, making, planning
from agenttop.core.workspaces.git import Git, GitError
from agenttop.core.workspaces.making import make
from agenttop.core.workspaces.planning import plan
from agenttop.core.workspaces.removal import dispose

from .worktree_stage import half_made, made

# --- names of branches ---------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.from_regex(NAME, fullmatch=True))
def test_git_takes_the_branch_of_every_name_an_agent_can_have(name: str) -> None:
    need_git()
    branch = branches.free(name, set())
    assert branches.problem(branch) == ""
    assert Git(20).run("check-ref-format", f"refs/heads/{branch}").code == 0, branch


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab./-@{}~^:?*[]\\ \x01\x7flockHEAD"), min_size=1, max_size=12))
def test_a_branch_is_refused_exactly_where_git_refuses_it(name: str) -> None:
    need_git()
    ours = branches.problem(name) == ""
    theirs = Git(20).run("check-ref-format", "--branch", name).code == 0 and name != "@"
    # git resolves @{-1} and the like where it is in a repository; "/a" it would tidy up elsewhere
    assert ours == theirs or (ours is False and "@{" in name), name


NAMES = st.from_regex(r"[a-c](/[a-c]){0,2}", fullmatch=True)


@given(st.sampled_from(["a", "b", "a-2"]), st.sets(st.one_of(NAMES, NAMES.map(lambda n: f"agenttop/{n}"),
       st.sampled_from(["agenttop", "agenttop/a-2", "agenttop-a"])), max_size=12))  # fmt: skip
def test_a_free_branch_can_be_made_beside_all_that_are_there(agent: str, taken: set[str]) -> None:
    found = branches.free(agent, taken)
    assert found not in taken
    assert not any(found.startswith(f"{other}/") or other.startswith(f"{found}/") for other in taken)
    assert agent in found


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"branch": "x"}, "ask for one"),
        ({"base": "main"}, "ask for one"),
        ({"worktree": True, "branch": "a..b"}, "no '..'"),
        ({"worktree": True, "base": "--upload-pack=x"}, "no commit is called so"),
        ({"worktree": True, "backend": "docker"}, "neither docker nor a sandbox"),
        ({"worktree": True, "sandbox": True}, "neither docker nor a sandbox"),
    ],
)
def test_a_spec_that_cannot_have_a_worktree_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AgentSpec.model_validate({"name": "a", "command": ["x"], **fields})


# --- planning ------------------------------------------------------------------------------------


def test_a_worktree_has_a_branch_of_its_own_at_what_is_checked_out(repo: Repo, root: Path) -> None:
    tree = made(repo, root)
    assert tree.path == str(root / "proj")
    assert repo("branch", "--show-current", cwd=tree.path) == "agenttop/api" == tree.branch
    assert repo("rev-parse", "HEAD", cwd=tree.path) == repo("rev-parse", "main") == tree.base
    assert Path(tree.path, "src/app.py").exists()
    assert os.stat(root).st_mode & 0o077 == 0


def test_a_subfolder_is_kept_even_where_the_commit_has_none(repo: Repo, root: Path) -> None:
    (repo.path / "new" / "one").mkdir(parents=True)
    assert made(repo, root, "src").folder == str(root / "proj" / "src")
    fresh = made(repo, root.with_name("a2"), "new/one")
    assert Path(fresh.folder).is_dir()
    assert fresh.folder.endswith("proj/new/one")


def test_a_subfolder_that_is_a_link_out_of_the_worktree_is_refused(repo: Repo, root: Path) -> None:
    (repo.path / "out").symlink_to("/tmp")
    repo.commit("a link")
    (repo.path / "out").unlink()
    (repo.path / "out" / "deep").mkdir(parents=True)
    with pytest.raises(GitError, match="leads out of the worktree"):
        made(repo, root, "out/deep")
    assert not Path("/tmp/deep").exists()


def test_a_base_may_be_named_and_must_exist(repo: Repo, root: Path) -> None:
    first = repo("rev-parse", "HEAD")
    repo.commit("second")
    assert made(repo, root, base=first).base == first
    assert made(repo, root.with_name("a2"), base="main~1").base == first
    with pytest.raises(UsageError, match="no commit nowhere"):
        plan("api", str(repo.path), root=root, base="nowhere")


def test_a_taken_branch_gets_a_number_and_is_never_touched(repo: Repo, root: Path) -> None:
    repo("branch", "agenttop/api")
    before = repo("rev-parse", "agenttop/api")
    repo.commit("second")
    assert made(repo, root).branch == "agenttop/api-2"
    assert repo("rev-parse", "agenttop/api") == before


def test_a_branch_planned_for_another_agent_is_taken(repo: Repo, root: Path) -> None:
    first = plan("api", str(repo.path), root=root).worktree
    taken = {(first.repository, first.branch)}
    second = plan("api", str(repo.path), root=root.with_name("a2"), planned=taken).worktree
    assert (first.branch, second.branch) == ("agenttop/api", "agenttop/api-2")
    with pytest.raises(Conflict, match="Another agent"):
        plan("b", str(repo.path), root=root, branch="agenttop/api", planned=taken)


def test_a_named_branch_is_used_only_where_it_is_free_and_stands_at_the_base(repo: Repo, root: Path) -> None:
    repo("branch", "feature")
    tree = made(repo, root, branch="feature")
    assert (tree.branch, tree.ours) == ("feature", False)
    with pytest.raises(Conflict, match="checked out in"):
        plan("b", str(repo.path), root=root.with_name("a2"), branch="feature")
    with pytest.raises(Conflict, match="checked out in"):
        plan("b", str(repo.path), root=root.with_name("a2"), branch="main")
    repo("branch", "other")
    repo.commit("second")
    with pytest.raises(Conflict, match="never reset") as refused:
        plan("b", str(repo.path), root=root.with_name("a2"), branch="other")
    assert "--base other --branch other" in refused.value.hint
    assert made(repo, root.with_name("a2"), branch="other", base="other").ours is False
    with pytest.raises(Conflict, match="in the way"):
        plan("b", str(repo.path), root=root.with_name("a3"), branch="feature/x")


def test_a_detached_head_is_a_base_like_any_other(repo: Repo, root: Path) -> None:
    repo("checkout", "-q", "--detach")
    lost = repo.commit("on no branch")
    assert made(repo, root).base == lost


def test_a_bare_repository_has_worktrees_too(repo: Repo, root: Path, tmp_path: Path) -> None:
    bare = tmp_path / "proj.git"
    repo("clone", "-q", "--bare", str(repo.path), str(bare))
    tree = plan("api", str(bare), root=root).worktree
    make(tree)
    assert tree.folder == tree.path == str(root / "proj")
    assert Path(tree.path, "README").exists()
    inside = plan("two", tree.path, root=root.with_name("a2")).worktree
    assert inside.repository == tree.repository == str(bare)


def test_a_worktree_of_a_worktree_is_one_of_the_repository(repo: Repo, root: Path) -> None:
    first = made(repo, root)
    repo.write("new", "x", top=first.path)
    tip = repo.commit("in the first", top=first.path)
    second = plan("b", first.path, root=root.with_name("a2")).worktree
    assert (second.repository, second.base) == (str(repo.path / ".git"), tip)


@pytest.mark.parametrize("where", ["nothing", "empty", "gitdir", "missing"])
def test_without_a_commit_of_a_repository_there_is_none(tmp_path: Path, root: Path, where: str) -> None:
    folder = tmp_path / where
    said = "no git repository"
    if where == "nothing":
        folder.mkdir()
    elif where == "empty":
        Repo(folder, commit=False)
        said = "no commit yet"
    elif where == "gitdir":
        folder, said = Repo(folder).path / ".git" / "refs", "inside a .git folder"
    else:
        need_git()
        said = "no such folder"
    with pytest.raises(UsageError, match=said):
        plan("api", str(folder), root=root)
    assert not root.exists()


def test_without_git_it_is_said_how_to_get_it(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="apt install git"):
        plan("api", str(tmp_path), root=root)


def test_what_is_not_committed_and_submodules_are_told(repo: Repo, root: Path, tmp_path: Path) -> None:
    assert plan("api", str(repo.path), root=root).notes == []
    repo.write(".gitmodules", "")
    repo.commit("modules")
    repo.write("README", "changed")
    repo.write("fresh/one", "x")
    [work, modules] = plan("api", str(repo.path), root=root).notes
    assert work.startswith("2 files are not committed in")
    assert "submodule update --init" in modules


def test_no_hook_of_the_repository_runs(repo: Repo, root: Path, tmp_path: Path) -> None:
    hook = repo.write(".git/hooks/post-checkout", f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    made(repo, root)
    repo("worktree", "add", "-q", str(tmp_path / "by-hand"))
    assert (tmp_path / "ran").exists()  # it would have
    (tmp_path / "ran").unlink()
    made(repo, root.with_name("a2"))
    assert not (tmp_path / "ran").exists()


def test_a_git_that_takes_too_long_is_ended(repo: Repo, tmp_path: Path) -> None:
    repo.write(".gitattributes", "* filter=slow\n")
    repo("config", "filter.slow.clean", "sleep 600")
    # Of equal size, but not of the time that git remembers: it has to look what is in it.
    os.utime(repo.write("README", "jello\n"), (0, 0))
    git = Git(0.3)
    with pytest.raises(GitError, match="too long"):
        git.run("status", cwd=str(repo.path))


# --- made whatever was before --------------------------------------------------------------------


def only_branch(tree: Worktree, repo: Repo) -> None:
    repo("branch", tree.branch, tree.base)


def no_git_file(tree: Worktree, repo: Repo) -> None:
    make(tree)
    Path(tree.path, ".git").unlink()


def only_folder(tree: Worktree, repo: Repo) -> None:
    Path(tree.path, "src").mkdir(parents=True)


def forgotten_folder(tree: Worktree, repo: Repo) -> None:
    make(tree)
    shutil.rmtree(tree.path)


def whole(tree: Worktree, repo: Repo) -> None:
    make(tree)


@pytest.mark.parametrize(
    "crashed", [half_made, only_branch, no_git_file, only_folder, forgotten_folder, whole]
)
def test_whatever_a_crash_left_the_second_attempt_makes_one_worktree(
    repo: Repo, root: Path, crashed: Callable[[Worktree, Repo], None]
) -> None:
    tree = plan("api", str(repo.path), root=root).worktree
    crashed(tree, repo)
    make(tree)
    assert repo.worktrees() == [str(repo.path), tree.path]
    assert repo("status", "--porcelain", "--branch", cwd=tree.path) == "## agenttop/api"
    assert repo.branches() == {"main", "agenttop/api"}


def test_a_worktree_somebody_may_have_worked_in_is_never_cleared(repo: Repo, root: Path) -> None:
    tree = made(repo, root)
    Path(tree.path, ".git").unlink()
    repo.write("work", "precious", top=tree.path)
    with pytest.raises(GitError, match="does not know it any more"):
        make(tree)
    assert Path(tree.path, "work").read_text() == "precious"


def test_the_work_of_an_agent_that_is_gone_is_not_in_the_way_of_one_with_its_id(
    repo: Repo, tmp_path: Path
) -> None:
    worktrees = tmp_path / "state" / "worktrees"
    old = made(repo, planning.fresh(worktrees, "api-1a2b"))
    repo.write("work", "precious", top=old.path)
    dispose(old)
    second = planning.fresh(worktrees, "api-1a2b")
    assert second.name == "api-1a2b-2"
    made(repo, second)
    # Even if the place were taken for its own, another worktree is neither used nor cleared.
    for taken in (second, worktrees / "api-1a2b"):
        other = plan("api", str(repo.path), root=taken).worktree
        with pytest.raises(GitError, match="another one already"):
            make(other)
        assert "not the one" in dispose(other).kept
    assert (second / "proj" / "README").exists()
    Path(old.path, ".git").write_text("gitdir: /nowhere")
    with pytest.raises(GitError, match="does not know it"):
        make(replace(old, made=False))
    assert "not the one" in dispose(replace(old, made=False)).kept
    assert Path(old.path, "work").read_text() == "precious"


def test_a_lost_worktree_comes_back_with_what_its_branch_has(repo: Repo, root: Path) -> None:
    tree = made(repo, root)
    repo.write("work", "done", top=tree.path)
    tip = repo.commit("done", top=tree.path)
    shutil.rmtree(tree.path)
    make(tree)
    assert repo("rev-parse", "HEAD", cwd=tree.path) == tip
    shutil.rmtree(tree.path)
    repo("worktree", "prune")
    make(tree)
    assert Path(tree.path, "work").read_text() == "done"


def test_a_branch_taken_between_plan_and_making_is_not_used(repo: Repo, root: Path) -> None:
    tree = plan("api", str(repo.path), root=root).worktree
    repo("checkout", "-q", "-b", tree.branch)
    repo.commit("theirs")
    with pytest.raises(GitError, match="checked out in"):
        make(tree)
    repo("checkout", "-q", "main")
    with pytest.raises(GitError, match="made meanwhile"):
        make(tree)
    assert not Path(tree.path).exists()


def test_who_makes_a_worktree_waits_for_a_git_that_outlived_its_kernel(repo: Repo, root: Path) -> None:
    tree = plan("api", str(repo.path), root=root).worktree
    with making.alone(tree, Git(5)), pytest.raises(AgentTopError, match="too long"):
        make(tree, Git(0.2, reading=False))
    make(tree)


# --- the commit it begins at, without a process ---------------------------------------------------


def test_the_commit_checked_out_is_read_without_git(repo: Repo, root: Path, tmp_path: Path) -> None:
    assert head.commit(str(repo.path / "src")) == repo("rev-parse", "HEAD")
    tree = made(repo, root)
    tip = repo.commit("more", top=tree.path)
    assert head.commit(tree.path) == tip
    repo("pack-refs", "--all")
    assert head.commit(tree.path) == tip
    repo("checkout", "-q", "--detach")
    assert head.commit(str(repo.path)) == repo("rev-parse", "main")
    Repo(tmp_path / "empty", commit=False)
    assert head.commit(str(tmp_path / "empty")) is None
    (tmp_path / "plain").mkdir()
    assert head.commit(str(tmp_path / "plain")) is None


@pytest.mark.parametrize("name", [".git", ".git/HEAD", ".git/packed-refs"])
def test_a_pipe_in_the_place_of_gits_files_holds_nobody_up(repo: Repo, name: str) -> None:
    repo("pack-refs", "--all")
    place = repo.path / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    os.mkfifo(place)
    asked = "from agenttop.core.workspaces import head; import sys; print(head.commit(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", asked, str(repo.path)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "None\n"


def test_a_plan_looks_only(repo: Repo, root: Path) -> None:
    before = sorted(str(path) for path in repo.path.rglob("*"))
    plan("api", str(repo.path), root=root)
    assert sorted(str(path) for path in repo.path.rglob("*")) == before
    assert planning.entries(str(repo.path / ".git"), Git(10))[0]["worktree"] == str(repo.path)
