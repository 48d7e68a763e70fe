"""The fold of what was done to observed agents: which of them are frozen, so that no kernel forgets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..agents.agent import ObservedFreeze
from . import events as ev
from .handlers import Handlers

if TYPE_CHECKING:
    from ..agents.agent import Fleet

_handlers = Handlers()
_on = _handlers.on
handle = _handlers.handle


@_on(ev.KernelStarted)
def _kernel_started(fleet: Fleet, event: ev.KernelStarted, ts: float) -> None:
    for agent, freeze in list(fleet.observed.items()):
        if freeze.boot_id != event.boot_id:  # no process outlives a reboot
            del fleet.observed[agent]


@_on(ev.ObservedPaused)
def _paused(fleet: Fleet, event: ev.ObservedPaused, ts: float) -> None:
    before = fleet.observed.get(event.agent)
    fleet.observed[event.agent] = ObservedFreeze(
        name=event.name,
        observer=event.observer,
        boot_id=event.boot_id,
        processes=tuple((pid, start) for pid, start in event.processes),
        since=before.since if before else ts,
        frozen=event.frozen,
        total=event.total,
        mechanism=event.mechanism,
        by=event.by,
    )


@_on(ev.ObservedResumed)
def _resumed(fleet: Fleet, event: ev.ObservedResumed, ts: float) -> None:
    fleet.observed.pop(event.agent, None)


@_on(ev.ObservedKillProven)
def _killed(fleet: Fleet, event: ev.ObservedKillProven, ts: float) -> None:
    if not event.survivors:
        fleet.observed.pop(event.agent, None)
