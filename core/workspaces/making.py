"""Making a planned worktree, whatever became of an attempt before. Blocking.

A kernel may be killed at any line of this, and git with it or not. What is planned stands in the journal
before git is asked for anything, and what was made after it; so whatever lies at a path whose making was
not written down is half of an attempt, in which nobody has worked, and is cleared away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from ..agents.worktree import Worktree
from . import head
from .git import Git, GitError
from .planning import GONE, checked_out, entries

#: Seconds that making one may take: a large repository is checked out.
SECONDS = 300.0

_TICK = 0.05


@contextlib.contextmanager
def alone(tree: Worktree, git: Git) -> Iterator[int]:
    """Be the only one who makes or removes worktrees of this repository, over the kernel's end too.

    The descriptor it gives goes to git, which holds the lock as long as it lives: a kernel that comes after
    one that was killed waits for the git that one had started.

    Raises:
        GitError: It is held longer than the time that is left.
    """
    worktrees = Path(tree.path).parent.parent
    worktrees.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = sha256(tree.repository.encode()).hexdigest()[:16]
    descriptor = os.open(worktrees / f".lock-{name}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                git.check()
                time.sleep(_TICK)
        yield descriptor
    finally:
        os.close(descriptor)


def make(tree: Worktree, git: Git | None = None) -> None:
    """Have the worktree there, on its branch, with the folder its agent works in.

    Raises:
        GitError: git failed, somebody else took the branch meanwhile, or git does not know a worktree any
            more that somebody may have worked in.
    """
    if tree.made and os.path.lexists(os.path.join(tree.path, ".git")):
        _enter(tree)
        return
    git = git or Git(SECONDS, reading=False)
    with alone(tree, git) as lock:
        there = os.path.lexists(tree.path)
        entry = registered(tree, git)
        if not (there and entry is not None and _whole(tree)):
            if there and (tree.made or not halves(tree)):
                raise GitError(
                    f"the worktree {tree.path} cannot be used",
                    f"{tree.repository} does not know it any more",
                    f"Try: git --git-dir={tree.repository} worktree repair {tree.path}",
                )
            clear(tree, git, lock)
            _add(tree, git, lock)
        elif not tree.made and entry.get("branch") != f"refs/heads/{tree.branch}":
            raise GitError(f"cannot make the worktree {tree.path}", "There is another one already")
    _enter(tree)


def registered(tree: Worktree, git: Git) -> dict[str, str] | None:
    """What git knows of this worktree."""
    real = os.path.realpath(tree.path)
    return next((e for e in entries(tree.repository, git) if os.path.realpath(e["worktree"]) == real), None)


def _whole(tree: Worktree) -> bool:
    """Whether git came to its end: until then it keeps the new worktree locked with this reason."""
    admin = private(tree.path)
    return admin is not None and admin.is_dir() and locked(admin) != "initializing"


def halves(tree: Worktree) -> bool:
    """Whether what lies there can be the rest of a ``git worktree add`` that was killed.

    git makes its own directory of the worktree first. A ``.git`` file that leads nowhere is of one that was
    whole, whoever made that.
    """
    if not os.path.lexists(os.path.join(tree.path, ".git")):
        return True
    admin = private(tree.path)
    return admin is not None and admin.is_dir()


def private(path: str) -> Path | None:
    """Git's own directory of a worktree, as its ``.git`` file names it."""
    try:
        text = head.read(os.path.join(path, ".git"))
    except OSError:
        return None
    return Path(path, text.removeprefix("gitdir:").strip()) if text.startswith("gitdir:") else None


def locked(admin: Path) -> str | None:
    """Why a worktree is locked; ``None`` if it is not."""
    try:
        return head.read(str(admin / "locked")).strip()
    except FileNotFoundError:
        return None


def clear(tree: Worktree, git: Git, lock: int) -> None:
    """Delete what lies at a path in which nobody has worked, and let git forget it.

    Raises:
        GitError: It cannot be deleted.
    """
    swept(tree)
    try:
        if os.path.lexists(tree.path):
            shutil.rmtree(tree.path)
    except OSError as error:
        raise GitError(f"cannot clear {error.filename}", error.strerror or "") from error
    forget(tree, git, lock)


def swept(tree: Worktree) -> list[str]:
    """Delete what was moved away to be deleted; gives what is still there."""
    old = tree.path + GONE
    shutil.rmtree(old, ignore_errors=True)
    return [old] if os.path.lexists(old) else []


def forget(tree: Worktree, git: Git, lock: int) -> None:
    """Let git forget a worktree whose folder is gone; others that are missing are not touched."""
    if registered(tree, git) is not None:
        git.must(
            "worktree", "remove", "--force", "--force", tree.path,
            repository=tree.repository, keep=(lock,), what=f"cannot forget the worktree {tree.path}",
        )  # fmt: skip


def _add(tree: Worktree, git: Git, lock: int) -> None:
    Path(tree.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    tip = git.ask("rev-parse", "--verify", "--quiet", f"refs/heads/{tree.branch}", repository=tree.repository)
    what = f"cannot make the worktree {tree.path}"
    if tip is not None:
        if place := checked_out(tree.branch, tree.repository, git):
            raise GitError(
                what, f"Its branch {tree.branch} is checked out in {place}", "Switch that to another"
            )
        if not tree.made and tip != tree.base:
            raise GitError(what, f"A branch {tree.branch} was made meanwhile", "Run it again")
        wanted = [tree.path, tree.branch]
    else:
        wanted = ["--no-track", "-b", tree.branch, tree.path, tree.base]
    git.must("worktree", "add", *wanted, repository=tree.repository, keep=(lock,), what=what)


def _enter(tree: Worktree) -> None:
    """Have the subfolder there, also where the commit has none; a link must not lead out of the worktree."""
    real, top = os.path.realpath(tree.folder), os.path.realpath(tree.path)
    if real != top and not real.startswith(top + os.sep):
        raise GitError(f"cannot work in {tree.folder}", "It is a link that leads out of the worktree")
    try:
        os.makedirs(tree.folder, exist_ok=True)
    except OSError as error:
        raise GitError(f"cannot work in {tree.folder}", error.strerror or str(error)) from error
