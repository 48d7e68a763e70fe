"""Reading one transcript for its calls, from where the last reading ended."""

from __future__ import annotations

import os
import zlib
from typing import Any, NamedTuple, Protocol

from .calls import pack
from .claude_calls import ClaudeCalls
from .codex_calls import CodexCalls
from .lines import LONGEST, Lines

#: How much of a file's beginning tells whether it is still the same file.
HEAD = 1024


class CallReader(Protocol):
    """What gathers the calls of one transcript format; see ``ClaudeCalls``."""

    calls: dict[tuple[int, int], tuple[int, ...]]
    odd: int
    facts: dict[str, Any]
    models: dict[int, str]
    restart: bool

    @property
    def state(self) -> dict[str, Any]:
        """What the next reading of the same file has to know; JSON."""

    def feed(self, buffer: bytearray, end: int) -> None:
        """Read whole lines: ``buffer[:end]``."""


def call_reader(kind: str, state: dict[str, Any] | None) -> CallReader:
    """The reader for a transcript format: ``claude`` or ``codex``."""
    return CodexCalls(state) if kind == "codex" else ClaudeCalls(state)


class Job(NamedTuple):
    """One file to read."""

    file: int
    """Its number in the scan index."""
    kind: str
    path: str
    offset: int = 0
    head: int = 0
    """Digest of the first ``head_size`` bytes at the last reading."""
    head_size: int = 0
    state: dict[str, Any] | None = None


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


def read(job: Job, longest: int = LONGEST) -> Reading:
    """Read what is new in a file. A file that cannot be read is a reading with ``error``."""
    try:
        # O_NONBLOCK: a FIFO among the transcripts must not hang the reading.
        descriptor = os.open(job.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return _failed(job, error)
    try:
        return _read(job, descriptor, longest)
    except OSError as error:
        return _failed(job, error)
    finally:
        os.close(descriptor)


def _read(job: Job, descriptor: int, longest: int) -> Reading:
    status = os.fstat(descriptor)
    offset, state = job.offset, job.state
    if offset and not _same(job, descriptor, status.st_size):
        offset, state = 0, None
    reader = call_reader(job.kind, state)
    lines = Lines(descriptor, offset, longest)
    for buffer, end in lines.pieces():
        reader.feed(buffer, end)
    size = min(HEAD, lines.offset)
    return Reading(
        job.file,
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        lines.offset,
        zlib.crc32(os.pread(descriptor, size, 0)),
        size,
        not offset,
        reader.restart,
        reader.odd,
        lines.long,
        "",
        reader.state,
        reader.facts,
        reader.models,
        b"".join([pack(*call) for call in reader.calls.values()]),
    )


def _same(job: Job, descriptor: int, size: int) -> bool:
    """Whether the file still begins as it did: neither cut off nor written anew."""
    if size < job.offset:
        return False
    return zlib.crc32(os.pread(descriptor, job.head_size, 0)) == job.head


def _failed(job: Job, error: OSError) -> Reading:
    why = error.strerror or str(error)
    return Reading(
        *(job.file, 0, 0, 0, 0, job.offset, job.head, job.head_size, False, False, 0, 0, why),
        *(job.state or {}, {}, {}, b""),
    )
