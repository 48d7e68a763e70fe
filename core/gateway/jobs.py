"""What budgets and answers have done to agents, in the background: a call does not wait for a freeze."""

from __future__ import annotations

import logging
from collections import deque

import anyio
from anyio.abc import TaskGroup

from ..errors import AgentTopError
from .acts import Acts, Job

log = logging.getLogger(__name__)

_OPPOSITES = ({"freeze", "thaw"},)


class Jobs:
    """Does one thing to an agent at a time, in the order asked, and none twice.

    Attributes:
        acts: The kernel's verbs; set before ``run``.
    """

    def __init__(self) -> None:
        self.acts: Acts | None = None
        self._doing: dict[str, deque[tuple[Job, str]]] = {}
        """By agent what is being done (first), or will be once ``run`` runs, and by whom."""
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Owns what is being done. One task, until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for agent in self._doing:
                tasks.start_soon(self._act, agent, name=f"jobs on {agent}")
            await anyio.sleep_forever()

    def do(self, job: Job, agent: str, by: str) -> None:
        """Have something done to an agent, unless it is being done already.

        A thaw follows the freeze it undoes, however long that waits for its turn.

        Args:
            by: Who stands in the journal for it.
        """
        queue = self._doing.get(agent)
        if queue is None:
            self._doing[agent] = deque([(job, by)])
            if self._tasks is not None:
                self._tasks.start_soon(self._act, agent, name=f"jobs on {agent}")
            return
        for other in reversed(queue):
            if other == (job, by):
                return
            if {other[0], job} in _OPPOSITES:
                break
        queue.append((job, by))

    async def _act(self, agent: str) -> None:
        queue = self._doing[agent]
        try:
            while queue:
                await self._one(agent, *queue[0])
                queue.popleft()
        finally:
            del self._doing[agent]

    async def _one(self, agent: str, job: Job, by: str) -> None:
        try:
            if self.acts is not None:
                await _verb(self.acts, job, agent, by)
        except AgentTopError as error:
            log.warning("%s wanted to %s %s: %s", by, job, agent, error)


async def _verb(acts: Acts, job: Job, agent: str, by: str) -> None:
    match job:
        case "freeze":
            await acts.freeze(agent, by)
        case "thaw":
            await acts.thaw(agent, by)
        case "kill":
            await acts.kill(agent, by)
        case "resume":
            await acts.resume_conversation(agent)
