"""Holding output to its size and age, at a pace that follows how fast it grows.

A program may print hundreds of megabytes a second: a run is looked at again before it can have
filled a quarter of what it may keep. A quiet one is looked at every other second, a thousand of them
in one go.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from ..errors import AgentTopError
from ..journal.books import Books
from ..paths import Paths
from .agent import Agent
from .spec import OutputLimits
from .supervisor import Supervisor, Watched

log = logging.getLogger(__name__)

#: Seconds between two looks at one run: while it prints fast, and while it is quiet.
FASTEST, SLOWEST = 0.1, 2.0

#: How often runs that began meanwhile are noticed.
TICK = 0.25

#: Seconds between two looks at the outputs of runs that have ended.
ENDED = 300.0

_BLOCK = 512
_NAMES = ("out", "err", "out.old", "err.old", "out.base", "err.base")


class Size(NamedTuple):
    """Bytes a run's output takes on the disk, and how far it has been written."""

    kept: int
    end: int


def measure(folder: Path) -> Size:
    """The size of a run's output now. Blocking, two to four calls of stat(2)."""
    kept = end = 0
    for name in ("out", "err"):
        try:
            found = os.stat(f"{folder}/{name}")
        except FileNotFoundError:
            continue
        kept += found.st_blocks * _BLOCK
        end += found.st_size
    return Size(kept, end)


class Trimmer:
    """Looks at every run's output and has its backend trim what is too much."""

    def __init__(self, supervisor: Supervisor, books: Books, paths: Paths) -> None:
        self._supervisor = supervisor
        self._books = books
        self._paths = paths
        self._due: dict[str, float] = {}
        self._seen: dict[str, tuple[int, float]] = {}

    async def run(self) -> None:
        """Go on for as long as the kernel lives."""
        ended = 0.0
        while True:
            now = anyio.current_time()
            await self._look(now)
            if now >= ended:
                await self._ended()
                ended = anyio.current_time() + ENDED
            wait = min(self._due.values(), default=now + TICK) - anyio.current_time()
            await anyio.sleep(max(FASTEST / 2, min(TICK, wait)))

    async def _look(self, now: float) -> None:
        runs = self._supervisor.runs
        for agent in self._due.keys() - runs.keys():
            del self._due[agent]
            self._seen.pop(agent, None)
        due = {agent: run for agent, run in runs.items() if self._due.get(agent, 0.0) <= now}
        if not due:
            return
        folders = {agent: run.launch.folder for agent, run in due.items()}
        sizes = await anyio.to_thread.run_sync(
            lambda: {agent: measure(folder) for agent, folder in folders.items()}
        )
        for agent, run in due.items():
            limits = self._limits(run)
            if sizes[agent].kept > limits.bytes:
                await self._trim(run)
            self._due[agent] = now + self._pause(agent, sizes[agent].end, limits.bytes, now)

    def _limits(self, run: Watched) -> OutputLimits:
        agent = self._books.pending.agents.get(run.agent)
        return agent.spec.output if agent is not None else run.launch.spec.output

    def _pause(self, agent: str, end: int, keep: int, now: float) -> float:
        """Until a quarter of ``keep`` may have been added, at the pace since the last look."""
        before, then = self._seen.get(agent, (0, now - TICK))
        self._seen[agent] = (end, now)
        grown = abs(end - before)
        if not grown:
            return SLOWEST
        return max(FASTEST, min(SLOWEST, keep / 4 / grown * max(now - then, 0.01)))

    async def _trim(self, run: Watched) -> None:
        try:
            await run.backend.trim(run.launch)
        except (AgentTopError, OSError) as error:
            log.warning("output of %s cannot be trimmed: %s", run.agent, error)

    async def _ended(self) -> None:
        """Of runs that have ended, keep what fits beside the newest and is not too old."""
        agents = [
            (self._paths.agent_dir(agent.id), agent.spec.output, _live_run(agent))
            for agent in self._books.pending.agents.values()
        ]
        await anyio.to_thread.run_sync(_prune_all, agents, time.time())


def _live_run(agent: Agent) -> int:
    return agent.run.number if agent.run is not None and agent.run.live else 0


def _prune_all(agents: Iterable[tuple[Path, OutputLimits, int]], now: float) -> None:
    for folder, limits, live in agents:
        try:
            prune(folder, limits, live, now)
        except OSError as error:
            log.warning("old output in %s cannot be removed: %s", folder, error)


def prune(folder: Path, limits: OutputLimits, live: int, now: float) -> None:
    """Remove the outputs of an agent's ended runs that are too old or too much, oldest run first.

    The live run's output counts, and is left alone. Times are those of the files. Blocking.
    """
    try:
        runs = sorted((int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()), reverse=True)
    except FileNotFoundError:
        return
    used = 0
    for number in runs:
        place = folder / str(number)
        size = measure(place).kept
        used += size
        if number == live or not size:
            continue
        newest = max(os.stat(place / name).st_mtime for name in ("out", "err") if (place / name).exists())
        first = number == runs[0]
        if now - newest > limits.age or (used > limits.bytes + limits.bytes // 4 and not first):
            used -= size
            for name in _NAMES:
                (place / name).unlink(missing_ok=True)
