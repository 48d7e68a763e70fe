"""Which conversation an agent's next run goes on with, where its template's client can do that."""

from __future__ import annotations

from ..errors import AgentTopError
from ..paths import Paths
from . import templates
from .agent import Agent
from .states import State


class Conversations:
    """Answers from the fold and the templates. Reads a small file: cheap, but not for hot paths."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def resumable(self, agent: Agent) -> bool:
        """Whether the agent's client could go on with the conversation its calls told."""
        try:
            return templates.resumed(agent.spec, self._paths, agent.session or "") is not None
        except AgentTopError:  # its template is gone, or wrong by now
            return False

    def of(self, agent: Agent) -> str | None:
        """What a new run is to go on with; ``None`` where it begins anew."""
        begun = agent.provider is not None
        if agent.origin is not None and not begun:
            return agent.origin.session  # a fork that was ended before its first call
        try:
            return templates.conversation(agent.spec, self._paths, agent.session, begun=begun)
        except AgentTopError:  # its template is gone, or wrong by now
            return None

    def after_end(self, agent: Agent) -> str | None:
        """What the restart policy's next run goes on with.

        One that failed goes on where it was; so does a terminal, in front of its person. A headless one that
        did what it was told (``always``) is told it again.
        """
        keyboard = agent.run is not None and agent.run.keyboard
        return self.of(agent) if keyboard or agent.state is State.ERROR else None
