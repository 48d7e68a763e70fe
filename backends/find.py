"""Finding a run again: by its handle, by its pid file, or by its mark in /proc."""

from __future__ import annotations

import time
from collections.abc import Callable

from agenttop.core.backend import Launch, RunRef

from . import runs, tree
from .runs import Run

#: How long a wrapper may take from its exec to its pid file.
ENTER = 10.0


class Finder:
    """Looks for runs of this boot and earlier ones; blocking, to be called in a worker thread."""

    def __init__(self, table: tree.Table, boot_id: Callable[[], str]) -> None:
        self._table = table
        self._boot_id = boot_id

    def find(self, launch: Launch, ref: RunRef | None) -> Run | None:
        """The run, or ``None`` if it has left neither a handle nor a pid file nor a process.

        Raises:
            BackendError: The handle is not one of this backend's.
        """
        if ref is not None:
            return Run.from_ref(ref)
        noted = self.noted(launch) or self._starting(launch)
        if noted is None:
            return None
        made = runs.load_groups(launch.folder)
        carried = noted.mark or launch.mark
        return Run(launch.marker, launch.folder, noted.pid, noted.start_time, noted.boot, made, mark=carried)

    def noted(self, launch: Launch) -> runs.Identity | None:
        """Who its wrapper is, by its pid file."""
        return runs.identity(launch.folder, (launch.mark, launch.marker))

    def _starting(self, launch: Launch) -> runs.Identity | None:
        """A wrapper that runs but has not written its pid file yet."""
        end = time.monotonic() + ENTER
        while marked := self._table.fresh().marked.get(launch.mark):
            if noted := self.noted(launch):
                return noted
            if time.monotonic() > end:
                first = min(marked, key=lambda process: process.start_time)
                return runs.Identity(self._boot_id(), *first.key, launch.mark)
            time.sleep(0.005)
        return self.noted(launch)
