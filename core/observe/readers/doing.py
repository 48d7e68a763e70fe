"""What an agent does, inferred from what its transcript said last; the same for every CLI.

A transcript tells when a prompt came, when a tool was called and when its result was there, and when a
turn ended. It does not tell that the CLI asks its person for permission: that looks like a tool that
does not return. Such a wait is inferred, and marked as uncertain.
"""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

from ...agents.states import State, Waiting
from ..contract import Activity

#: A tool that neither returned nor started a process for so long is waiting for a person's permission.
PATIENCE = 3.0
#: So much is told of a question or an error.
LONGEST = 200


class Doing(NamedTuple):
    """State, why, what with, since when, and whether that is certain."""

    state: State
    reason: Waiting | None
    detail: str
    since: float | None
    certain: bool


class Turn:
    """Follows the turns of one conversation.

    Args:
        asking: Tools that are themselves a question to the person.
        guarded: Tools that need permission and otherwise return at once or run a process of their own.
    """

    def __init__(self, asking: Set[str], guarded: Set[str]) -> None:
        self._asking, self._guarded = asking, guarded
        self._pending: dict[str, tuple[str, float]] = {}
        self._questions: dict[str, tuple[str, float]] = {}
        self._state = State.IDLE
        self._detail = ""
        self.since: float | None = None
        self.tool: str | None = None
        self.asks = True
        """Whether this CLI asks for permission at all, as it was started."""

    def prompted(self, time: float) -> None:
        """A person, or another agent, gave it something to do."""
        self._pending.clear()
        self._questions.clear()
        self._to(State.PLANNING, time)

    def called(self, call: str, tool: str, time: float) -> None:
        """A tool was called."""
        self.tool = tool
        self._pending.setdefault(call, (tool, time))
        self._to(State.EXECUTING, time)

    def returned(self, call: str, time: float) -> None:
        """A tool's result is there."""
        self._pending.pop(call, None)
        if not self._pending:
            self._to(State.PLANNING, time)

    def questioned(self, question: str, text: str, time: float) -> None:
        """A person was asked; ``question`` is what the answer will be known by."""
        self._questions.setdefault(question, (text, time))

    def answered(self, question: str, time: float) -> None:
        """The person answered; what was asked about goes on."""
        if self._questions.pop(question, None) is not None and not self._questions:
            self._to(State.EXECUTING if self._pending else State.PLANNING, time)

    def thought(self, time: float) -> None:
        """A part of a reply arrived and it goes on."""
        if not self._pending:
            self._to(State.PLANNING, time)

    def ended(self, time: float, detail: str = "") -> None:
        """The turn is over: done, interrupted, or failed (``detail``)."""
        self._pending.clear()
        self._questions.clear()
        self._to(State.IDLE, time)
        self._detail = detail[:LONGEST]

    def _to(self, state: State, time: float) -> None:
        if state is not self._state or self.since is None:
            self.since = time
        self._state, self._detail = state, ""

    def doing(self, now: float, process: Activity | None) -> Doing:
        """What it does now."""
        for text, asked in self._questions.values():
            return Doing(State.WAITING, Waiting.INPUT, text[:LONGEST], asked, True)
        if not self._pending:
            return Doing(self._state, None, self._detail, self.since, self.since is not None)
        tool, since = next(iter(self._pending.values()))
        for name, begun in self._pending.values():
            if name in self._asking:
                return Doing(State.WAITING, Waiting.INPUT, name, begun, True)
        if (
            self.asks
            and process is not None
            and process.terminal
            and not process.children
            and now - since >= PATIENCE
            and all(name in self._guarded for name, _ in self._pending.values())
        ):
            return Doing(State.WAITING, Waiting.INPUT, f"{tool}?", since, False)
        return Doing(State.EXECUTING, None, tool, since, True)
