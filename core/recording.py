"""What fills recall, and what agents are given and told, put together from the kernel's parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .agents import templates
from .agents.agent import Agent
from .agents.conversations import Conversations
from .agents.giving import Giving
from .agents.turns import Turns
from .backend import load
from .errors import AgentTopError, ConfigError
from .memory.sources.recorder import Recorder
from .memory.sources.tiers import Tiers

if TYPE_CHECKING:
    from .kernel import Kernel


def recorder(kernel: Kernel) -> Recorder:
    """The recorder of this kernel, which has everything else already."""

    def keys() -> Iterable[str]:
        for provider in kernel.config.providers.values():
            try:
                key = kernel.keys.get(provider)
            except ConfigError:  # its file cannot be used any more
                continue
            if key:
                yield key

    def prints(agent: Agent) -> bool:
        """Programs without a wire protocol of their own: of coding CLIs the calls tell everything."""
        return not load(agent.spec.backend).terminals and not _speaks(kernel, agent)

    return Recorder(
        kernel.memory,
        kernel.bus,
        kernel.books,
        kernel.clock,
        sources=kernel.config.memory.recall,
        keys=keys,
        file=kernel.paths.state / "recalled.json",
        describe=kernel.launcher.describe,
        backend=kernel.backends.get,
        prints=prints,
    )


def tiers(kernel: Kernel) -> Tiers:
    """What the rows show of everybody's memory."""
    feed = kernel.feed
    counted = Tiers(kernel.memory, kernel.clock, lambda: bool(feed.readers), feed.touch)
    kernel.recorder.intake.written.append(lambda agents: counted.changed())
    feed.tiers = counted.of
    return counted


def telling(kernel: Kernel, conversations: Conversations) -> Turns:
    """What tells agents their mail; from now on runs begin with their working memory, too."""
    turns = Turns(
        kernel.books,
        kernel.bus,
        kernel.supervisor,
        kernel.terminals,
        kernel.clock,
        name=kernel.mailroom.directory.name,
        conversation=conversations.of,
        calls=lambda agent: _speaks(kernel, agent),
    )
    giving = Giving(kernel.memory, kernel.launcher, kernel.paths, turns.first)
    workspaces = kernel.workspaces

    async def furnish(agents: Sequence[Agent]) -> dict[str, AgentTopError]:
        lacking = await workspaces.furnish(agents)
        await giving.before([agent for agent in agents if agent.id not in lacking])
        return lacking

    kernel.supervisor.furnish = furnish
    return turns


def _speaks(kernel: Kernel, agent: Agent) -> bool:
    """Whether its program is one that makes model calls, by its template."""
    if agent.spec.template is None:
        return False
    try:
        return templates.get(kernel.paths, agent.spec.template).protocol is not None
    except AgentTopError:  # it is gone, or wrong by now
        return False
