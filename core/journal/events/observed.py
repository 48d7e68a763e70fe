"""What was done to observed agents; they are in no other event."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .event import AgentEvent


class ObservedEvent(AgentEvent):
    """Something was done to an agent that somebody else started. Nothing else keeps its name."""

    name: str
    by: str = ""


class ObservedPaused(ObservedEvent):
    """It was frozen; ``total`` is 0 while that is asked for and not yet proven.

    ``processes`` are the pids and start times of its tree, the topmost first, valid in ``boot_id``.
    """

    observer: str
    boot_id: str
    processes: list[tuple[int, int]]
    frozen: int = 0
    total: int = 0
    mechanism: str = ""
    seconds: float = 0.0


class ObservedResumed(ObservedEvent):
    """It was let go, or it ended, or somebody else let it go (``detail``)."""

    detail: str = ""


class ObservedStopRequested(ObservedEvent):
    """Somebody wants it ended."""

    how: Literal["stop", "kill"] = "stop"


class ObservedKillProven(ObservedEvent):
    """What a stop or kill did, checked process by process."""

    processes: int
    ended: int
    survivors: list[int] = Field(default_factory=list)
    mechanism: str = ""
    seconds: float = 0.0


class ObservedSignalled(ObservedEvent):
    """A signal was sent to its program."""

    signal: int
    processes: int


class ObservedReniced(ObservedEvent):
    """The system's scheduling priority of its processes was set."""

    nice: int
    processes: int
