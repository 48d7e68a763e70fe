"""What all transcripts on this machine tell, kept up to date by reading only what is new."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from .formats import Lister, Source, lister
from .scan import Job
from .scan_index import KnownFile, ScanIndex
from .scan_pool import readings


class Root(NamedTuple):
    """A folder, or a database, with transcripts of one format."""

    kind: str
    """The format's name; that of its CLI, if that has but one."""
    path: str
    reader: str = ""
    """Where the reader of its calls is, if the format is not built in; see ``formats.reader_class``."""


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
        self._readers = {root.kind: root.reader for root in self._roots}
        self._listers: dict[Root, Lister] = {}
        self._processes = processes or min(os.cpu_count() or 1, 4)
        self._known = {known.path: known for known in index.files()}
        #: Folders that could not be listed, and what is no transcript though it is called like one; why.
        self.problems: dict[str, str] = {}
        #: What the last refresh found; more is known, of transcripts that were deleted since.
        self.found: frozenset[str] = frozenset()

    @property
    def roots(self) -> list[Root]:
        """Where it looks."""
        return self._roots

    def refresh(self) -> Refresh:
        """Look at every file's size and time, and read those that changed. Blocks.

        Raises:
            AgentTopError: A reading process died; what was read before is kept.
        """
        self.problems.clear()
        found = [(source, root.kind) for root in self._roots for source in self._sources(root)]
        self.found = frozenset(source.path for source, _ in found)
        changed = [
            (source, kind)
            for source, kind in found
            if (known := self._known.get(source.path)) is None
            or known.size != source.size
            or known.changed != source.changed
            or known.inode != source.inode
        ]
        if not changed:
            return Refresh(len(found), 0, 0, 0)
        if new := [item for item in changed if item[0].path not in self._known]:
            new.sort(key=lambda item: item[0].changed)  # what is older has the lower number
            self._index.add_files((kind, source.path) for source, kind in new)
            self._reload()
        return self._read(len(found), changed)

    def _read(self, total: int, changed: list[tuple[Source, str]]) -> Refresh:
        changed.sort(key=lambda item: -item[0].size)  # the longest first, so that none is left at the end
        jobs, new_bytes = [], 0
        for source, _ in changed:
            known = self._known[source.path]
            jobs.append(self._job(known, source.inode))
            new_bytes += max(0, source.size - jobs[-1].offset) or source.size
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
        reader = self._readers.get(known.kind, "")
        if not known.offset or known.inode != inode:
            return Job(known.file, known.kind, known.path, reader=reader)
        state = self._index.state(known.file)
        place = known.offset, known.head, known.head_size
        return Job(known.file, known.kind, known.path, *place, state, reader)

    def _reload(self) -> None:
        self._known = {known.path: known for known in self._index.files()}

    def _sources(self, root: Root) -> Iterable[Source]:
        try:
            if (known := self._listers.get(root)) is None:
                known = self._listers[root] = lister(root.kind, root.path, root.reader)
            return list(known.sources(self.problems))
        except ImportError as error:
            self.problems[root.path] = str(error)
        except Exception as error:  # noqa: BLE001 (a lister may be somebody else's; the others go on)
            self.problems[root.path] = f"{type(error).__name__}: {error}"
        return ()
