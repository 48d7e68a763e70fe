"""The agent state machine: states, reasons, and the table of legal transitions.

``paused`` is not in the table: it lies over the state beneath (``Pause``), which moves on under it
and comes back when the pause is lifted.
"""

from __future__ import annotations

from enum import StrEnum

from ..errors import Conflict


class State(StrEnum):
    """What an agent is doing, as shown; the letter on screen is ``LETTERS[state]``."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    PLANNING = "planning"
    EXECUTING = "executing"
    WAITING = "waiting"
    PAUSED = "paused"
    ERROR = "error"
    TERMINATED = "terminated"


class Waiting(StrEnum):
    """Why a waiting agent waits."""

    INPUT = "input"
    APPROVAL = "approval"
    MESSAGE = "message"
    RATE_LIMIT = "rate_limit"
    BUDGET = "budget"
    DEPENDENCY = "dependency"


class Pause(StrEnum):
    """How a paused agent is paused: its processes stopped, or its next model call kept."""

    FREEZE = "freeze"
    HOLD = "hold"


#: Waits that only a person can end; the screen marks them.
NEEDS_PERSON = frozenset({Waiting.INPUT, Waiting.APPROVAL, Waiting.BUDGET})

#: States with a live run beneath.
LIVE = frozenset({State.INITIALIZING, State.IDLE, State.PLANNING, State.EXECUTING, State.WAITING})

#: States without one.
ENDED = frozenset({State.ERROR, State.TERMINATED})

_WORK = {State.IDLE, State.PLANNING, State.EXECUTING, State.WAITING}
_END = {State.ERROR, State.TERMINATED}

#: From each state, where an agent may go. A restart leads from the ended states (or, during the
#: back-off of a failed start, from waiting) to ``initializing``.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.INITIALIZING: frozenset(_WORK | _END),
    State.IDLE: frozenset((_WORK | _END) - {State.IDLE}),
    State.PLANNING: frozenset((_WORK | _END) - {State.PLANNING}),
    State.EXECUTING: frozenset((_WORK | _END) - {State.EXECUTING}),
    State.WAITING: frozenset(_WORK | _END | {State.INITIALIZING}),
    State.ERROR: frozenset({State.INITIALIZING, State.TERMINATED}),
    State.TERMINATED: frozenset({State.INITIALIZING, State.ERROR}),
}

#: One letter per state on screen (a paused agent shows F or H instead).
LETTERS: dict[State, str] = {
    State.INITIALIZING: "N",
    State.IDLE: "I",
    State.PLANNING: "P",
    State.EXECUTING: "X",
    State.WAITING: "W",
    State.PAUSED: "F",
    State.ERROR: "E",
    State.TERMINATED: "T",
}


def may(old: State, new: State) -> bool:
    """Whether the table allows ``old`` → ``new``. Staying in a state is always allowed."""
    return old == new or new in TRANSITIONS.get(old, frozenset())


def check(agent: str, old: State, new: State) -> None:
    """Raise when a transition is not in the table.

    Raises:
        Conflict: ``old`` → ``new`` is illegal.
    """
    if not may(old, new):
        raise Conflict(f"{agent} cannot become {new}", f"It is {old}")
