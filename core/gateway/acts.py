"""What the gateway's desk may do to agents: the kernel's own verbs, handed to it."""

from __future__ import annotations

from typing import Literal, Protocol

Job = Literal["freeze", "thaw", "kill", "resume"]
"""One of the verbs."""


class Acts(Protocol):
    """Verbs on one agent, by id. None raises for an agent that has ended or is so already."""

    async def freeze(self, agent: str, by: str) -> None:
        """Stop its processes."""

    async def thaw(self, agent: str, by: str) -> None:
        """Let them run on, if ``by`` froze them."""

    async def kill(self, agent: str, by: str) -> None:
        """End it."""

    async def resume_conversation(self, agent: str) -> None:
        """Its client gave up while it was held, and may go on now."""
