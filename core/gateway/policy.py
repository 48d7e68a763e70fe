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
    check_provider(agent, started.provider)
    spec = agent.spec
    if spec.models is None:
        return
    if started.model is None:
        raise Refused("policy", f"{agent.name} may use some models only, and this request names none")
    if not any(fnmatchcase(started.model, pattern) for pattern in spec.models):
        raise Refused("policy", f"{agent.name} may not use the model {started.model[:100]}")


def check_provider(agent: Agent, provider: str) -> None:
    """Raise unless the agent may use this provider.

    Raises:
        Refused: It may not.
    """
    allowed = agent.spec.providers
    if allowed is not None and provider not in allowed:
        raise Refused("policy", f"{agent.name} may not use the provider {provider}")
