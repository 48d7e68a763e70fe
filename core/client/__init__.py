"""Clients: ``KernelClient`` for people's side, ``Agent`` and ``AsyncAgent`` for programs that are agents.

Those of agents are loaded when they are first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .kernel import KernelClient

if TYPE_CHECKING:
    from .agent import AsyncAgent
    from .door import AgentDoor
    from .sync import Agent
    from .wire import AnswerLost, NotAnAgent

__all__ = ["Agent", "AgentDoor", "AnswerLost", "AsyncAgent", "KernelClient", "NotAnAgent"]

_LATER = {
    "Agent": "sync",
    "AgentDoor": "door",
    "AnswerLost": "wire",
    "AsyncAgent": "agent",
    "NotAnAgent": "wire",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f".{_LATER[name]}", __name__), name)
    return found
