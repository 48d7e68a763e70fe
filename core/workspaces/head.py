"""The commit checked out in a folder, read from git's files: no process is started for it.

Every start of an agent notes it, so it must cost no more than opening a few small files. What this cannot
read (another form of reference storage) is not known, and nothing is claimed from it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TextIO

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def top(folder: str) -> str | None:
    """The top folder of the working tree that ``folder`` (an absolute path without links) lies in."""
    while True:
        if os.path.lexists(os.path.join(folder, ".git")):
            return folder
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def commit(folder: str) -> str | None:
    """The commit checked out there; ``None``: in no working tree, no commit yet, or not known."""
    found = top(os.path.realpath(folder))
    if found is None:
        return None
    try:
        return _resolve(_directory(found))
    except (OSError, UnicodeDecodeError):
        return None


def repository(folder: str) -> str | None:
    """Git's directory of the repository there, which all its working trees share, without links."""
    found = top(os.path.realpath(folder))
    if found is None:
        return None
    try:
        return os.path.realpath(_common(_directory(found)))
    except (OSError, UnicodeDecodeError):
        return None


def _directory(top: str) -> str:
    """Git's own directory of this working tree."""
    path = os.path.join(top, ".git")
    if os.path.isdir(path):
        return path
    return os.path.join(top, read(path).removeprefix("gitdir:").strip())


def _resolve(directory: str) -> str | None:
    head = read(os.path.join(directory, "HEAD")).strip()
    if not head.startswith("ref:"):
        return _as_commit(head)
    name = head.removeprefix("ref:").strip()
    common = _common(directory)
    try:
        return _as_commit(read(os.path.join(common, name)).strip())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return _packed(os.path.join(common, "packed-refs"), name)


def _common(directory: str) -> str:
    """What a worktree's own directory shares with the others."""
    path = os.path.join(directory, "commondir")
    return os.path.join(directory, read(path).strip()) if os.path.exists(path) else directory


def _packed(path: str, name: str) -> str | None:
    try:
        with _opened(path) as file:
            for line in file:
                if line.rstrip("\n").endswith(" " + name):
                    return _as_commit(line.split(" ", 1)[0])
    except FileNotFoundError:
        pass
    return None


def _as_commit(text: str) -> str | None:
    return text if _COMMIT.fullmatch(text) else None


def read(path: str) -> str:
    """The beginning of one of git's small files. Raises ``OSError``, for what is no plain file too."""
    with _opened(path) as file:
        return file.read(65_536)


def _opened(path: str) -> TextIO:
    """One of git's files; what is none (a pipe, a device) would be waited for, or never end."""

    def plain(path: str, flags: int) -> int:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no file", path)

    return open(path, encoding="utf-8", errors="surrogateescape", opener=plain)
