"""Reading one source for its calls, from where the last reading ended."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from .. import regular
from . import lines
from .calls import pack
from .formats import CallReader, DatabaseReader, LineReader, Placed, Reader, reader_class

#: How much of a file's beginning tells whether it is still the same file.
HEAD = 1024


#: So many characters of a fact, or of a model's name, are kept (PATH_MAX).
_LONGEST = 4096


class Job(NamedTuple):
    """One file to read, or one conversation of a database."""

    file: int
    """Its number in the scan index."""
    kind: str
    path: str
    offset: int = 0
    head: int = 0
    """Digest of the first ``head_size`` bytes at the last reading."""
    head_size: int = 0
    state: dict[str, Any] | None = None
    reader: str = ""
    """Where the reader of its calls is, if the format is not built in; see ``formats.reader_class``."""


class Reading(NamedTuple):
    """What one reading of one file found."""

    file: int
    device: int
    inode: int
    size: int
    changed: int
    """Modification time, nanoseconds, taken before the reading."""
    offset: int
    head: int
    head_size: int
    whole: bool
    """Read from the beginning: the first time, or because the file was cut off or written anew."""
    restart: bool
    """Forget the calls that earlier readings found in this file."""
    odd: int
    long: int
    error: str
    state: dict[str, Any]
    facts: dict[str, Any]
    models: dict[int, str]
    calls: bytes
    """Packed calls; see ``calls.unpack_all``."""


def read(job: Job, longest: int | None = None) -> Reading:
    """Read what is new in a source. One that cannot be read is a reading with ``error``.

    Args:
        longest: Lines from this length on, in bytes, are passed over; default: ``lines.LONGEST``.
    """
    try:
        make = reader_class(job.kind, job.reader)
        reader = make(job.state if job.offset else None)
        if isinstance(reader, DatabaseReader):
            source = reader.read(job.path)
            # A place in a file means nothing here; what the reader has to know is in its state.
            return _found(job, reader, (0, *source[1:]), (1, 0, 0, not job.offset), 0)
        with regular.opened(job.path) as descriptor:
            return _read(job, reader, make, descriptor, lines.LONGEST if longest is None else longest)
    except Exception as error:  # noqa: BLE001 (a reader may be somebody else's; the others go on)
        return _failed(job, error)


def _read(job: Job, reader: LineReader, make: Reader, descriptor: int, longest: int) -> Reading:
    status = os.fstat(descriptor)
    offset = job.offset
    if offset and not _same(job, descriptor, status.st_size):
        offset, reader = 0, cast("LineReader", make(None))
    if isinstance(reader, Placed):
        reader.begin(job.path)
    text = lines.Lines(descriptor, offset, longest)
    for buffer, end in text.pieces():
        reader.feed(buffer, end)
    size = min(HEAD, text.offset)
    head = zlib.crc32(os.pread(descriptor, size, 0))
    stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return _found(job, reader, stamp, (text.offset, head, size, not offset), text.long)


def _found(
    job: Job,
    reader: CallReader,
    stamp: tuple[int, int, int, int],
    place: tuple[int, int, int, bool],
    long: int,
) -> Reading:
    """What was found; ``stamp`` and ``place`` are the reading's own fields, in their order."""
    facts = believed(reader.facts)
    reader.facts.clear()  # what the reader has to know next time is made of the same
    reader.facts.update(facts)
    device, inode, size, changed = stamp
    offset, head, head_size, whole = place
    calls = b"".join([pack(*call) for call in reader.calls.values()])
    return Reading(
        job.file,
        device,
        inode,
        size,
        changed,
        offset,
        head,
        head_size,
        whole,
        reader.restart,
        reader.odd,
        long,
        "",
        reader.state,
        facts,
        {key: name[:_LONGEST] for key, name in reader.models.items()},
        calls,
    )


def believed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Only what can be a fact: a text of a bearable length, yes or no; an agent can write anything there."""
    found: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, str):
            found[key] = value[:_LONGEST].encode("utf-8", "replace").decode()
        elif value is None or isinstance(value, bool):
            found[key] = value
    return found


def _same(job: Job, descriptor: int, size: int) -> bool:
    """Whether the file still begins as it did: neither cut off nor written anew."""
    if size < job.offset:
        return False
    return zlib.crc32(os.pread(descriptor, job.head_size, 0)) == job.head


def _failed(job: Job, error: Exception) -> Reading:
    # One that is gone since it was listed is no problem; and it is read when it is there again.
    gone = isinstance(error, FileNotFoundError)
    own = isinstance(error, OSError | ImportError)
    why = getattr(error, "strerror", None) or (str(error) if own else f"{type(error).__name__}: {error}")
    return Reading(
        *(job.file, 0, 0, 0, 0, job.offset, job.head, job.head_size, False, False, 0, 0, "" if gone else why),
        *(job.state or {}, {}, {}, b""),
    )
