"""What agents are given as a run begins: their working memory, and mail for a conversation that goes on.

A memory or a bus that cannot be used keeps nobody from starting: it is told in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import anyio
import anyio.to_thread

from ..errors import AgentTopError
from ..memory.memory import Memory
from ..memory.model import Block, MemoryUnavailable, Who, WriteRace
from ..paths import Paths
from . import beginnings
from .agent import Agent
from .launch import Given, Launcher

log = logging.getLogger(__name__)

#: A run does not wait longer for it, in seconds.
PATIENCE = 5.0


def markdown(blocks: Iterable[Block]) -> str:
    """Blocks as an agent reads them; empty for none."""
    parts = [f"## {block.name}\n\n{block.text.strip()}\n" for block in blocks if block.text.strip()]
    if not parts:
        return ""
    head = (
        "# Your working memory\n\nBlocks that you and people keep for you, as they were when this run began."
        " The tool memory_read (or `agenttop mem`) has them as they are now.\n"
    )
    return "\n".join([head, *parts])


async def texts(memory: Memory, agents: Sequence[str], *, used: bool = False) -> dict[str, str]:
    """The working memory of those of these agents that have some, as they read it.

    Args:
        used: It goes into their context now.
    """
    sql = f"SELECT DISTINCT agent FROM block WHERE agent IN ({', '.join('?' * len(agents))})"

    def remembering(db: Any) -> list[str]:
        return [name for (name,) in db.execute(sql, agents)]

    found: dict[str, str] = {}
    for agent in await memory.look(remembering):
        found[agent] = markdown(await memory.blocks(Who(None), agent, used=used))
    return found


class Giving:
    """``before`` is called with the agents whose runs are about to begin."""

    def __init__(
        self,
        memory: Memory,
        launcher: Launcher,
        paths: Paths,
        first: Callable[[Agent], Awaitable[str | None]],
    ) -> None:
        """``first`` gives what a run is told of its mail."""
        self._memory = memory
        self._launcher = launcher
        self._paths = paths
        self._first = first

    async def before(self, agents: Sequence[Agent]) -> None:
        """Have it ready for the launcher. Never raises for what cannot be had."""
        with anyio.move_on_after(PATIENCE) as scope:
            texts = await self._texts(agents)
            for agent in agents:
                self._launcher.given[agent.id] = Given(texts.get(agent.id, ""), await self._mail(agent))
        if scope.cancelled_caught:
            log.warning("%d agents begin without their memory: it does not answer", len(agents))

    async def _mail(self, agent: Agent) -> str | None:
        try:
            return await self._first(agent)
        except AgentTopError as error:
            log.warning("%s begins without its mail: %s", agent.name, error)
            return None

    async def _texts(self, agents: Sequence[Agent]) -> dict[str, str]:
        try:
            await self._make(agents)
            return await texts(self._memory, [agent.id for agent in agents], used=True)
        except (AgentTopError, OSError) as error:
            log.warning("agents begin without their memory: %s", error)
            return {}

    async def _make(self, agents: Sequence[Agent]) -> None:
        """Make the blocks that agents were declared with, once."""

        def kept() -> dict[str, dict[str, str]]:
            found = {agent.id: beginnings.kept(self._paths.agent_dir(agent.id)) for agent in agents}
            return {agent: blocks for agent, blocks in found.items() if blocks}

        for agent, blocks in (await anyio.to_thread.run_sync(kept)).items():
            for name, text in blocks.items():
                try:
                    await self._memory.write_block(Who(None), agent, name, text, expected=0)
                except WriteRace:
                    continue  # made before the last kernel was killed, or by somebody else
                except MemoryUnavailable:
                    raise
                except AgentTopError as error:
                    log.warning("block %s of %s was not made: %s", name, agent, error)
            await anyio.to_thread.run_sync(beginnings.made, self._paths.agent_dir(agent))
