"""The last lines of agents that ended in an error: what a person looks for first.

They are read from the run's own files, which outlive the kernel; the journal has no text of an agent's.
Of a terminal it is the last screen, of everything else the ends of both streams.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anyio
import anyio.to_thread

from ..errors import AgentTopError, BackendError
from ..journal import events as ev
from ..journal.books import Books
from ..journal.events import Event, Record
from .agent import Agent, Run
from .backends import Backends
from .launch import Launcher
from .states import State

log = logging.getLogger(__name__)

#: So many lines are at hand.
LINES = 20

#: Of them at least so many are of each stream, if it has them.
EACH = 5

#: So much of each stream is read, in bytes; a line is cut at so many characters.
TAIL, LONGEST = 16 << 10, 500

#: A line for the table is cut at so many characters.
SHORT = 160

#: Escape sequences (ECMA-48): commands, strings up to their end, and those of two or three characters.
ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]|\x9b[0-?]*[ -/]*[@-~]"
)

#: Where an event in JSON says what happened, the most telling first.
_TELLING = ("error", "message", "result", "detail", "text")

#: What follows a failure and does not say what it was: stack frames, versions, hints of the runtime.
_NOISE = re.compile(r"\s*at .+|Node\.js v\d.*|[\s\W_]*|\s*\^+\s*|npm (?:ERR!|error)\s*")


class Line(NamedTuple):
    """One line an agent printed, without control characters."""

    stream: Literal["out", "err", "screen"]
    text: str


def clean(data: bytes) -> list[str]:
    """The lines in ``data`` as they would stand on a terminal, without blank ones."""
    lines = []
    for raw in data.decode("utf-8", "replace").split("\n"):
        # Of a line that was written over and over (a progress bar) the last state counts.
        parts = [part for part in ESCAPES.sub("", raw).split("\r") if part.strip()]
        text = "".join(char if char.isprintable() else " " for char in parts[-1]).rstrip() if parts else ""
        if text:
            lines.append(text[:LONGEST])
    return lines


def chosen(out: Sequence[str], err: Sequence[str]) -> list[Line]:
    """The last lines of both streams, the errors last: at most ``LINES``, of each at least ``EACH``."""
    of_err = min(len(err), LINES - min(len(out), EACH))
    of_out = min(len(out), LINES - of_err)
    ends = [Line("out", text) for text in out[len(out) - of_out :]]
    return ends + [Line("err", text) for text in err[len(err) - of_err :]]


def telling(lines: Sequence[Line]) -> str:
    """The last line that says something; of an event in JSON, what that says."""
    for line in reversed(lines):
        if _NOISE.fullmatch(line.text):
            continue
        text = next(_said(line.text), line.text) if line.text.lstrip().startswith("{") else line.text
        return " ".join(text.split())[:SHORT]
    return ""


def _said(text: str) -> Iterator[str]:
    try:
        yield from _strings(json.loads(text), 4)
    except ValueError:  # cut, or no JSON at all
        return


def _strings(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str) and value.strip():
        yield value
    elif isinstance(value, dict) and depth:
        for key in _TELLING:
            yield from _strings(value.get(key), depth - 1)


class LastWords:
    """Keeps the last telling line of every agent in ``error``, and reads the rest when asked.

    Args:
        touched: Told of each agent whose line became known.
    """

    def __init__(
        self, books: Books, backends: Backends, launcher: Launcher, touched: Callable[[str], None]
    ) -> None:
        self._books = books
        self._backends = backends
        self._launcher = launcher
        self._touched = touched
        self._last: dict[str, str] = {}
        self._ended: dict[str, None] = {}
        """Agents that are to be read, in the order they ended."""
        self._news = anyio.Event()
        books.listen(self._committed)

    def of(self, agent: Agent) -> str:
        """The last line it said before it failed; empty where there is none, or it did not fail."""
        return self._last.get(agent.id, "") if agent.state is State.ERROR else ""

    async def lines(self, agent: Agent) -> list[Line]:
        """The last lines of its last ended run, oldest first; empty where nothing is kept of it."""
        run = agent.run if agent.run is not None and not agent.run.live else None
        if run is None and agent.past:
            run = agent.past[-1]
        if run is None:
            return []
        try:
            return await self._read(agent, run)
        except (AgentTopError, OSError) as error:
            log.info("what %s said last cannot be read: %s", agent.name, error)
            return []

    async def run(self) -> None:
        """Read what failed agents said, one after the other, as they fail. One task of the kernel."""
        failed = [agent for agent in self._books.committed.agents.values() if agent.state is State.ERROR]
        self._ended |= dict.fromkeys(agent.id for agent in failed)
        while True:
            self._news = anyio.Event()
            while self._ended:
                agent_id = next(iter(self._ended))
                del self._ended[agent_id]
                agent = self._books.committed.agents.get(agent_id)
                if agent is not None and agent.state is State.ERROR:
                    self._last[agent_id] = telling(await self.lines(agent))
                    self._touched(agent_id)
            await self._news.wait()

    def _committed(self, batch: Sequence[tuple[Record, Event]]) -> None:
        for _, event in batch:
            if isinstance(event, ev.RunExited | ev.RestartGivenUp):
                self._ended[event.agent] = None
                self._news.set()
            elif isinstance(event, ev.RunStarting | ev.AgentRemoved):
                self._last.pop(event.agent, None)

    async def _read(self, agent: Agent, run: Run) -> list[Line]:
        backend = self._backends.get(agent.spec.backend)
        if backend.keyboard and run.ref is not None:
            with contextlib.suppress(BackendError):  # no screen is kept: its output is
                screen = clean((await backend.history(run.ref, LINES)).encode())
                return [Line("screen", text) for text in screen[-LINES:]]
        launch = await anyio.to_thread.run_sync(self._launcher.describe, agent, run.number)
        ends = {name: max(0, _size(launch.folder / name) - TAIL) for name in ("out", "err")}
        found = {"out": bytearray(), "err": bytearray()}
        async for chunk in backend.output(launch, ends):
            found[chunk.stream] = (found[chunk.stream] + chunk.data)[-TAIL:]
        return chosen(clean(bytes(found["out"])), clean(bytes(found["err"])))


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
