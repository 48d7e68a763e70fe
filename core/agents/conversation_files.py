"""A conversation as files in an agent's folder: copying it into another agent's, while it may go on.

What is appended to meanwhile is copied up to its last whole line, a database as SQLite itself copies it.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ..errors import BackendError, Conflict
from ..observe.readers.claude_slug import slug
from .template import Template
from .template_parts import filled

#: What a client's own id of a conversation is made of; it came over the wire and becomes part of a path.
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")

_CHUNK = 1 << 20

#: So many folders deep ``**`` looks.
_DEEPEST = 32
_DATABASES = (".db", ".sqlite", ".sqlite3")


def copy(template: Template, session: str, source: Path, target: Path, name: str) -> None:
    """Copy a conversation out of one agent's folder into another's. Blocking; nothing of it is changed.

    Args:
        name: Whose conversation, for errors.

    Raises:
        Conflict: The id is none that could be part of a path.
        BackendError: There is nothing of it.
        OSError: The disk does not take it.
    """
    if session and not _SESSION.fullmatch(session):
        raise Conflict(f"{name} cannot be forked", "Its client gave its conversation an id that is none")
    found = False
    for pattern in template.conversation:
        for file in _files(source, pattern, session):
            found = True
            to = target / file.relative_to(source)
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _copy(file, to)
    if not found:
        raise BackendError(
            f"{name} was not forked",
            "Nothing of its conversation is in its folder",
            "Was its history turned off?",
        )


def settle(template: Template, session: str, folder: Path, cwd: str) -> None:
    """Move copies to where the client looks for them in ``cwd``. Blocking; again is harmless."""
    for pattern, place in template.conversation.items():
        if not place:
            continue
        home = folder / (filled(place, {"project": slug(cwd)}) or "")
        for file in list(_files(folder, pattern, session)):
            if file.parent != home:
                home.mkdir(mode=0o700, parents=True, exist_ok=True)
                file.replace(home / file.name)


def _files(folder: Path, pattern: str, session: str) -> Iterator[Path]:
    """The plain files of a pattern; no link is followed, neither out of the folder nor in circles."""
    wanted = PurePosixPath(filled(pattern, {"session": glob.escape(session)}) or "")
    return _matching(folder, wanted.parts)


def _matching(folder: Path, parts: Sequence[str], depth: int = 0) -> Iterator[Path]:
    wanted, rest = parts[0], parts[1:]
    if wanted == "**" and rest:
        yield from _matching(folder, rest, depth)
    for entry in _entries(folder):
        inside = entry.is_dir(follow_symlinks=False)
        if wanted == "**":
            if inside and depth < _DEEPEST:
                yield from _matching(folder / entry.name, parts, depth + 1)
            elif not rest and entry.is_file(follow_symlinks=False):
                yield folder / entry.name
        elif fnmatchcase(entry.name, wanted):
            if inside and rest:
                yield from _matching(folder / entry.name, rest, depth)
            elif not rest and entry.is_file(follow_symlinks=False):
                yield folder / entry.name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _copy(file: Path, to: Path) -> None:
    if file.suffix in _DATABASES:
        _copy_database(file, to)
        return
    with open(_opened(file), "rb") as reading, open(_made(to), "wb") as writing:
        shutil.copyfileobj(reading, writing, _CHUNK)
    if file.suffix == ".jsonl":
        _cut_half_line(to)
    times = file.stat()
    os.utime(to, ns=(times.st_atime_ns, times.st_mtime_ns))  # the latest is to be the latest


def _opened(file: Path) -> int:
    return os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _made(file: Path) -> int:
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _copy_database(file: Path, to: Path) -> None:
    os.close(_made(to))
    try:
        # Not read-only: what is in the log beside it belongs to it, and a reader needs its lock file.
        with closing(sqlite3.connect(file)) as reading, closing(sqlite3.connect(to)) as writing:
            reading.backup(writing)
    except sqlite3.Error as error:
        raise BackendError(f"{file.name} cannot be copied", str(error)) from error


def _cut_half_line(file: Path) -> None:
    """Take off what stands behind the last line's end."""
    with open(file, "r+b") as copied:
        end = copied.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _CHUNK)
            copied.seek(start)
            at = copied.read(end - start).rfind(b"\n")
            if at >= 0:
                copied.truncate(start + at + 1)
                return
            end = start
        copied.truncate(0)
