"""Whose memory is meant, and by what name a namespace goes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..agents import registry
from ..errors import AmbiguousAgent, NoSuchAgent, UsageError
from ..memory.model import Who
from .caller import Caller

if TYPE_CHECKING:
    from ..journal.books import Books
    from ..memory.memory import Memory

_ID = re.compile(r"[0-9a-f]{1,16}")


def who(caller: Caller, source: str = "") -> Who:
    """The caller as the memory knows it."""
    return Who(caller.agent, caller.run, source, caller.owner if caller.agent is None else "")


class Names:
    """Finds agents by name, id and prefix: those there are, and for people those whose memory is left."""

    def __init__(self, books: Books, memory: Memory) -> None:
        self._books = books
        self._memory = memory

    def of(self, agent: str) -> str:
        """An agent's name; its id where it is gone; a person's ``@NAME`` as it is."""
        known = self._books.committed.agents.get(agent)
        return known.name if known is not None else agent

    async def agent(self, caller: Caller, ref: str) -> str:
        """The id of the agent meant; empty is the caller itself.

        Raises:
            UsageError: A person names none.
            NoSuchAgent, AmbiguousAgent: As everywhere.
        """
        if ref:
            return await self._found(caller, ref)
        if caller.agent is None:
            raise UsageError("whose memory?", "A person has none of its own", "Name an agent")
        return caller.agent

    async def agents(self, caller: Caller, ref: str, refs: list[str] | None = None) -> list[str] | None:
        """The ids of several; ``None`` where a person means all."""
        if refs is not None:
            return list(dict.fromkeys([await self._found(caller, one) for one in refs]))
        return None if not ref and caller.agent is None else [await self.agent(caller, ref)]

    async def _found(self, caller: Caller, ref: str) -> str:
        if ref == caller.agent:
            return ref
        try:
            return registry.resolve(self._books.committed, ref).id
        except NoSuchAgent:
            left = await self._left(ref) if caller.agent is None and _ID.fullmatch(ref) else []
            if not left:
                raise
        if len(left) > 1 and ref not in left:
            raise AmbiguousAgent(f"{ref} is the beginning of {len(left)} ids", ", ".join(left[:5]))
        return ref if ref in left else left[0]

    async def _left(self, prefix: str) -> list[str]:
        """Ids of agents that are gone and have memory left."""
        return [id for id in await self._memory.agents() if id.startswith(prefix)]

    async def namespace(self, caller: Caller, name: str) -> str:
        """A namespace as it is stored: ``private`` is one's own, and an agent's name becomes its id.

        Raises:
            UsageError: A person says only ``private``, or somebody without one ``team``.
        """
        if name in ("private", "team"):
            return await self._own(caller, name)
        kind, slash, rest = name.partition("/")
        if kind == "private" and slash and rest and "/" not in rest and ".." not in rest:
            return f"private/{await self.agent(caller, rest)}"
        return name

    async def _own(self, caller: Caller, kind: str) -> str:
        if caller.agent is None:
            raise UsageError(f"whose {kind}?", "A person has none of its own", f"Name it: {kind}/NAME")
        if kind == "private":
            return f"private/{caller.agent}"
        teams = self.teams(caller.agent)
        if not teams:
            raise UsageError(f"{caller.agent} is in no team", "It has no label team", "Use shared")
        return f"team/{teams[0]}"

    def teams(self, agent: str) -> list[str]:
        """The teams an agent is in, by its label."""
        known = self._books.committed.agents.get(agent)
        team = known.spec.labels.get("team") if known is not None else None
        return [team] if team else []
