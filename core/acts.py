"""What budgets and answers do to agents: the verbs of ``Control``, for the gateway's desk."""

from __future__ import annotations

from collections.abc import Callable

from . import halt
from .agents.agent import Agent
from .agents.control import Control
from .agents.supervisor import Supervisor
from .errors import Conflict
from .journal.books import Books


class AgentActs:
    """Implements ``gateway.acts.Acts``. What an agent's present state makes needless is left undone."""

    def __init__(
        self, books: Books, control: Control, supervisor: Supervisor, resumable: Callable[[Agent], bool]
    ) -> None:
        self._books = books
        self._supervisor = supervisor
        self._resumable = resumable
        self._control = control

    def _agent(self, agent_id: str) -> Agent | None:
        agent = self._books.pending.agents.get(agent_id)
        return agent if agent is not None and agent.live else None

    async def freeze(self, agent: str, by: str) -> None:
        """Stop its processes, unless they are."""
        found = self._agent(agent)
        if found is None:
            return
        if found.freeze is None:
            await self._control.freeze(found, by)
        elif found.freeze.idle:  # who needs it must not wake it any more
            await self._control.leave_frozen(found, by)

    async def thaw(self, agent: str, by: str) -> None:
        """Let its processes run on, if it was ``by`` that they were stopped; once a halted fleet goes on."""
        found = self._agent(agent)
        if found is None or found.freeze is None or found.freeze.by != by:
            return
        if self._books.pending.halted and by != halt.BY:
            await self._control.leave_frozen(found, halt.BY)
        else:
            await self._control.thaw(found, by)

    async def kill(self, agent: str, by: str) -> None:
        """End it; one that has ended meanwhile is left alone."""
        found = self._agent(agent)
        if found is None:
            return
        try:
            await self._control.stop(found, "kill", None, by)
        except Conflict:
            if self._agent(agent) is not None:
                raise

    async def resume_conversation(self, agent: str) -> None:
        """Start a run that goes on with the conversation, where the client gave up and ended with it.

        One that lives comes again by itself; one that a person ended stays ended; one whose template cannot
        resume is left for its owner to restart.
        """
        found = self._books.pending.agents.get(agent)
        if found is None or found.live or found.stopping or found.restart_at is not None:
            return
        if found.session is None or found.run is None or found.run.cause in ("stopped", "killed"):
            return
        if self._resumable(found):
            await self._supervisor.start(agent, "resume", "approval", found.session)
