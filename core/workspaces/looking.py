"""Looking at a folder in which an agent works: branch, commits, changes. Takes no lock. Blocking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from ..api import WorkspaceInfo
from .git import Git, GitError
from .patch import against, changes, compared, patch

#: Seconds one look may take in all; a huge repository then says so.
SECONDS = 5.0

#: Bytes of a patch that the screen gets.
PATCH = 1 << 20


class Status(NamedTuple):
    """One ``git status``."""

    commit: str | None
    branch: str | None
    """``None``: a commit is checked out, and no branch."""
    uncommitted: int
    new: list[str]


def look(
    folder: str, *, base: str | None, scratch: Path, diff: bool = False, git: Git | None = None
) -> WorkspaceInfo:
    """What git tells of a folder; what it could tell in time, and ``problem`` where it was not all.

    Args:
        base: The commit the agent began at; without one, changes count from what is checked out.
        diff: Give the patch, too.
    """
    found: dict[str, Any] = {}
    try:
        _look(folder, base, scratch, diff, git or Git(SECONDS), found)
    except GitError as error:
        found["problem"] = str(error).rstrip(".")
    except OSError as error:
        found["problem"] = f"{error.filename}: {error.strerror}"
    return WorkspaceInfo(folder=folder, base=base, **found)


def _look(folder: str, base: str | None, scratch: Path, diff: bool, git: Git, found: dict[str, Any]) -> None:
    if not os.path.isdir(folder):
        found["problem"] = "there is no such folder"
        return
    answer = git.run("rev-parse", "--show-toplevel", cwd=folder)
    if answer.code != 0:
        if "not a git repository" not in answer.why:
            found["problem"] = answer.why
        return
    found["repository"] = os.fsdecode(answer.out.rstrip(b"\n"))
    now = status(folder, git)
    found["branch"], found["uncommitted"] = now.branch, now.uncommitted
    if base is not None and now.commit is not None:
        told = git.must("rev-list", "--count", f"{base}..HEAD", cwd=folder, what="commits cannot be counted")
        found["commits"] = int(told)
    since = against(folder, base, git)
    with compared(folder, now.new, scratch, git) as env:
        sums = changes(folder, since, env, git)
        found |= sums._asdict()
        if diff:
            found["diff"], found["diff_cut"] = patch(folder, since, env, PATCH, git)


def status(folder: str, git: Git) -> Status:
    """Branch, commit and what is in no commit, of the whole working tree."""
    told = git.must(
        "status", "--porcelain=v2", "--branch", "-z", "--no-renames", "--untracked-files=all",
        cwd=folder, what="git status failed",
    )  # fmt: skip
    commit = branch = None
    count, new = 0, []
    for entry in os.fsdecode(told).split("\0"):
        if entry.startswith("# branch.oid "):
            commit = entry.removeprefix("# branch.oid ")
        elif entry.startswith("# branch.head "):
            branch = entry.removeprefix("# branch.head ")
        elif entry and not entry.startswith("#"):
            count += 1
            if entry.startswith("? ") and not entry.endswith("/"):
                new.append(entry.removeprefix("? "))
    return Status(
        None if commit == "(initial)" else commit, None if branch == "(detached)" else branch, count, new
    )
