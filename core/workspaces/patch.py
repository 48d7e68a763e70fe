"""What a folder's files differ in from a commit, new files included, without touching the repository.

``git diff`` leaves out files that git does not track yet, and agents make many of these. So the index is
copied, the new files are noted in the copy (``git add --intent-to-add``), and git compares with that. The
copy and the one object that git writes for it lie in a folder of their own that is deleted afterwards.
Blocking.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .git import Git

#: Before the names of folders with copies; what a crash left is swept by it.
SCRATCH = ".scratch-"

#: Of git diff: no program of anybody's configuration is run, and renames are found as people are used to.
PLAIN = ("--no-ext-diff", "--no-textconv", "--no-color", "--find-renames")


class Changes(NamedTuple):
    """Sums over the files that differ; a binary file has no lines."""

    files: int
    insertions: int
    deletions: int


@contextlib.contextmanager
def compared(folder: str, new: Sequence[str], scratch: Path, git: Git) -> Iterator[Mapping[str, str]]:
    """Variables under which ``git diff COMMIT`` in ``folder`` shows the files ``new``, too.

    Args:
        new: As git names them, from the top of the working tree.
        scratch: A folder for the copy.
    """
    if not new:
        yield {}
        return
    told = git.must(
        "rev-parse", "--git-path", "index", "--git-path", "objects", cwd=folder, what="no repository"
    )
    index, objects = (os.path.join(folder, os.fsdecode(line)) for line in told.rstrip(b"\n").split(b"\n"))
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = tempfile.mkdtemp(prefix=SCRATCH, dir=scratch)
    try:
        with contextlib.suppress(FileNotFoundError):  # nothing was ever added
            shutil.copyfile(index, os.path.join(own, "index"))
        os.mkdir(os.path.join(own, "objects"))
        env = {
            "GIT_INDEX_FILE": os.path.join(own, "index"),
            "GIT_OBJECT_DIRECTORY": os.path.join(own, "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(os.path.realpath(objects)),
        }
        git.must(
            "add", "--intent-to-add", "--ignore-errors", "--pathspec-from-file=-", "--pathspec-file-nul",
            cwd=top(folder, git), env={**env, "GIT_LITERAL_PATHSPECS": "1"},
            told=b"\0".join(os.fsencode(name) for name in new) + b"\0", what="cannot look at new files",
        )  # fmt: skip
        yield env
    finally:
        shutil.rmtree(own, ignore_errors=True)


def top(folder: str, git: Git) -> str:
    """The top of the working tree."""
    told = git.must("rev-parse", "--show-toplevel", cwd=folder, what=f"{folder} is in no working tree")
    return os.fsdecode(told.rstrip(b"\n"))


def _quoted(path: str) -> str:
    """A path in a list of them, where ``:`` parts and a leading quote begins C's quoting (git(1))."""
    if ":" not in path and not path.startswith('"'):
        return path
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def untracked(folder: str, git: Git) -> list[str]:
    """New files from the top of the working tree; repositories inside it are left out."""
    told = git.must(
        "ls-files", "--others", "--exclude-standard", "-z", cwd=top(folder, git), what="git ls-files failed"
    )
    return [os.fsdecode(name) for name in told.split(b"\0") if name and not name.endswith(b"/")]


def against(folder: str, base: str | None, git: Git) -> str:
    """What changes count from: ``base``, else what is checked out, else nothing at all."""
    if base is not None:
        return base
    if found := git.ask("rev-parse", "--verify", "--quiet", "HEAD", cwd=folder):
        return found
    told = git.must("hash-object", "-t", "tree", "/dev/null", cwd=folder, what="git hash-object failed")
    return told.decode().strip()


def changes(folder: str, base: str, env: Mapping[str, str], git: Git) -> Changes:
    """The sums of what differs from ``base``."""
    told = git.must("diff", "--numstat", "-z", *PLAIN, base, cwd=folder, env=env, what="git diff failed")
    files = insertions = deletions = 0
    fields = iter(told.split(b"\0"))
    for field in fields:
        if field:
            added, deleted, name = field.split(b"\t", 2)
            files += 1
            insertions += int(added) if added != b"-" else 0
            deletions += int(deleted) if deleted != b"-" else 0
            if not name:  # renamed: the old and the new name follow
                next(fields, b"")
                next(fields, b"")
    return Changes(files, insertions, deletions)


def patch(folder: str, base: str, env: Mapping[str, str], most: int, git: Git) -> tuple[str, bool]:
    """What differs as a patch of at most ``most`` bytes, and whether it was cut."""
    answer = git.run("diff", *PLAIN, base, cwd=folder, env=env, most=most)
    return answer.out.decode("utf-8", "replace"), answer.cut
