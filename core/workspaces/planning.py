"""Planning a worktree: which repository, which commit, which branch. Looks only, makes nothing. Blocking."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..agents.worktree import Worktree
from ..errors import AgentTopError, Conflict, UsageError
from . import branches
from .git import Git, GitError

#: Seconds for all questions together, and for the one how clean the folder is, which is only for a remark.
SECONDS, SECONDS_OF_REMARK = 30.0, 3.0

#: Behind the path of a worktree that is being deleted.
GONE = ".gone"

#: Bytes of the name of a worktree's own folder; a file's has 255.
MOST_OF_NAME = 200


class Planned(NamedTuple):
    """A worktree that can be made, and what whoever asked for it should know."""

    worktree: Worktree
    notes: list[str]


class _Repository(NamedTuple):
    common: str
    """``.git``, or the bare repository itself; shared by all its worktrees."""
    prefix: str
    """The folder inside it, ending in ``/``, or empty at its top."""
    bare: bool


def plan(
    name: str,
    cwd: str,
    *,
    root: Path,
    branch: str | None = None,
    base: str | None = None,
    planned: Collection[tuple[str, str]] = (),
    git: Git | None = None,
) -> Planned:
    """The worktree of an agent of this name that is started for ``cwd``.

    Args:
        root: The folder that will hold the worktree alone.
        branch: Its branch; made up from ``name`` where it is ``None``.
        base: The commit it begins at; ``None`` is what is checked out in ``cwd``.
        planned: ``(repository, branch)`` of worktrees that may not have been made yet.

    Raises:
        UsageError: There is nothing to make a worktree of.
        Conflict: The branch is there already, with other commits or in use.
        GitError: git is missing or failed.
    """
    git = git or Git(SECONDS)
    found = _repository(cwd, git)
    commit = _commit(cwd, base, git)
    there = _branches(found.common, git)
    reserved = {other for repository, other in planned if repository == found.common}
    ours = True
    if branch is None:
        branch = branches.free(name, {*there, *reserved})
    else:
        ours = _usable(branch, commit, there, reserved, found, git)
    path = str(root / _folder_name(found))
    folder = os.path.normpath(os.path.join(path, found.prefix))
    _check_text(path, folder, found.common)
    tree = Worktree(path=path, folder=folder, repository=found.common, branch=branch, base=commit, ours=ours)
    return Planned(tree, _notes(cwd, found, commit, git))


def fresh(worktrees: Path, name: str) -> Path:
    """A folder for one worktree that is not there yet.

    Ids are short and come again, and the worktree of an agent that is long gone may still hold its work.
    """
    found, number = worktrees / name, 2
    while os.path.lexists(found):
        found, number = worktrees / f"{name}-{number}", number + 1
    return found


def moved(tree: Worktree, name: str, cwd: str, git: Git) -> Planned:
    """The worktree an agent has, for another folder of the same repository.

    Raises:
        Conflict: The folder is in another repository.
    """
    found = _repository(cwd, git)
    if found.common != tree.repository:
        raise Conflict(
            f"{name} keeps its worktree {tree.path}",
            f"That is of {tree.repository}, and {cwd} is not",
            f"Remove the agent first: agenttop rm {name}",
        )
    folder = os.path.normpath(os.path.join(tree.path, found.prefix))
    _check_text(folder)
    return Planned(replace(tree, folder=folder), [])


def _repository(cwd: str, git: Git) -> _Repository:
    if not os.path.isdir(cwd):
        raise UsageError(f"cannot make a worktree of {cwd}", "There is no such folder", "Name one with --cwd")
    asked = ("--is-bare-repository", "--is-inside-git-dir", "--git-common-dir", "--show-prefix")
    answer = git.run("rev-parse", *asked, cwd=cwd)
    if answer.code != 0:
        raise not_usable(cwd, answer.why)
    bare, inside, common, prefix = os.fsdecode(answer.out).split("\n", 3)
    if inside == "true" and bare != "true":
        raise UsageError(
            f"cannot make a worktree of {cwd}", "It is inside a .git folder", "Start in the working tree"
        )
    return _Repository(
        os.path.realpath(os.path.join(cwd, common)),
        "" if bare == "true" else prefix.rstrip("\n"),
        bare == "true",
    )


def not_usable(cwd: str, why: str) -> AgentTopError:
    """The error for a folder that git finds no repository in, or none that it trusts."""
    what = f"cannot make a worktree of {cwd}"
    if "not a git repository" in why:
        return UsageError(what, "It is in no git repository", "Run git init there, or go without a worktree")
    if "dubious ownership" in why:
        return UsageError(
            what,
            "Its repository belongs to somebody else, and git does not trust it",
            f"If you do: git config --global --add safe.directory {cwd}",
        )
    return GitError(what, why)


def _commit(cwd: str, base: str | None, git: Git) -> str:
    if found := git.ask("rev-parse", "--verify", "--quiet", f"{base or 'HEAD'}^{{commit}}", cwd=cwd):
        return found
    what = f"cannot make a worktree of {cwd}"
    if base is not None:
        raise UsageError(what, f"It has no commit {base}", "Name a branch, a tag or a commit with --base")
    raise UsageError(what, "Its branch has no commit yet", "Commit something first, or name a --base")


def _branches(repository: str, git: Git) -> set[str]:
    found = git.must(
        "for-each-ref",
        "--format=%(refname)",
        "refs/heads",
        repository=repository,
        what="cannot list branches",
    )
    return {os.fsdecode(line).removeprefix("refs/heads/") for line in found.split(b"\n") if line}


def _usable(
    branch: str, commit: str, there: set[str], reserved: set[str], found: _Repository, git: Git
) -> bool:
    """Whether a named branch has to be made; one that is there must be free and stand at ``commit``.

    Raises:
        Conflict: It cannot be used.
    """
    what = f"cannot work on a branch {branch} of its own"
    if branch in reserved:
        raise Conflict(what, "Another agent's worktree has it", "Choose another name for it")
    if branch not in there:
        if branches.clashes(branch, {*there, *reserved}):
            raise Conflict(what, "A branch is in the way of its name", "Choose another name for it")
        return True
    if git.ask("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", repository=found.common) != commit:
        raise Conflict(
            what,
            "There is a branch of this name with other commits, and it is never reset",
            f"To go on with it: --base {branch} --branch {branch}",
        )
    if place := checked_out(branch, found.common, git):
        raise Conflict(what, f"It is checked out in {place}", "Choose another name for it")
    return False


def checked_out(branch: str, repository: str, git: Git) -> str | None:
    """The working tree that has this branch checked out."""
    for entry in entries(repository, git):
        if entry.get("branch") == f"refs/heads/{branch}":
            return entry["worktree"]
    return None


def entries(repository: str, git: Git) -> list[dict[str, str]]:
    """The working trees that git knows of, as ``git worktree list --porcelain`` tells them."""
    text = os.fsdecode(
        git.must("worktree", "list", "--porcelain", repository=repository, what="cannot list worktrees")
    )
    return [
        dict(_attribute(line) for line in part.split("\n")) for part in text.strip("\n").split("\n\n") if part
    ]


def _attribute(line: str) -> tuple[str, str]:
    name, _, value = line.partition(" ")
    return name, value


def _folder_name(found: _Repository) -> str:
    """What the worktree's own folder is called: as its repository is, because programs show it.

    But not as one that is to be deleted (``GONE``), and not ``.`` or ``..``.
    """
    top = Path(found.common)
    name = top.parent.name if top.name == ".git" else top.name.removesuffix(".git")
    name = re.sub(r"[\0-\37\177]", "_", name)
    name = name.encode("utf-8", "ignore")[:MOST_OF_NAME].decode("utf-8", "ignore").rstrip(".")
    while name.endswith(GONE):
        name = name.removesuffix(GONE).rstrip(".")
    return name or "worktree"


def _check_text(*paths: str) -> None:
    for path in paths:
        try:
            path.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError("cannot make a worktree here", "The folder's name is not UTF-8") from error


def _notes(cwd: str, found: _Repository, commit: str, git: Git) -> list[str]:
    notes = []
    if not found.bare and (count := _uncommitted(cwd, git)):
        files = "1 file is" if count == 1 else f"{count} files are"
        notes.append(f"{files} not committed in {cwd}: the worktree begins without that work")
    if git.run("cat-file", "-e", f"{commit}:.gitmodules", repository=found.common).code == 0:
        notes.append("its submodules are empty there: git submodule update --init fills them")
    return notes


def _uncommitted(cwd: str, git: Git) -> int:
    try:
        found = Git(min(SECONDS_OF_REMARK, git.left)).run(
            "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", cwd=cwd
        )
    except GitError:  # a huge working tree: only the remark is lost
        return 0
    return found.out.count(b"\0")
