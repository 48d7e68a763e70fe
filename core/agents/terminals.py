"""Agents' terminals: how a person gets in front of one, types into it, and reads what it has shown.

Who attached and who typed is in the journal; what was typed never is, as it may be a secret.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence

from ..api import AttachInfo, HistoryInfo
from ..backend import Backend
from ..clock import Clock
from ..errors import Conflict, JournalUnavailable, NoTerminal
from ..journal import events as ev
from ..journal.books import Books
from .agent import Agent
from .backends import Backends
from .supervisor import Supervisor, Watched

log = logging.getLogger(__name__)

#: Typing is written down once in so many seconds for each person and run: a paste is many writes.
TYPED_EVERY = 60.0

_IN_ONE = "Agents that have one are started with `agenttop run -t`, and attached to with -it"


class Terminals:
    """The doors to terminals. ``thaw`` is asked before a person comes in.

    Args:
        thaw: Lets an agent go that nobody but the kernel froze (it was idle); a person's freeze stays.
    """

    def __init__(
        self,
        books: Books,
        supervisor: Supervisor,
        backends: Backends,
        clock: Clock,
        thaw: Callable[[Agent, str], Awaitable[object]] | None = None,
    ) -> None:
        self._books = books
        self._supervisor = supervisor
        self._backends = backends
        self._clock = clock
        self._thaw = thaw
        self._typed: dict[tuple[str, int, str], float] = {}
        self._last: dict[tuple[str, int, str], float] = {}

    async def attach(self, agent: Agent, by: str) -> AttachInfo:
        """What to run to be in front of it, and the key that leads back.

        Raises:
            NoTerminal: It runs without one.
            Conflict: It has no run, or a person froze it.
            BackendError: Its run or its terminal has just ended.
        """
        run = await self._open(agent, "attach to", by)
        argv = await run.backend.attach_command(run.ref)
        seq = self._books.journal.last_seq
        await self._note(ev.TerminalAttached(agent=agent.id, run=run.number, by=by))
        return AttachInfo(
            name=agent.name,
            argv=argv,
            detach_key=run.backend.detach_key,
            id=agent.id,
            run=run.number,
            seq=seq,
            left=run.backend.left,
        )

    async def press(self, agent: Agent, keys: Sequence[str], by: str) -> None:
        """Press keys by their names in tmux(1).

        Raises:
            NoTerminal: It runs without one.
            Conflict: It has no run, or a person froze it.
            BackendError: Its run or its terminal has just ended.
        """
        run = await self._open(agent, "press keys of", by)
        await run.backend.press(run.ref, keys)
        await self.typed(agent, run.number, by)

    async def write(self, agent: Agent, data: bytes | None, by: str) -> None:
        """Type ``data`` as it is; ``None`` ends its input.

        Raises:
            As ``press``, and ``BackendError`` where its input was ended.
        """
        run = await self._open(agent, "type into", by)
        await run.backend.write(run.ref, data)
        await self.typed(agent, run.number, by)

    async def tell(self, agent: Agent, text: str, by: str) -> None:
        """Paste one line and press Enter, as a person who has something to say.

        Args:
            text: Without control characters.

        Raises:
            As ``write``.
        """
        run = await self._open(agent, "type into", by)
        await run.backend.paste(run.ref, text)
        await run.backend.press(run.ref, ["Enter"])
        await self._note(ev.TerminalTyped(agent=agent.id, run=run.number, by=by))

    def quiet_since(self, agent: str) -> float:
        """Seconds since somebody typed into it through this kernel; infinite if nobody did lately."""
        now = self._clock.monotonic()
        return min((now - then for (who, _, _), then in self._last.items() if who == agent), default=math.inf)

    async def typed(self, agent: Agent, number: int, by: str) -> None:
        """Note that somebody typed, unless that was noted a moment ago."""
        now = self._clock.monotonic()
        self._last = {key: then for key, then in self._last.items() if now - then < TYPED_EVERY}
        self._last[agent.id, number, by] = now
        self._typed = {key: then for key, then in self._typed.items() if now - then < TYPED_EVERY}
        if self._typed.setdefault((agent.id, number, by), now) == now:
            await self._note(ev.TerminalTyped(agent=agent.id, run=number, by=by))

    async def history(self, agent: Agent, lines: int) -> HistoryInfo:
        """What its terminal shows, after the last ``lines`` that scrolled away; of an ended run its last.

        Raises:
            NoTerminal: It runs without one.
            Conflict: No run of it has begun yet.
            BackendError: Nothing is kept of it.
        """
        backend = self._backend(agent, "show the screen of")
        run = agent.run
        if run is None or run.ref is None:
            raise Conflict(f"cannot show the screen of {agent.name}", "No run of it has begun")
        text = await backend.history(run.ref, lines)
        live = self._supervisor.runs.get(agent.id) is not None and run.live
        return HistoryInfo(
            name=agent.name, lines=[line.rstrip() for line in text.split("\n")[:-1]], live=live
        )

    # --- inside ----------------------------------------------------------------------------------

    def _backend(self, agent: Agent, verb: str) -> Backend:
        backend = self._backends.get(agent.spec.backend)
        if not backend.terminals:
            raise NoTerminal(
                f"cannot {verb} {agent.name}", f"It has no terminal: it runs on {backend.name}", _IN_ONE
            )
        return backend

    async def _open(self, agent: Agent, verb: str, by: str) -> Watched:
        """The live run behind the door."""
        self._backend(agent, verb)
        run = self._supervisor.runs.get(agent.id)
        if run is None:
            raise Conflict(f"cannot {verb} {agent.name}", *self._why_none(agent))
        if self._thaw is not None:
            await self._thaw(agent, by)
        record = self._books.pending.agents.get(agent.id, agent)
        if record.freeze is not None:
            who = f" by {record.freeze.by}" if record.freeze.by else ""
            raise Conflict(
                f"cannot {verb} {agent.name}",
                f"It is frozen{who}: it would neither draw nor read",
                f"Resume it first, with `agenttop resume {agent.name}`",
            )
        return run

    def _why_none(self, agent: Agent) -> tuple[str, str]:
        if agent.restart_at is not None:
            seconds = max(0, round(agent.restart_at - self._clock.time()))
            return f"Its run has ended; the next begins in {seconds} s", "Try again then"
        if agent.over:
            name = agent.name
            hint = f"`agenttop history {name}` has its last screen, `agenttop restart {name}` a new run"
            return f"Its run has ended ({agent.detail or agent.shown})", hint
        return "Its run is being started or looked for", "Try again in a moment"

    async def _note(self, event: ev.Event) -> None:
        """Write down; a person who comes to help is not kept out because the disk is full."""
        try:
            await self._books.commit(event)
        except JournalUnavailable as error:
            log.warning("%s is not in the journal: %s", event.kind, error)
