"""The fold of what agents say of themselves, and of which mail is sealed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import events as ev
from .handlers import Handlers

if TYPE_CHECKING:
    from ..agents.agent import Fleet

_handlers = Handlers()
_on = _handlers.on
handle = _handlers.handle


@_on(ev.MailSealed)
def _sealed(fleet: Fleet, event: ev.MailSealed, ts: float) -> None:
    fleet.sealed = max(fleet.sealed, event.last)


@_on(ev.ProgressReported)
def _reported(fleet: Fleet, event: ev.ProgressReported, ts: float) -> None:
    if agent := fleet.agents.get(event.agent):
        agent.progress, agent.percent = event.text, event.percent


@_on(ev.RunStarting)
def _starting(fleet: Fleet, event: ev.RunStarting, ts: float) -> None:
    if agent := fleet.agents.get(event.agent):
        agent.progress, agent.percent = "", None
