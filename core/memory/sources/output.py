"""What programs print, as recall has it: agents whose words the gateway does not see in calls alone.

Of coding CLIs the calls tell more than their screens, so that their output is left out. Files are looked at
about once a second, a bounded number of them, and read in whole lines; who prints more than a bound in that
time loses the oldest of it to recall (its output files have everything).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from ...agents.agent import Agent
from ...backend import Backend, Launch
from ...clock import Clock
from ...errors import AgentTopError
from ...journal import events as ev
from ...journal.books import Books
from ...journal.events import Event, Record
from ..model import Said
from .intake import Intake, Item, Redact

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks."""

LOOKS = 250
"""Runs that one look is for; the others' turn is the next."""

MOST_BYTES = 64 << 10
"""Of one stream at one look; what is older is not remembered."""

ENTRY_BYTES = 4 << 10
"""Lines are put together up to so many bytes; a longer line is cut into several entries."""

_STREAMS = ("out", "err")


class Piece(NamedTuple):
    """Whole lines of a stream, between two of its offsets."""

    start: int
    end: int
    data: bytes


def pieces(data: bytes, start: int, *, last: bool) -> list[Piece]:
    """Cut what was read into entries; an unfinished line is left for later, unless it is the ``last``.

    Args:
        start: The offset of the first byte.
    """
    found: list[Piece] = []
    at = 0
    while at < len(data):
        end = min(len(data), at + ENTRY_BYTES)
        line = data.rfind(b"\n", at, end) + 1
        if line > at:
            end = line
        elif end - at < ENTRY_BYTES and not last:
            break
        found.append(Piece(start + at, start + end, data[at:end]))
        at = end
    return found


@dataclass(slots=True)
class _Reading:
    """How far a run's output was read."""

    agent: str
    run: int
    at: dict[str, int]
    """Offsets, by stream."""
    sizes: dict[str, int] = field(default_factory=dict)
    backend: str = ""
    launch: Launch | None = None
    ended: bool = False
    last: bool = False
    """It had ended before the present look."""

    @property
    def name(self) -> str:
        """Which run it is."""
        return f"{self.agent}.{self.run}"


class OutputReader:
    """``run`` is one task of the kernel.

    Args:
        file: Remembers how far each live run was read, across kernels.
        describe: The folder of a run. Blocking: it may read a file.
        backend: By its name; called on the loop.
        prints: Whether an agent's output is to be remembered. Blocking.
    """

    def __init__(
        self,
        intake: Intake,
        books: Books,
        clock: Clock,
        file: Path,
        *,
        describe: Callable[[Agent, int], Launch],
        backend: Callable[[str], Backend],
        prints: Callable[[Agent], bool],
    ) -> None:
        self._intake = intake
        self._books = books
        self._clock = clock
        self._file = file
        self._describe = describe
        self._backend = backend
        self._prints = prints
        self._runs: dict[tuple[str, int], _Reading] = {}
        self._taken: dict[str, dict[str, int]] = {}
        """By run: how far it is in the batch that is being written."""
        self._done: dict[str, dict[str, int]] = {}
        """The same, of what is durable."""
        self._saved: dict[str, dict[str, int]] = {}
        self._begun = False
        """It is known how far the last kernel read."""
        self._turn = 0
        self._news = anyio.Event()
        self._looking = anyio.Lock()
        self._saving = anyio.Lock()
        intake.written.append(self._written)
        books.listen(self._committed)

    async def run(self) -> None:
        """Look for as long as the kernel lives."""
        self._saved = await anyio.to_thread.run_sync(self._load)
        self._done = {run: dict(at) for run, at in self._saved.items()}
        for reading in self._runs.values():  # of what happened before this task began
            reading.at = dict(self._saved.get(reading.name, {}))
        for agent in list(self._books.committed.agents.values()):
            if agent.run is not None and agent.run.live:
                self._begin(agent.id, agent.run.number)
        self._begun = True
        while True:
            if not self._runs:
                self._news = anyio.Event()
                await self.save()
                await self._news.wait()
            if self._intake.room:
                await self.look()
                await self.save()
            await anyio.sleep(EVERY)

    def _committed(self, batch: Sequence[tuple[Record, Event]]) -> None:
        for _, event in batch:
            if isinstance(event, ev.RunStarted):
                self._begin(event.agent, event.run)
            elif isinstance(event, ev.RunExited):
                self._begin(event.agent, event.run).ended = True
            elif isinstance(event, ev.AgentRemoved):
                for key in [key for key in self._runs if key[0] == event.agent]:
                    del self._runs[key]

    def _begin(self, agent: str, run: int) -> _Reading:
        reading = self._runs.get((agent, run))
        if reading is None:
            at = dict(self._saved.get(f"{agent}.{run}", {}))
            reading = self._runs[agent, run] = _Reading(agent, run, at)
            self._news.set()
        return reading

    # --- looking ---------------------------------------------------------------------------------

    async def catch_up(self) -> None:
        """Look at every run once, as far as there is room for what they printed."""
        for _ in range(len(self._runs) // LOOKS + 1):
            if self._begun and self._intake.room:
                await self.look()

    async def look(self) -> None:
        """One look at the runs whose turn it is."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        readings = list(self._runs.values())
        first = self._turn % max(1, len(readings))
        mine = (readings[first:] + readings[:first])[:LOOKS]
        self._turn = first + len(mine)
        for reading in mine:
            reading.last = reading.ended
        for reading in await anyio.to_thread.run_sync(self._changed, mine):
            try:
                await self._read(reading)
            except (AgentTopError, OSError) as error:
                log.info("the output of %s cannot be read: %s", reading.name, error)
        for reading in mine:
            if reading.launch is None or (reading.last and reading.sizes):
                self._runs.pop((reading.agent, reading.run), None)

    def _changed(self, readings: Sequence[_Reading]) -> list[_Reading]:
        """Those that printed since the last look, and those that ended."""
        found = []
        for reading in readings:
            agent = self._books.committed.agents.get(reading.agent)
            if agent is None:
                continue
            try:
                if reading.launch is None:
                    if not self._prints(agent):
                        continue
                    reading.backend, reading.launch = agent.spec.backend, self._describe(agent, reading.run)
                folder = reading.launch.folder
                sizes = {stream: _size(folder / stream) for stream in _STREAMS}
            except (AgentTopError, OSError) as error:
                log.info("the output of %s is not remembered: %s", reading.name, error)
                continue
            if sizes != reading.sizes or reading.last:
                reading.sizes = sizes
                found.append(reading)
        return found

    async def _read(self, reading: _Reading) -> None:
        launch = reading.launch
        assert launch is not None
        offsets = {stream: self._first(reading, stream) for stream in _STREAMS}
        starts, datas = dict(offsets), {stream: bytearray() for stream in _STREAMS}
        async for chunk in self._backend(reading.backend).output(launch, offsets):
            data = datas[chunk.stream]
            if chunk.offset != starts[chunk.stream] + len(data):  # the oldest is not kept any more
                data.clear()
                starts[chunk.stream] = chunk.offset
            if len(data) < MOST_BYTES:
                data += chunk.data
        for stream in _STREAMS:
            for piece in pieces(bytes(datas[stream]), starts[stream], last=reading.last):
                if not self._take(reading, stream, piece):
                    reading.sizes = {}  # the rest is looked at again
                    break
                reading.at[stream] = piece.end

    def _first(self, reading: _Reading, stream: str) -> int:
        at, size = reading.at.get(stream, 0), reading.sizes[stream]
        if size - at <= MOST_BYTES:
            return at
        self._intake.drop("output")
        return size - MOST_BYTES

    def _take(self, reading: _Reading, stream: str, piece: Piece) -> bool:
        at, agent, run, name = self._clock.time(), reading.agent, reading.run, reading.name

        def read(redact: Redact) -> Iterable[Said]:
            self._taken.setdefault(name, {})[stream] = piece.end
            text = redact(piece.data.decode("utf-8", "replace"))
            key = f"output:{run}:{stream}:{piece.start}-{piece.end}"
            return [Said(agent, "output", text, at, run, "output", key)] if text.strip() else []

        return self._intake.offer(Item("output", len(piece.data), read))

    def _written(self, agents: set[str]) -> None:
        for name, ends in self._taken.items():
            self._done.setdefault(name, {}).update(ends)
        self._taken = {}

    # --- across kernels --------------------------------------------------------------------------

    def _load(self) -> dict[str, dict[str, int]]:
        try:
            found = json.loads(self._file.read_bytes())
            return {str(run): {str(s): int(at) for s, at in ats.items()} for run, ats in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            log.warning("%s cannot be used: %s", self._file, error)
            return {}

    async def save(self) -> None:
        """Put down how far all runs are, where that changed."""
        async with self._saving:
            if self._begun:
                await self._save()

    async def _save(self) -> None:
        live = {reading.name for reading in self._runs.values()}
        now = {name: dict(at) for name, at in self._done.items() if name in live}
        self._done = {name: dict(at) for name, at in now.items()}
        if now == self._saved:
            return
        try:
            await anyio.to_thread.run_sync(self._put, now)
        except OSError as error:
            log.info("how far output was read is not written down: %s", error)
        self._saved = now

    def _put(self, now: dict[str, dict[str, int]]) -> None:
        temporary = self._file.with_name(f".{self._file.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as opened:
            json.dump(now, opened)
        temporary.replace(self._file)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
