"""What fills recall, put together from the kernel's parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .agents import templates
from .agents.agent import Agent
from .backend import Backend, Launch
from .errors import AgentTopError, ConfigError
from .memory.sources.recorder import Recorder

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

    def where(agent: Agent, run: int) -> tuple[Backend, Launch]:
        return kernel.backends.get(agent.spec.backend), kernel.launcher.describe(agent, run)

    protocols: dict[str, bool] = {}

    def prints(agent: Agent) -> bool:
        """Programs without a wire protocol of their own: of coding CLIs the calls tell everything."""
        name = agent.spec.template
        if name is None:
            return not kernel.backends.get(agent.spec.backend).terminals
        if name not in protocols:
            try:
                protocols[name] = templates.get(kernel.paths, name).protocol is not None
            except AgentTopError:  # it is gone, or wrong by now
                return False
        return not protocols[name] and not kernel.backends.get(agent.spec.backend).terminals

    return Recorder(
        kernel.memory,
        kernel.bus,
        kernel.books,
        kernel.clock,
        sources=("calls", "output", "mail"),
        keys=keys,
        file=kernel.paths.state / "recalled.json",
        where=where,
        prints=prints,
    )
