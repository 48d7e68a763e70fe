"""The two files a run's output is copied into, and the point up to which dockerd's log was taken."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from .docker_frames import STREAMS, Stream, Taken
from .output import StreamFile

POINT = "spool.json"

#: The point is written at most this often; a crash costs reading the log again from there, never output.
_POINT_SECONDS = 0.25


class Files:
    """Open for writing, cut back to the point. Blocking; one writer at a time.

    Attributes:
        taken: How far the log was taken, per stream. The files may be further: a live source wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.taken = _read_point(folder)
        self._descriptors: dict[Stream, int] = {}
        for stream in STREAMS:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            self._descriptors[stream] = os.open(folder / stream, flags, 0o600)
        self._files = {stream: StreamFile(folder, stream) for stream in STREAMS}
        if any(self._files[stream].end() < self.taken[stream].offset for stream in STREAMS):
            # Only a power cut leaves files shorter than their point: copy all dockerd has, anew.
            self.taken = dict.fromkeys(STREAMS, Taken())
        self._ends = {stream: self.taken[stream].offset for stream in STREAMS}
        for stream, descriptor in self._descriptors.items():
            os.ftruncate(descriptor, max(0, self._ends[stream] - self._files[stream].base()))
        self._noted = self.taken.copy()
        self._noted_at = 0.0

    def end(self, stream: Stream) -> int:
        """Where the next byte of a stream goes."""
        return self._ends[stream]

    def put(self, stream: Stream, offset: int, data: bytes) -> None:
        """Write ``data``, which belongs at ``offset``, as far as it is not there yet."""
        view = memoryview(data)[max(0, self._ends[stream] - offset) :]
        base = self._files[stream].base()  # not 0 only after a trim where holes cannot be punched
        while view:
            written = os.pwrite(self._descriptors[stream], view, self._ends[stream] - base)
            self._ends[stream] += written
            view = view[written:]

    def note(self) -> None:
        """Write the point if it is due."""
        if time.monotonic() - self._noted_at >= _POINT_SECONDS:
            self._write_point()

    def close(self) -> None:
        """Make everything durable and close."""
        try:
            for descriptor in self._descriptors.values():
                os.fdatasync(descriptor)
            self._write_point()
        finally:
            for descriptor in self._descriptors.values():
                os.close(descriptor)

    def _write_point(self) -> None:
        if self.taken == self._noted:
            return
        temporary = self._folder / (POINT + ".new")
        temporary.write_text(json.dumps(self.taken), encoding="ascii")
        temporary.rename(self._folder / POINT)
        self._noted = self.taken.copy()
        self._noted_at = time.monotonic()


def _read_point(folder: Path) -> dict[Stream, Taken]:
    try:
        stored = json.loads((folder / POINT).read_text(encoding="ascii"))
        return {stream: Taken(*stored[stream]) for stream in STREAMS}
    except FileNotFoundError:
        return dict.fromkeys(STREAMS, Taken())
    except (ValueError, KeyError, TypeError):  # cut by a power failure: start anew
        return dict.fromkeys(STREAMS, Taken())
