"""What all transcripts on this machine tell, kept up to date by reading only what is new."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .scan import Job
from .scan_index import KnownFile, ScanIndex
from .scan_pool import readings


class Root(NamedTuple):
    """A folder of transcripts of one format."""

    kind: str
    path: str


class Refresh(NamedTuple):
    """What one refresh did."""

    files: int
    read: int
    """Files that had grown, changed or were new."""
    new_bytes: int
    errors: int


#: Readings that are committed together; a crash costs no more than these.
_BATCH = 64


class History:
    """Keeps a scan index up to date. Not safe to use from two threads at once.

    Args:
        index: Where it is kept.
        roots: Folders to look through, with all folders below them.
        processes: How many may read at once.
    """

    def __init__(self, index: ScanIndex, roots: Iterable[Root], processes: int | None = None) -> None:
        self._index = index
        self._roots = list(dict.fromkeys(roots))
        self._processes = processes or min(os.cpu_count() or 1, 4)
        self._known = {known.path: known for known in index.files()}
        #: Folders that could not be listed, and why.
        self.problems: dict[str, str] = {}

    def refresh(self) -> Refresh:
        """Look at every file's size and time, and read those that changed. Blocks.

        Raises:
            AgentTopError: A reading process died; what was read before is kept.
        """
        found: list[tuple[str, os.stat_result, str]] = []
        self.problems.clear()
        for root in self._roots:
            found.extend((path, status, root.kind) for path, status in self._walk(root.path))
        changed = [
            (path, status, kind)
            for path, status, kind in found
            if (known := self._known.get(path)) is None
            or known.size != status.st_size
            or known.changed != status.st_mtime_ns
            or known.inode != status.st_ino
        ]
        if not changed:
            return Refresh(len(found), 0, 0, 0)
        if new := [item for item in changed if item[0] not in self._known]:
            new.sort(key=lambda item: item[1].st_mtime_ns)  # what is older has the lower number
            self._index.add_files((kind, path) for path, _, kind in new)
            self._reload()
        return self._read(len(found), changed)

    def _read(self, total: int, changed: list[tuple[str, os.stat_result, str]]) -> Refresh:
        changed.sort(key=lambda item: -item[1].st_size)  # the longest first, so that none is left at the end
        jobs, new_bytes = [], 0
        for path, status, _ in changed:
            known = self._known[path]
            jobs.append(self._job(known, status.st_ino))
            new_bytes += max(0, status.st_size - jobs[-1].offset) or status.st_size
        errors = 0
        try:
            self._index.begin()
            for number, reading in enumerate(readings(jobs, new_bytes, self._processes), 1):
                self._index.add(reading)
                errors += bool(reading.error)
                if number % _BATCH == 0:
                    self._index.commit()
                    self._index.begin()
            self._index.commit()
        finally:
            self._index.rollback()
            self._reload()
        return Refresh(total, len(jobs), new_bytes, errors)

    def _job(self, known: KnownFile, inode: int) -> Job:
        if not known.offset or known.inode != inode:
            return Job(known.file, known.kind, known.path)
        state = self._index.state(known.file)
        return Job(known.file, known.kind, known.path, known.offset, known.head, known.head_size, state)

    def _reload(self) -> None:
        self._known = {known.path: known for known in self._index.files()}

    def _walk(self, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        """Every transcript below a folder; links are not followed, so loops cannot be walked."""
        try:
            entries = os.scandir(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            self.problems[folder] = error.strerror or str(error)
            return
        with entries:
            for entry in entries:
                if entry.name.endswith(".jsonl"):
                    try:
                        if entry.is_file(follow_symlinks=False):
                            yield entry.path, entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                elif entry.is_dir(follow_symlinks=False):
                    yield from self._walk(entry.path)
