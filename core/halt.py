"""The kill switch: every call held and every managed agent frozen in one stroke, and the way back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from .agents.agent import Agent
from .agents.control import Control
from .api import HaltInfo, Outcome
from .clock import Clock
from .journal import events as ev
from .journal.books import Books

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

log = logging.getLogger(__name__)

#: Who stands in the journal for a freeze by the kill switch: only those are thawed when it is undone.
BY = "halt"


class KillSwitch:
    """Halts the fleet and lets it go again.

    The order matters: first the journal says ``halted``, from which moment on no call is forwarded,
    then all trees are frozen at once. A kernel that is killed in between comes back halted.
    """

    def __init__(
        self,
        books: Books,
        control: Control,
        clock: Clock,
        wake: Callable[[], None],
        jobs: Callable[[Literal["freeze", "thaw"], str, str], None],
    ) -> None:
        self._books = books
        self._control = control
        self._clock = clock
        self._wake = wake
        self._jobs = jobs

    async def halt(self, by: str) -> HaltInfo:
        """Hold every call and freeze every managed agent that runs; again: freeze what has come since.

        Raises:
            JournalUnavailable: Nothing was done.
        """
        began = self._clock.monotonic()
        if not self._books.pending.halted:
            await self._books.commit(ev.FleetHalted(by=by))
        held = self._clock.monotonic() - began
        running = [a.id for a in self._books.pending.agents.values() if a.live and a.freeze is None]
        frozen = await self._control.each(running, self._freeze)
        return self._info(began, frozen, held)

    async def unhalt(self, by: str) -> HaltInfo:
        """Thaw what the kill switch froze and let calls go; what was paused before stays paused."""
        began = self._clock.monotonic()
        if self._books.pending.halted:
            await self._books.commit(ev.FleetUnhalted(by=by))
        stopped = [
            a.id for a in self._books.pending.agents.values() if a.freeze is not None and a.freeze.by == BY
        ]
        thawed = await self._control.each(stopped, lambda agent: self._control.thaw(agent, by))
        self._wake()
        return self._info(began, thawed, 0.0)

    def watched(self, agent_id: str) -> None:
        """A run was started, or found again by a new kernel: it is frozen as the rest of a halted fleet.

        And thawed where the last kernel was killed on the way back.
        """
        fleet = self._books.pending
        agent = fleet.agents.get(agent_id)
        if agent is None:
            return
        if fleet.halted and agent.freeze is None:
            self._jobs("freeze", agent_id, BY)
        elif not fleet.halted and agent.freeze is not None and agent.freeze.by == BY:
            self._jobs("thaw", agent_id, BY)

    async def _freeze(self, agent: Agent) -> tuple[str, dict[str, Any] | None]:
        return await self._control.freeze(agent, BY)

    def _info(self, began: float, done: list[Outcome], held: float) -> HaltInfo:
        fleet = self._books.pending
        return HaltInfo(
            halted=fleet.halted,
            calls_held=sum(agent.held_calls for agent in fleet.agents.values()),
            frozen=done,
            calls_seconds=held,
            seconds=self._clock.monotonic() - began,
        )
