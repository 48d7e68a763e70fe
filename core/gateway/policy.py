"""What an agent's declaration lets its calls do."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ..agents.agent import Agent
from ..journal.events import CallStarted
from .desk import Refused


def check(agent: Agent, started: CallStarted) -> None:
    """Raise unless the agent may use this provider and model.

    Raises:
        Refused: It may not.
    """
    spec = agent.spec
    if spec.providers is not None and started.provider not in spec.providers:
        raise Refused("policy", f"{agent.name} may not use the provider {started.provider}")
    if spec.models is None:
        return
    if started.model is None:
        raise Refused("policy", f"{agent.name} may use some models only, and this request names none")
    if not any(fnmatchcase(started.model, pattern) for pattern in spec.models):
        raise Refused("policy", f"{agent.name} may not use the model {started.model[:100]}")
