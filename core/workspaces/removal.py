"""Taking the worktree of a removed agent away, as far as nothing is lost by it. Blocking."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from ..agents.worktree import Worktree
from .git import Git, GitError
from .losses import CACHES, losses
from .making import alone, clear, forget, halves, registered, swept
from .planning import GONE, checked_out

SECONDS = 60.0


class Left(NamedTuple):
    """What became of a worktree: phrases for whoever asked for its removal."""

    said: str
    """``its worktree too``, ``its worktree stays in …``."""
    notes: list[str]
    kept: str = ""
    """Why the worktree stays; empty: it is gone."""
    branch_kept: bool = False


def dispose(
    tree: Worktree,
    *,
    discard: bool = False,
    others: Collection[str] = (),
    caches: Collection[str] = CACHES,
    git: Git | None = None,
) -> Left:
    """Remove a worktree in which nothing would be lost, and its branch if all its commits are elsewhere.

    Anything in doubt stays. A crash on the way leaves nothing but what was to be deleted, under another
    name, which the next attempt or the kernel's next start deletes.

    Args:
        discard: Delete also what would be lost.
        others: Names of agents that work in it and live.
    """
    git = git or Git(SECONDS, reading=False)
    try:
        with alone(tree, git) as lock:
            return _dispose(tree, discard, others, caches, git, lock)
    except (GitError, OSError) as error:
        why = str(error) if isinstance(error, GitError) else (error.strerror or str(error))
        return stays(tree, why.rstrip("."))


def _dispose(
    tree: Worktree, discard: bool, others: Collection[str], caches: Collection[str], git: Git, lock: int
) -> Left:
    if not os.path.lexists(tree.path):
        if not os.path.isdir(tree.repository):
            return Left("its worktree was gone already", [])
        swept(tree)
        forget(tree, git, lock)
        return _gone(tree, "its worktree was gone already" if tree.made else "", [], git)
    if others:
        return stays(tree, f"{', '.join(sorted(others))} works in it")
    if not tree.made and not _half(tree, git):
        return stays(tree, "it is not the one that was to be made there")
    if not tree.made:  # half of an attempt: nobody has worked in it
        clear(tree, git, lock)
        return _gone(tree, "", [], git)
    found = losses(tree, caches=caches, git=Git(min(SECONDS, git.left)))
    if found.forbidden or (found.any and not discard):
        return stays(tree, found.said(), discarding=bool(found.forbidden))
    said = f"its worktree too, and in it {found.said()}" if found.any else "its worktree too"
    known = os.path.isdir(tree.repository) and registered(tree, git) is not None
    # One step for whoever looks: from here on it is nowhere that anybody would work in.
    os.rename(tree.path, tree.path + GONE)
    notes = [f"not all of {path} could be deleted" for path in swept(tree)]
    if known:
        try:
            forget(tree, git, lock)
        except GitError as error:
            notes.append(f"git lists it still, until git worktree prune: {error.why}")
    return _gone(tree, said, notes, git)


def _half(tree: Worktree, git: Git) -> bool:
    """Whether what lies there is of our own attempt to make the worktree, and not another one."""
    entry = registered(tree, git)
    return halves(tree) and (entry is None or entry.get("branch") == f"refs/heads/{tree.branch}")


def _gone(tree: Worktree, said: str, notes: list[str], git: Git) -> Left:
    with suppress(OSError):  # something else lies there
        os.rmdir(os.path.dirname(tree.path))
    why = _branch_stays(tree, git)
    if why:
        said = f"{said}; its branch {tree.branch} stays: {why}".lstrip("; ")
    return Left(said, notes, branch_kept=bool(why))


def _branch_stays(tree: Worktree, git: Git) -> str:
    """Delete the branch, or say why not; empty also where it is gone already, or is not ours to delete."""
    ref = f"refs/heads/{tree.branch}"
    tip = git.ask("rev-parse", "--verify", "--quiet", ref, repository=tree.repository)
    if tip is None or not tree.ours:
        return ""
    try:
        if place := checked_out(tree.branch, tree.repository, git):
            return f"{place} has it checked out"
        asked = ("for-each-ref", f"--contains={tip}", "--count=2", "--format=%(refname)")
        places = ("refs/heads", "refs/remotes", "refs/tags")
        told = git.must(*asked, *places, repository=tree.repository, what="git for-each-ref failed")
        if not {os.fsdecode(line) for line in told.split(b"\n") if line} - {ref}:
            return "it has commits that are nowhere else"
        # Only if it still is where it was when this was found out.
        git.must("update-ref", "-d", ref, tip, repository=tree.repository, what="git update-ref failed")
        # Where it was pushed, its settings go with it; git says 128 where it has none.
        git.run("config", "--remove-section", f"branch.{tree.branch}", repository=tree.repository)
    except GitError as error:
        return error.why.rstrip(".") or "git cannot tell"
    return ""


def stays(tree: Worktree, why: str, *, discarding: bool = False) -> Left:
    """It was left alone, and where it is."""
    path = shlex.quote(tree.path)
    notes = [
        f"to get at the work: cd {path}",
        f"to delete it: git --git-dir={shlex.quote(tree.repository)} worktree remove --force {path}",
    ]
    said = f"its worktree stays in {tree.path} on branch {tree.branch}: {why}"
    return Left(said, notes[:1] if discarding else notes, kept=why, branch_kept=True)
