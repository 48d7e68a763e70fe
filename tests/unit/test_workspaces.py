"""What is told of a folder: sums that git would give, within a time, without a trace; and who shares it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.support.repos import ENVIRON, Repo, need_git

from agenttop.core.api import WorkspaceInfo
from agenttop.core.workspaces import sharing
from agenttop.core.workspaces.git import Git
from agenttop.core.workspaces.looking import look
from agenttop.core.workspaces.sharing import Place
from agenttop.tui.cli.diff import text_of


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path / "proj")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def test_commits_changes_and_new_files_since_the_base_are_counted(repo: Repo, scratch: Path) -> None:
    base = repo("rev-parse", "HEAD")
    repo.write("README", "hello\nmore\n")
    repo.commit("second")
    repo.write("src/app.py", "print('changed')\n")
    repo.write("new/one", "1\n2\n3\n")
    (repo.path / "new" / "binary").write_bytes(b"a\0b")
    (repo.path / "new" / "odd\nname").write_text("x\n")
    found = look(str(repo.path / "src"), base=base, scratch=scratch, diff=True)
    assert (found.repository, found.branch, found.base) == (str(repo.path), "main", base)
    assert (found.commits, found.uncommitted) == (1, 4)
    assert (found.files, found.insertions, found.deletions) == (5, 1 + 1 + 3 + 1, 1)
    assert "+3" in found.diff
    assert "+print('changed')" in found.diff
    assert found.problem == ""


def test_a_renamed_file_counts_as_one(repo: Repo, scratch: Path) -> None:
    repo.write("long", "".join(f"{n}\n" for n in range(50)))
    base = repo.commit("long")
    repo("mv", "long", "moved")
    repo.write("moved", "".join(f"{n}\n" for n in range(51)))
    found = look(str(repo.path), base=base, scratch=scratch)
    assert (found.files, found.insertions, found.deletions) == (1, 1, 0)


def test_looking_leaves_no_trace_and_waits_for_no_lock(repo: Repo, scratch: Path) -> None:
    base = repo("rev-parse", "HEAD")
    repo.write("README", "hello\n")  # equal, but newer: git would write the index anew
    repo.write("new", "x\n")
    lock = repo.write(".git/index.lock", "")
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in (repo.path / ".git").rglob("*")}
    found = look(str(repo.path), base=base, scratch=scratch, diff=True)
    assert (found.problem, found.files, found.insertions) == ("", 1, 1)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in (repo.path / ".git").rglob("*")} == before
    assert lock.exists()
    assert list(scratch.iterdir()) == []


def test_a_repository_that_takes_too_long_says_so(repo: Repo, scratch: Path) -> None:
    repo.write(".gitattributes", "* filter=slow\n")
    repo("config", "filter.slow.clean", "sleep 600")
    repo.write("README", "changed\n")
    found = look(str(repo.path), base=None, scratch=scratch, git=Git(0.5))
    assert "took too long" in found.problem
    assert found.repository == str(repo.path)  # what was learned before that is told
    assert found.files is None


@pytest.mark.parametrize("diffed", ["external", "textconv", "fsmonitor"])
def test_no_program_of_the_repositorys_settings_runs(
    repo: Repo, scratch: Path, tmp_path: Path, diffed: str
) -> None:
    program = repo.write("../program", f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    settings = {"external": "diff.external", "fsmonitor": "core.fsmonitor", "textconv": "diff.odd.textconv"}
    repo("config", settings[diffed], str(program))
    repo.write(".gitattributes", "* diff=odd\n" if diffed == "textconv" else "")
    repo.write("README", "changed\n")
    assert look(str(repo.path), base=None, scratch=scratch, diff=True).files
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_a_repository_or_a_commit_is_no_problem(tmp_path: Path, scratch: Path) -> None:
    need_git()
    (tmp_path / "plain").mkdir()
    plain = look(str(tmp_path / "plain"), base=None, scratch=scratch)
    assert (plain.repository, plain.problem) == (None, "")
    empty = Repo(tmp_path / "empty", commit=False)
    empty.write("first", "1\n2\n")
    found = look(str(empty.path), base=None, scratch=scratch)
    assert (found.branch, found.commits, found.files, found.insertions) == ("main", None, 1, 2)
    assert look(str(tmp_path / "gone"), base=None, scratch=scratch).problem == "there is no such folder"


def test_without_a_branch_the_branch_is_not_known(repo: Repo, scratch: Path) -> None:
    repo("checkout", "-q", "--detach")
    found = look(str(repo.path), base=repo("rev-parse", "HEAD"), scratch=scratch)
    assert (found.branch, found.commits, found.uncommitted) == (None, 0, 0)


def test_a_long_patch_is_cut_and_says_so(repo: Repo, scratch: Path) -> None:
    repo.write("big", "0123456789\n" * 300_000)
    found = look(str(repo.path), base=None, scratch=scratch, diff=True)
    assert found.diff_cut
    assert len(found.diff) == 1 << 20
    assert (found.files, found.insertions) == (1, 300_000)


def test_a_foreign_repository_is_not_trusted(repo: Repo, scratch: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    subprocess.run(["chown", "-R", "12345", str(repo.path)], check=True, env=ENVIRON)
    found = look(str(repo.path), base=None, scratch=scratch)
    assert "dubious ownership" in found.problem
    assert found.repository is None


def test_a_diff_from_another_machine_cannot_move_the_cursor_of_this_one() -> None:
    found = WorkspaceInfo(folder="/p", diff="+a\x1b[2Jb\n+\tc\n")
    assert text_of(found, harmless=False) == found.diff
    shown = text_of(found, harmless=True)
    assert "\x1b" not in shown
    assert shown.count("\n") == 2


# --- who shares a folder --------------------------------------------------------------------------


def names(folder: str, *places: tuple[str, str]) -> list[str]:
    found = sharing.sharers(folder, [Place(name, name, path) for name, path in places], but="me")
    return [place.name for place in found]


def test_agents_share_a_folder_and_what_is_below_it_in_one_working_tree(repo: Repo, tmp_path: Path) -> None:
    src, tree = str(repo.path / "src"), tmp_path / "tree"
    repo("worktree", "add", "-q", str(tree))
    (repo.path / "docs").mkdir()
    (repo.path / "inner").mkdir()
    repo("worktree", "add", "-q", str(repo.path / "inner" / "other"))
    (tmp_path / "link").symlink_to(repo.path)
    everyone = [
        ("me", str(repo.path)), ("same", str(repo.path)), ("link", str(tmp_path / "link")), ("below", src),
        ("tree", str(tree)), ("inner", str(repo.path / "inner" / "other")), ("above", str(tmp_path)),
    ]  # fmt: skip
    assert names(str(repo.path), *everyone) == ["same", "link", "below"]
    assert names(src, ("docs", str(repo.path / "docs")), ("top", str(repo.path))) == ["top"]
    assert names(str(tmp_path / "a"), ("above", str(tmp_path)), ("root", "/")) == ["above"]


def test_groups_are_agents_of_one_working_tree_only(repo: Repo, tmp_path: Path) -> None:
    (repo.path / "docs").mkdir()
    places = [
        Place("1", "a", str(repo.path / "src")), Place("2", "b", str(repo.path)),
        Place("3", "c", str(repo.path / "docs")), Place("4", "d", str(tmp_path)),
        Place("5", "e", str(tmp_path)),
    ]  # fmt: skip
    found = {folder: [p.name for p in group] for folder, group in sharing.groups(places).items()}
    assert found == {str(repo.path): ["a", "b", "c"]}
    apart = sharing.groups([places[0], places[2]])
    assert sorted(len(group) for group in apart.values()) == [1, 1]
