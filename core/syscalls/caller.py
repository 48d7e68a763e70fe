"""Who makes a system call."""

from __future__ import annotations

from typing import NamedTuple


class Caller(NamedTuple):
    """An agent, or (``agent`` is ``None``) a person."""

    agent: str | None
    owner: str
    """The person, or whose agent it is."""
    run: int | None = None

    @property
    def mailbox(self) -> str:
        """The name of the caller's mailbox: an agent's id, or ``@`` and a person's name."""
        return self.agent if self.agent is not None else f"@{self.owner}"
