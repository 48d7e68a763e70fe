"""Many transcripts read by several processes at once, where that pays.

``bytes.find`` holds the interpreter's lock, so threads would not help.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

import orjson

from ...errors import AgentTopError
from .scan import Job, Reading, read
from .scan_worker import LENGTHS, decode

#: Below so many new bytes one process is done sooner than a second one has started.
WORTH = 24 << 20
#: Readings that may wait for whoever takes them.
_WAITING = 8


def readings(jobs: Sequence[Job], new_bytes: int, processes: int) -> Iterator[Reading]:
    """Read the jobs, in any order; blocks, so call it off the event loop.

    Raises:
        AgentTopError: A reading process died.
    """
    if processes < 2 or new_bytes < WORTH or len(jobs) < 2:
        yield from map(read, jobs)
        return
    with ExitStack() as stack:
        pool = _Pool(jobs, stack, min(processes, len(jobs)))
        yield from pool.results(len(jobs))


class _Pool:
    def __init__(self, jobs: Sequence[Job], stack: ExitStack, processes: int) -> None:
        self._jobs = iter(jobs)
        self._lock = threading.Lock()
        self._done: queue.Queue[Reading | Exception] = queue.Queue(_WAITING)
        self._stopped = threading.Event()
        stack.callback(self._stopped.set)
        for _ in range(processes):
            worker = subprocess.Popen(
                [sys.executable, "-m", "agenttop.core.observe.index.scan_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            thread = threading.Thread(target=self._serve, args=(worker,), name="transcripts", daemon=True)
            thread.start()
            stack.callback(self._end, worker, thread)

    def results(self, number: int) -> Iterator[Reading]:
        """So many readings, as they come."""
        for _ in range(number):
            found = self._done.get()
            if isinstance(found, Exception):
                raise found
            yield found

    def _next(self) -> Job | None:
        with self._lock:
            return next(self._jobs, None)

    def _serve(self, worker: subprocess.Popen[bytes]) -> None:
        assert worker.stdin is not None
        try:
            waiting = 0
            while not self._stopped.is_set():
                # One job ahead, so that the process never waits for this thread.
                while waiting < 2 and (job := self._next()) is not None:
                    worker.stdin.write(orjson.dumps([*job]) + b"\n")
                    waiting += 1
                worker.stdin.flush()
                if not waiting:
                    return
                head, calls = LENGTHS.unpack(_exactly(worker, LENGTHS.size))
                self._put(decode(_exactly(worker, head), _exactly(worker, calls)))
                waiting -= 1
        except (OSError, EOFError, ValueError) as error:
            self._put(AgentTopError("cannot read transcripts", f"A reading process ended: {error}"))

    def _put(self, found: Reading | Exception) -> None:
        while not self._stopped.is_set():
            try:
                self._done.put(found, timeout=0.5)
            except queue.Full:
                continue
            return

    def _end(self, worker: subprocess.Popen[bytes], thread: threading.Thread) -> None:
        self._stopped.set()
        worker.kill()
        worker.wait()
        thread.join()
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdout.close()
        with suppress(BrokenPipeError):  # a job that it never took
            worker.stdin.close()


def _exactly(worker: subprocess.Popen[bytes], size: int) -> bytes:
    assert worker.stdout is not None
    data = worker.stdout.read(size)
    if len(data) < size:
        raise EOFError("it closed its output")
    return data
