"""What happens to runs: begun, ended, killed, paused, waiting, attended."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ...agents.states import Pause
from .event import AgentEvent


class RunStarting(AgentEvent):
    """Durable before anything is spawned, so that no crash can lose or double a run."""

    run: int
    reason: Literal["start", "restart", "policy", "boot", "resume"] = "start"
    by: str = ""
    resume: str | None = None
    """The client's own id of the conversation that this run goes on with."""


class RunStarted(AgentEvent):
    """The run exists. ``ref`` is the backend's own durable handle (never a bare pid)."""

    run: int
    ref: dict[str, Any]
    keyboard: bool = False
    """A person types into it: when its turn is over, it waits for them."""
    waits: bool = False
    """It was given nothing to do: it waits for its person from the start on."""


class RunReady(AgentEvent):
    """The run outlived ``start_seconds``; its start counts and failures are forgotten."""

    run: int


class RunExited(AgentEvent):
    """The run ended.

    ``code`` is the exit status as far as it is known (a shell's 137 stays 137); ``signal`` only
    where the signal itself was seen; both ``None`` when nobody could tell.
    """

    run: int
    code: int | None = None
    signal: int | None = None
    cause: Literal["exit", "stopped", "killed", "start_failed", "reboot", "lost", "backend"] = "exit"
    detail: str = ""
    failed: bool = False
    seconds: float = 0.0


class RestartScheduled(AgentEvent):
    """Another run follows at ``at`` (wall clock), after ``failures`` failures in a row."""

    at: float
    failures: int


class RestartGivenUp(AgentEvent):
    """``max_restarts`` failures in a row; the agent stays in ``error``."""

    failures: int


class StopRequested(AgentEvent):
    """Somebody wants the agent ended; no restart policy acts against it."""

    by: str = ""
    how: Literal["stop", "kill"] = "stop"


class KillProven(AgentEvent):
    """What a stop or kill did, checked process by process."""

    run: int
    processes: int
    ended: int
    survivors: list[int] = Field(default_factory=list)
    mechanism: str = ""
    seconds: float = 0.0


class TerminalAttached(AgentEvent):
    """A person got in front of the run's terminal."""

    run: int
    by: str = ""


class TerminalTyped(AgentEvent):
    """Somebody typed into the run's terminal from outside of it; noted at most once a minute for each
    person. What was typed is not kept: it may be a secret."""

    run: int
    by: str = ""


# --- pause -------------------------------------------------------------------------------------


class AgentPaused(AgentEvent):
    """The agent was frozen or held. ``frozen``/``total`` is the proof of a freeze."""

    how: Pause
    by: str = ""
    frozen: int = 0
    total: int = 0
    mechanism: str = ""
    seconds: float = 0.0


class AgentResumed(AgentEvent):
    """A pause was lifted; both are when ``how`` is ``None``."""

    how: Pause | None = None
    by: str = ""


class InputAwaited(AgentEvent):
    """A client asks its person something, or for a permission, while none of its calls is in flight."""

    run: int
    detail: str = ""


class InputGiven(AgentEvent):
    """The question is not open any more; ``state`` is what the client does instead."""

    run: int
    state: Literal["idle", "planning", "executing"] = "executing"
    detail: str = ""
