"""What waits for a person's decision, as the whole screen knows it: a toast for each new question."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agenttop.core.errors import AgentTopError

from .format import clean, tokens
from .widgets.question_page import per_call

if TYPE_CHECKING:
    from agenttop.core.api import ApprovalInfo

    from .app import AgentTopApp


#: Seconds between two looks.
EVERY = 0.9


class Questions:
    """Looks at most once a second, and only while the header counts a question."""

    def __init__(self, app: AgentTopApp) -> None:
        self._app = app
        self._told: set[str] = set()
        self._busy = False
        self._next = 0.0

    def look(self) -> None:
        """Read the open questions and tell of those that came while this screen is open."""
        now = time.monotonic()
        if not self._busy and now >= self._next and self._app.client is not None:
            self._busy, self._next = True, now + EVERY
            self._app.run_worker(self._read(), group="questions")

    async def _read(self) -> None:
        try:
            client = self._app.client
            found = await client.approvals() if client is not None else []
        except AgentTopError:
            # The session meets the same trouble and reports it; the badge still counts the questions.
            return
        finally:
            self._busy = False
        fresh = [one for one in found if one.approval not in self._told and one.since >= self._app.began]
        self._told = {one.approval for one in found}
        if len(fresh) == 1:
            self._app.toast(f"{clean(fresh[0].name)} asks you: {fresh[0].about}", said(fresh[0]), "warn")
        elif fresh:
            names = ", ".join(sorted({clean(one.name) for one in fresh}))
            self._app.toast(f"{len(fresh)} calls are held and ask you", names, "warn")


def said(question: ApprovalInfo) -> str:
    """``needs 0.31, left 0.12 of migrate``; for a runaway the question itself."""
    of = f" of {clean(question.budget)}" if question.budget else ""
    if question.needed_usd is not None:
        return (
            f"needs {per_call(question.needed_usd)}, left {per_call(max(0.0, question.left_usd or 0.0))}{of}"
        )
    if question.needed_tokens is not None:
        left = question.left_tokens
        return f"needs {tokens(question.needed_tokens)}, left {tokens(max(0, left or 0))} tokens{of}"
    return clean(question.question)
