"""Worktrees as the tests about them begin: made, or half made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.support.repos import Repo

from agenttop.core.agents.worktree import Worktree
from agenttop.core.workspaces import making
from agenttop.core.workspaces.making import make
from agenttop.core.workspaces.planning import plan


def made(repo: Repo, root: Path, cwd: str = "", **asked: str) -> Worktree:
    tree = plan("api", str(repo.path / cwd), root=root, **asked).worktree
    make(tree)
    return replace(tree, made=True)


def half_made(tree: Worktree, repo: Repo) -> None:
    """What kill -9 in the middle of `git worktree add` leaves: locked, its index not written."""
    make(tree)
    admin = making.private(tree.path)
    assert admin is not None
    (admin / "locked").write_text("initializing")
    (admin / "index").unlink()
    Path(tree.path, "README").unlink()
