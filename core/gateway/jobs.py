"""What budgets and answers have done to agents, in the background: a call does not wait for a freeze."""

from __future__ import annotations

import logging

import anyio
from anyio.abc import TaskGroup

from ..errors import AgentTopError
from .acts import Acts, Job

log = logging.getLogger(__name__)


class Jobs:
    """Does one thing to an agent at a time, and none twice at once.

    Attributes:
        acts: The kernel's verbs; set before ``run``.
    """

    def __init__(self) -> None:
        self.acts: Acts | None = None
        self._doing: dict[tuple[Job, str], str] = {}
        """What is being done, or will be once ``run`` runs, and by whom."""
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Owns what is being done. One task, until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for job, agent in self._doing:
                tasks.start_soon(self._act, job, agent)
            await anyio.sleep_forever()

    def do(self, job: Job, agent: str, by: str) -> None:
        """Have something done to an agent, unless it is being done already.

        Args:
            by: Who stands in the journal for it.
        """
        if (job, agent) not in self._doing:
            self._doing[job, agent] = by
            if self._tasks is not None:
                self._tasks.start_soon(self._act, job, agent, name=f"{job} {agent}")

    async def _act(self, job: Job, agent: str) -> None:
        by = self._doing[job, agent]
        try:
            if self.acts is not None:
                await _verb(self.acts, job, agent, by)
        except AgentTopError as error:
            log.warning("%s wanted to %s %s: %s", by, job, agent, error)
        finally:
            del self._doing[job, agent]


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
