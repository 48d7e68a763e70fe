"""What would be lost with a worktree: everything in it that git could not give back. Blocking.

Counted are changes in no commit, files git does not track, files it ignores (a ``.env`` is nowhere else),
files it was told to overlook, an unfinished rebase or merge, commits that no branch has, submodules with
repositories of their own. Only caches that tools make anew by themselves (``CACHES``, and what the
configuration adds) count as nothing. What git cannot tell counts as everything.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ..agents.worktree import Worktree
from .git import Git, GitError
from .making import locked, private

#: Folders of caches, ignored by git, in which nobody works.
CACHES = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"})

#: Files that say in git's own directory of a worktree that something is unfinished.
_UNFINISHED = {
    "rebase-merge": "a rebase", "rebase-apply": "a rebase", "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick", "REVERT_HEAD": "a revert", "BISECT_LOG": "a bisection",
    "sequencer": "a cherry-pick",
}  # fmt: skip

#: References that a worktree has for itself alone.
_OWN_REFS = ("refs/worktree", "refs/bisect", "refs/rewritten")

#: How the index notes a commit of another repository.
_REPOSITORY = b"160000 "

SECONDS = 30.0


@dataclass(slots=True)
class Losses:
    """What would be lost; all empty: nothing. Names are relative to the worktree, folders end in ``/``."""

    changed: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    """Not tracked."""
    ignored: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    """Phrases: ``a rebase is not finished``."""
    unknown: str = ""
    """Why git cannot tell."""
    forbidden: list[str] = field(default_factory=list)
    """Phrases: why it stays whatever is asked for."""

    @property
    def any(self) -> bool:
        """Whether anything would be lost, or nobody knows."""
        return bool(self.changed or self.new or self.ignored or self.other or self.unknown)

    def said(self) -> str:
        """``2 changed files, 1 new file, 3 ignored files (.env, node_modules/, …)``."""
        parts = [*self.forbidden, *self.other]
        parts += [f"git cannot tell what is in it ({self.unknown})"] if self.unknown else []
        parts += [_counted(len(self.changed), "changed")] if self.changed else []
        parts += [_counted(len(self.new), "new")] if self.new else []
        parts += [f"{_counted(len(self.ignored), 'ignored')} ({_some(self.ignored)})"] if self.ignored else []
        return ", ".join(parts)

    def lines(self, most: int = 500) -> list[str]:
        """One thing that would be lost each."""
        found = [*self.other, *([f"git cannot tell: {self.unknown}"] if self.unknown else [])]
        for what, names in (("changed", self.changed), ("new", self.new), ("ignored", self.ignored)):
            found += [f"{what}  {name}" for name in names]
        return found[:most] + ([f"and {len(found) - most} more"] if len(found) > most else [])


def _counted(number: int, what: str) -> str:
    return f"{number} {what} file{'s' * (number != 1)}"


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def losses(tree: Worktree, *, caches: Collection[str] = CACHES, git: Git | None = None) -> Losses:
    """Look at all that is in the worktree; never raises for what git cannot tell."""
    found = Losses()
    try:
        _look(tree, found, frozenset(caches), git or Git(SECONDS))
    except (GitError, OSError) as error:
        why = error.why if isinstance(error, GitError) else error.strerror
        found.unknown = (why or str(error)).rstrip(".")
    return found


def _look(tree: Worktree, found: Losses, caches: frozenset[str], git: Git) -> None:
    admin = private(tree.path)
    if admin is None or not admin.is_dir():
        found.unknown = "its .git file is missing or leads nowhere"
        return
    top = git.must("rev-parse", "--show-toplevel", cwd=tree.path, what="no worktree").rstrip(b"\n")
    if os.path.realpath(os.fsdecode(top)) != os.path.realpath(tree.path):
        found.unknown = "git takes it for a part of another working tree"
        return
    if (why := locked(admin)) is not None:
        found.forbidden.append("git worktree lock keeps it" + (f" ({why})" if why else ""))
    _files(tree.path, found, caches, git)
    _overlooked(tree.path, found, git)
    unfinished = {phrase for name, phrase in _UNFINISHED.items() if os.path.lexists(admin / name)}
    found.other += sorted(f"{phrase} is not finished" for phrase in unfinished)
    _commits(tree.path, found, git)


def _files(path: str, found: Losses, caches: frozenset[str], git: Git) -> None:
    told = git.must(
        "status", "--porcelain=v2", "-z", "--no-renames", "--untracked-files=normal", "--ignored=matching",
        "--ignore-submodules=none", cwd=path, what="git status failed",
    )  # fmt: skip
    for entry in os.fsdecode(told).split("\0"):
        kind, _, rest = entry.partition(" ")
        if kind == "?":
            found.new.append(rest)
        elif kind == "!":
            if not caches.intersection(rest.split("/")):
                found.ignored.append(rest)
        elif kind in ("1", "u"):
            # 1 XY sub mH mI mW hH hI path; u XY sub m1 m2 m3 mW h1 h2 h3 path
            found.changed.append(rest.split(" ", 7 if kind == "1" else 9)[-1])


def _overlooked(path: str, found: Losses, git: Git) -> None:
    """What git does not look into: files it was told to call clean, and the insides of other repositories."""
    told = git.must("ls-files", "-v", "--stage", "-z", cwd=path, what="git ls-files failed")
    count, inner = 0, False
    for entry in told.split(b"\0"):
        about, _, name = entry.partition(b"\t")
        tag = about[:1]
        if about[2:].startswith(_REPOSITORY):
            # One that is a folder inside has its branches there, and they are nowhere else.
            inner = inner or os.path.isdir(os.path.join(os.fsencode(path), name, b".git"))
        if tag.islower() or (tag == b"S" and os.path.lexists(os.path.join(os.fsencode(path), name))):
            count += 1
    if count:
        found.other.append(f"{_counted(count, 'tracked')} that git was told to overlook")
    admin = private(path)
    if inner or (admin is not None and any((admin / "modules").glob("*"))):
        found.other.append("submodules with repositories of their own")


def _commits(path: str, found: Losses, git: Git) -> None:
    """Commits and references that only this worktree has."""
    if git.run("symbolic-ref", "--quiet", "HEAD", cwd=path).code != 0:
        places = ("refs/heads", "refs/remotes", "refs/tags")
        asked = ("for-each-ref", "--contains=HEAD", "--count=1", "--format=%(refname)", *places)
        if not git.must(*asked, cwd=path, what="git for-each-ref failed").strip():
            found.other.append("commits that are on no branch")
    if git.must("for-each-ref", "--count=1", *_OWN_REFS, cwd=path, what="git for-each-ref failed").strip():
        found.other.append("references of its own")
