"""Puts the sources of recall together: who listens to what, and what becomes of it when the memory ails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import anyio

from ...agents.agent import Agent
from ...api.kernel import CheckInfo
from ...backend import Backend, Launch
from ...bus.bus import Bus
from ...clock import Clock
from ...gateway.heard import Heard
from ...journal import events as ev
from ...journal.books import Books
from ...journal.events import Event, Record
from ..keeping.house import House
from ..memory import Memory
from ..model import Said
from . import calls
from .intake import Intake, Item, Redact
from .mail import MailListener
from .output import OutputReader
from .redaction import redaction

Source = Literal["calls", "output", "mail"]
SOURCES: tuple[Source, ...] = ("calls", "output", "mail")

_AT_START = 2_000
"""Messages that wait in mailboxes when the kernel starts and are looked at once more: the last kernel may
have been killed before it remembered them."""


class Recorder:
    """Fills recall. ``run`` is one task of the kernel; ``finish`` writes what waits at its end.

    Args:
        sources: Which of ``SOURCES`` are remembered.
        keys: Every provider key there is at the moment, to be taken out of texts.
        file: Remembers how far output was read.
        describe: The folder of a run; blocking.
        backend: By its name; on the loop.
        prints: Whether an agent's output is remembered; blocking.

    Attributes:
        hears: What the gateway is to tell of calls; ``None`` where they are not remembered.
    """

    def __init__(
        self,
        memory: Memory,
        bus: Bus,
        books: Books,
        clock: Clock,
        *,
        sources: Collection[Source],
        keys: Callable[[], Iterable[str]],
        file: Path,
        describe: Callable[[Agent, int], Launch],
        backend: Callable[[str], Backend],
        prints: Callable[[Agent], bool],
    ) -> None:
        self._memory = memory
        self._books = books
        self._bus = bus
        self._clock = clock
        self._known = calls.Known()
        self.intake = Intake(memory.remember, clock, redaction(keys))
        self.intake.lost.append(self._lost)
        self.hears: Callable[[Heard], None] | None = self._heard if "calls" in sources else None
        self._output: OutputReader | None = None
        if "output" in sources:
            self._output = OutputReader(
                self.intake, books, clock, file, describe=describe, backend=backend, prints=prints
            )
        if "mail" in sources:
            self._listen()
        books.listen(self._committed)

    @property
    def problem(self) -> str:
        """Why nothing is remembered now, or could be; empty if all is well."""
        return self.intake.problem or self._memory.problem

    @property
    def dropped(self) -> dict[str, int]:
        """How many calls, messages (``mail``) and pieces of output were not remembered since the start."""
        return {source: count for source, count in sorted(self.intake.dropped.items()) if count}

    def check(self) -> CheckInfo:
        """Its line of ``doctor``."""
        if self.problem:
            return CheckInfo(group="kernel", name="memory", level="warn", found=self.problem)
        if self.dropped:
            counts = ", ".join(f"{count} {source}" for source, count in self.dropped.items())
            return CheckInfo(
                group="kernel",
                name="memory",
                level="warn",
                found=f"{counts} were not remembered since its start: they came too fast",
                hint="Calls, mail and agents are not held up by it; [memory] recall says what is remembered",
            )
        return CheckInfo(group="kernel", name="memory", level="ok", found="remembers all that it is told")

    async def run(self) -> None:
        """Remember what comes, for as long as the kernel lives."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.intake.run, name="intake")
            if self._output is not None:
                tasks.start_soon(self._output.run, name="output")

    async def catch_up(self) -> None:
        """Return when what was said, printed and sent until now is in recall, as far as it ever will be.

        For whoever forgets: what is on its way would be remembered afterwards.
        """
        if self._output is not None:
            await self._output.catch_up()
        await self.intake.catch_up()
        if self._output is not None:
            await self._output.save()  # a kernel after this one is not to read it again, cut in other places

    async def finish(self) -> None:
        """Write what waits, within a few seconds."""
        await self.intake.finish()

    def _listen(self) -> None:
        pipeline = self._bus.pipeline
        listener = MailListener(self.intake, lambda: pipeline.books.boxes, self._run_of, self._name_of)
        waiting = pipeline.books.messages
        listener.committed([waiting[seq] for seq in sorted(waiting)[-_AT_START:]])
        pipeline.listen(listener.committed)

    def _run_of(self, mailbox: str) -> int | None:
        agent = self._books.pending.agents.get(mailbox)
        if agent is None:
            return None
        return agent.run.number if agent.run is not None else 0

    def _name_of(self, mailbox: str) -> str:
        agent = self._books.pending.agents.get(mailbox)
        return agent.name if agent is not None else mailbox

    def _heard(self, heard: Heard) -> None:
        agent = self._books.pending.agents.get(heard.agent)
        # What the memory itself asks models is what is remembered already, and may be forgotten there.
        if heard.operation not in calls.DIALECTS or (agent is not None and House.belongs(agent)):
            return
        conversation = _conversation(agent, heard)
        read = partial(self._read, heard, conversation, self._clock.time())
        self.intake.offer(Item("calls", heard.held, read))

    def _read(self, heard: Heard, conversation: str, at: float, redact: Redact) -> list[Said]:
        return calls.said(heard, conversation, at, self._known, redact)

    def _lost(self, agents: set[str]) -> None:
        for agent in agents:
            self._known.forget(agent)

    def _committed(self, batch: Sequence[tuple[Record, Event]]) -> None:
        for _, event in batch:
            if isinstance(event, ev.AgentRemoved):
                self._known.forget(event.agent)


def _conversation(agent: Agent | None, heard: Heard) -> str:
    """Which of an agent's conversations a call is part of.

    The client's own id of it, where it tells one; else the run in which it began: one that went on with
    another's conversation repeats what was said there.
    """
    if session := heard.client.get("session"):
        return f"{session}/{heard.client.get('subagent', '')}"
    began = heard.run
    if agent is not None:
        runs = {run.number: run for run in (*agent.past, *([agent.run] if agent.run else ()))}
        while (run := runs.get(began)) is not None and run.resume is not None and began - 1 in runs:
            began -= 1
    return f"run {began}"
