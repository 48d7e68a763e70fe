"""Imports and exports: JSON lines of all tiers, and a folder of Markdown files of one namespace.

Nothing that is read is trusted: links are never followed, names are checked like an agent's, sizes are
bounded, and what was imported says so in its provenance. Files are written with mode 0600, where none was
before.
All functions here block on the disk: call them in a worker thread.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from ..errors import AgentTopError
from .model import ROLES, Block, Entry, Limits, MemoryRefused, Note, bounded
from .names import block_name, namespace, note_key

_LINE = 24 << 20
"""Bytes of a line of JSON: the largest file in base64, and more."""
_FIELDS: dict[str, dict[str, type]] = {
    "working": {"agent": str, "name": str, "text": str},
    "recall": {"agent": str, "role": str, "text": str, "at": float},
    "archival": {"namespace": str, "key": str},
}


class Line(NamedTuple):
    """A line of an import, checked."""

    number: int
    tier: str
    fields: dict[str, Any]


class MarkdownNote(NamedTuple):
    """A file of a folder of Markdown."""

    key: str
    text: str
    path: str
    """Below the folder."""


class Skipped(NamedTuple):
    """Something that was not taken, and why."""

    path: str
    why: str


# --- out


def block_line(block: Block) -> bytes:
    """A block as a line of JSON."""
    return orjson.dumps({"tier": "working", **block._asdict()}, option=orjson.OPT_APPEND_NEWLINE)


def entry_line(entry: Entry) -> bytes:
    """An entry of recall as a line of JSON."""
    return orjson.dumps(
        {"tier": "recall", "at": entry.at, **entry._asdict()}, option=orjson.OPT_APPEND_NEWLINE
    )


def note_line(note: Note) -> bytes:
    """A note as a line of JSON; a file in base64."""
    fields = note._asdict()
    if note.file is not None:
        fields["file"] = base64.b64encode(note.file).decode()
    return orjson.dumps({"tier": "archival", **fields}, option=orjson.OPT_APPEND_NEWLINE)


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Write a new file of JSON lines, whole or not at all; how many.

    Raises:
        MemoryRefused: The file is there already, or cannot be written.
    """
    partly = path.with_name(f".agenttop-{secrets.token_hex(8)}.part")
    number = 0
    try:
        with _new(partly) as file:
            try:
                for line in lines:
                    file.write(line)
                    number += 1
                file.flush()
                os.fsync(file.fileno())
                os.link(partly, path)  # unlike a rename it never replaces
            finally:
                partly.unlink(missing_ok=True)
    except OSError as error:
        raise MemoryRefused(
            f"{path} was not written", error.strerror or str(error), "Choose another"
        ) from error
    return number


def _new(path: Path) -> IO[bytes]:
    return open(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb"
    )


def write_markdown(folder: Path, notes: Iterable[Note]) -> int:
    """Write the notes of one namespace below a folder that is not there yet; how many.

    A note is ``KEY.md``, a file is ``KEY`` as it is. Two keys that one file system cannot tell apart (``A``
    and ``a``) make the export fail rather than lose one.

    Raises:
        MemoryRefused: The folder is there, or cannot be written.
    """
    number = 0
    try:
        folder.mkdir(mode=0o700, parents=False)
        for note in notes:
            path = folder / note_key(note.key)
            if note.file is None:
                path = path.with_name(path.name + ".md")
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _new(path) as file:
                file.write(note.file if note.file is not None else note.text.encode())
            number += 1
    except OSError as error:
        raise MemoryRefused(
            f"the export to {folder} ended after {number} notes",
            f"{error.filename}: {error.strerror}",
            "Remove what was written, and export to a new folder",
        ) from error
    return number


# --- in


def read_lines(path: Path, limits: Limits) -> Iterator[Line]:
    """The lines of an export, each checked.

    Raises:
        MemoryRefused: With the number of the line that is wrong; or the file cannot be read.
    """
    try:
        number_of = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(number_of, "rb") as file:
            if not stat.S_ISREG(os.fstat(number_of).st_mode):
                raise MemoryRefused(f"{path} cannot be imported", "It is not a file")
            for number in range(1, limits.import_lines + 2):
                raw = file.readline(_LINE + 1)
                if not raw:
                    return
                if number > limits.import_lines or len(raw) > _LINE:
                    raise _wrong(path, number, "It goes on too long")
                if raw.strip():
                    yield _line(path, number, raw, limits)
    except OSError as error:
        raise MemoryRefused(f"{path} cannot be imported", error.strerror or str(error)) from error


def _wrong(path: Path, number: int, why: str) -> MemoryRefused:
    return MemoryRefused(f"{path}, line {number}, cannot be imported", why, "Correct it, and import again")


def _line(path: Path, number: int, raw: bytes, limits: Limits) -> Line:
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _wrong(path, number, f"It is no JSON: {error}") from error
    tier = fields.get("tier") if isinstance(fields, dict) else None
    wanted = _FIELDS.get(tier) if isinstance(tier, str) else None
    if wanted is None or not isinstance(tier, str):
        raise _wrong(path, number, f"Its tier is none of {', '.join(_FIELDS)}")
    for name, kind in wanted.items():
        value = fields.get(name)
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            raise _wrong(path, number, f"Its {name} is missing or no {kind.__name__}")
    try:
        _CHECKS[tier](fields, limits)
    except (AgentTopError, binascii.Error, ValueError) as error:
        raise _wrong(path, number, str(error)) from error
    return Line(number, tier, fields)


def _check_block(fields: dict[str, Any], limits: Limits) -> None:
    namespace(f"private/{fields['agent']}")
    block_name(fields["name"])
    bounded(fields["text"], limits.write_bytes, "its text")


def _check_entry(fields: dict[str, Any], limits: Limits) -> None:
    namespace(f"private/{fields['agent']}")
    if fields["role"] not in ROLES:
        raise ValueError(f"Its role is none of {', '.join(sorted(ROLES))}")
    if not 0 < fields["at"] < 1e11:
        raise ValueError("Its time is not counted in seconds since 1970")
    bounded(fields["text"], limits.file_bytes, "its text")


def _check_note(fields: dict[str, Any], limits: Limits) -> None:
    namespace(fields["namespace"])
    note_key(fields["key"])
    content = fields["content"] = _content(fields)
    if isinstance(content, str):
        bounded(content, limits.write_bytes, "its text")
    elif len(content) > limits.file_bytes:
        raise ValueError(f"Its file has more than {limits.file_bytes} bytes")


_CHECKS: dict[str, Callable[[dict[str, Any], Limits], None]] = {
    "working": _check_block,
    "recall": _check_entry,
    "archival": _check_note,
}


def _content(fields: dict[str, Any]) -> str | bytes:
    if (file := fields.get("file")) is not None:
        if not isinstance(file, str):
            raise ValueError("Its file is not in base64")
        return base64.b64decode(file, validate=True)
    if not isinstance(fields.get("text"), str):
        raise ValueError("Its text is missing")
    text: str = fields["text"]
    return text


def read_markdown(folder: Path, limits: Limits, skipped: list[Skipped]) -> Iterator[MarkdownNote]:
    """The Markdown files below a folder, in order; the rest is added to ``skipped`` with the reason.

    Links are not followed, and every file is opened relative to the folder it was found in, so that nobody
    can put a link in its place meanwhile.

    Raises:
        MemoryRefused: The folder cannot be read, or has too many files.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise MemoryRefused(f"{folder} cannot be imported", "It is not a folder")
    number = 0
    for where, folders, files, handle in os.fwalk(folder, follow_symlinks=False):
        folders.sort()
        below = Path(where).relative_to(folder)
        for name in sorted(files):
            number += 1
            if number > limits.import_lines:
                raise MemoryRefused(
                    f"{folder} cannot be imported", f"It has over {limits.import_lines} files"
                )
            path = (below / name).as_posix()
            try:
                yield MarkdownNote(_key(path), _text(name, handle, limits), ascii(path)[1:-1])
            except (AgentTopError, OSError, UnicodeError) as error:
                skipped.append(Skipped(ascii(path)[1:-1], str(error)))


def _key(path: str) -> str:
    if not path.endswith(".md"):
        raise MemoryRefused("it was not taken", "Its name does not end in .md")
    return note_key(path.removesuffix(".md"))


def _text(name: str, folder: int, limits: Limits) -> str:
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise MemoryRefused("it was not taken", "It is not a file")
        raw = file.read(limits.write_bytes + 1)
    if len(raw) > limits.write_bytes:
        raise MemoryRefused("it was not taken", f"It has more than {limits.write_bytes} bytes")
    return raw.decode()
