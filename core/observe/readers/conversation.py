"""What has been said so far in one conversation; every CLI's reader fills one and makes views of it."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from ..contract import Activity, Child, View
from .doing import Turn
from .tally import Sums

#: So much of a prompt, or of an error's text, is kept.
BEGINNING = 200


@dataclass
class Conversation:
    """One agent's thread of talk: the main one, or a subagent's.

    Attributes:
        asking: Tools that are themselves a question to the person.
        guarded: Tools that need permission; see ``Turn``.
        context: Tokens in the model's context after the last call.
        last: When the last call ended, wall-clock seconds.
    """

    asking: Set[str]
    guarded: Set[str]
    session: str | None = None
    model: str | None = None
    cwd: str | None = None
    branch: str | None = None
    context: int | None = None
    limit: int | None = None
    last: float | None = None
    prompt: str = ""

    def __post_init__(self) -> None:
        self.turn = Turn(self.asking, self.guarded)

    def asked(self, text: str, time: float) -> None:
        """Somebody gave it something to do."""
        self.prompt = text[:BEGINNING]
        self.turn.prompted(time)

    def replied(self, model: str | None, context: int | None, time: float) -> None:
        """A call ended."""
        self.model = model or self.model
        self.context = context if context is not None else self.context
        self.last = time

    def view(
        self, now: float, process: Activity | None, sums: Sums, children: tuple[Child, ...] = ()
    ) -> View:
        """What is known now."""
        doing = self.turn.doing(now, process)
        return View(
            session=self.session,
            state=doing.state,
            reason=doing.reason,
            detail=doing.detail,
            since=doing.since,
            certain=doing.certain,
            model=self.model,
            cwd=self.cwd,
            branch=self.branch,
            context=self.context,
            context_limit=self.limit,
            usage=sums.usage,
            usages=sums.usages,
            minutes=sums.minutes,
            calls=sums.calls,
            last_call=self.last,
            tool=self.turn.tool,
            prompt=self.prompt,
            children=children,
            timeline=sums.timeline,
        )
