"""The formats of transcripts: what reads the calls out of each, by name.

A reader is a class that is made with what the last reading of the same source had to remember. It is
named by a place to import it from, so that a process that only reads imports nothing else.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

#: Formats that come with agenttop, by name → the reader's class. A ``Root`` may bring its own instead.
BUILT_IN = {
    "aider": "agenttop.core.observe.readers.aider_calls:AiderCalls",
    "claude": "agenttop.core.observe.readers.claude_calls:ClaudeCalls",
    "codex": "agenttop.core.observe.readers.codex_calls:CodexCalls",
    "copilot": "agenttop.core.observe.readers.copilot_calls:CopilotCalls",
    "gemini": "agenttop.core.observe.readers.gemini_calls:GeminiCalls",
    "goose": "agenttop.core.observe.readers.goose_calls:GooseCalls",
    "opencode": "agenttop.core.observe.readers.opencode_calls:OpenCodeCalls",
    "qwen": "agenttop.core.observe.readers.qwen_calls:QwenCalls",
}


class Source(NamedTuple):
    """One thing to read: a file, or one conversation out of a database. Unequal: there is something new."""

    path: str
    """A file; of a database the file, ``#`` and the conversation's id."""
    inode: int
    size: int
    """Bytes; 0 of a conversation: it is not told."""
    changed: int
    """Nanoseconds since the epoch."""


class CallReader(Protocol):
    """What gathers the calls of one source, each once; see ``ClaudeCalls``."""

    calls: dict[tuple[int, int], tuple[int, ...]]
    odd: int
    facts: dict[str, Any]
    models: dict[int, str]
    restart: bool

    @property
    def state(self) -> dict[str, Any]:
        """What the next reading of the same source has to know; JSON."""


class LineReader(CallReader, Protocol):
    """Reads files of lines."""

    suffix: str
    """How the names of its files end."""

    def feed(self, buffer: bytearray, end: int) -> None:
        """Read whole lines: ``buffer[:end]``."""


@runtime_checkable
class Placed(Protocol):
    """A reader that has to know which file it reads."""

    def begin(self, path: str) -> None:
        """Said before the first line."""


@runtime_checkable
class DatabaseReader(CallReader, Protocol):
    """Reads conversations out of a database that is somebody else's."""

    @staticmethod
    def lister(path: str) -> Lister:
        """What lists the conversations of the database at ``path``."""

    def read(self, path: str) -> Source:
        """Read what is new in one conversation; what it is like now, as the lister has it.

        Raises:
            OSError: It cannot be read now: locked, damaged, or gone.
        """


class Lister(Protocol):
    """Lists what lies below one root, again and again."""

    def sources(self, problems: dict[str, str]) -> Iterator[Source]:
        """Everything there is to read; folders and files that cannot be listed go to ``problems``."""


Reader = Callable[[dict[str, Any] | None], LineReader | DatabaseReader]


@functools.cache
def reader_class(kind: str, place: str = "") -> Reader:
    """The class of a format's reader.

    Args:
        place: ``module:class``; empty: the built-in format of that name.

    Raises:
        ImportError: There is none.
    """
    module, _, name = (place or BUILT_IN.get(kind, "")).partition(":")
    if not name:
        raise ImportError(f"no transcript format is called {kind!r}")
    try:
        found: Reader | None = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # somebody else's code must not hide the others' transcripts
        raise ImportError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
    if found is None:
        raise ImportError(f"{module} has no {name}")
    return found


def lister(kind: str, path: str, place: str = "") -> Lister:
    """What lists the sources below a root of one format.

    Raises:
        ImportError: There is no such format.
    """
    found = reader_class(kind, place)
    make: Callable[[str], Lister] | None = getattr(found, "lister", None)
    return make(path) if make else Folder(path, getattr(found, "suffix", ".jsonl"))


class Folder:
    """Lists the files below a folder whose names end in ``suffix``."""

    def __init__(self, path: str, suffix: str) -> None:
        self._path, self._suffix = path, suffix

    def sources(self, problems: dict[str, str]) -> Iterator[Source]:
        """Every transcript; links are not followed, so loops cannot be walked."""
        folders = [self._path]  # not recursion: somebody else decides how deep they are
        while folders:
            folder = folders.pop()
            try:
                entries = os.scandir(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems[folder] = error.strerror or str(error)
                continue
            with entries:
                try:
                    for entry in entries:
                        if (named := _writable(entry.path)) != entry.path:
                            problems[named] = "Its name is no UTF-8"
                        elif entry.name.endswith(self._suffix):
                            if (source := _source(entry, problems)) is not None:
                                yield source
                        elif entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        elif entry.is_symlink() and os.path.isdir(entry.path):
                            problems[entry.path] = _link(entry.path)
                except OSError as error:  # while it is listed
                    problems[folder] = error.strerror or str(error)


def _writable(path: str) -> str:
    """A path as it can be written down; another one if its bytes are no text."""
    return path.encode("utf-8", "replace").decode()


def _source(entry: os.DirEntry[str], problems: dict[str, str]) -> Source | None:
    """The file of an entry that is named like a transcript, if it is one."""
    try:
        if entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            return Source(entry.path, status.st_ino, status.st_size, status.st_mtime_ns)
        if entry.is_symlink():
            problems[entry.path] = _link(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            problems[entry.path] = "A folder with the name of a transcript"
        else:
            problems[entry.path] = "Not a regular file"
    except FileNotFoundError:  # gone since it was listed
        return None
    except OSError as error:
        problems[entry.path] = error.strerror or str(error)
    return None


def _link(path: str) -> str:
    """What is said of a link: it is not followed, because it may lead anywhere, or back."""
    try:
        end = os.path.realpath(path, strict=True)
    except OSError as error:
        return f"A link that leads nowhere: {error.strerror}"
    folder = os.path.realpath(os.path.dirname(path))
    if f"{folder}/".startswith(f"{end.rstrip('/')}/"):
        return f"A link back to {end}, which would never end"
    return f"A link to {end}; links are not followed"
