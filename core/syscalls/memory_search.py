"""One search over all three tiers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..api import memory as api
from ..memory import passages, words
from ..memory.model import Who
from .caller import Caller
from .memory_names import Names, who

if TYPE_CHECKING:
    from ..kernel import Kernel

_PART = 320
"""Characters of what was found."""


class SearchCalls:
    """``memory.search``. Each tier in its own order: blocks and recall newest first, notes by rank."""

    def __init__(self, kernel: Kernel, names: Names) -> None:
        self._memory = kernel.memory
        self._names = names

    async def search(self, caller: Caller, ask: api.SearchRequest) -> api.SearchInfo:
        """Search as the caller; with ``agent``, a person searches what that agent may read."""
        began = time.perf_counter()
        agents = await self._names.agents(caller, ask.agent)
        query = words.parse(ask.query, self._memory.limits.query_chars)
        hits, loose, degraded = list[api.HitInfo](), [], ""
        # Blocks and notes have no role: whoever asks for one means what was said.
        if "working" in ask.tiers and ask.roles is None:
            found, some = await self._working(caller, ask, agents, query)
            hits += found
            loose += [some] * bool(found)
        if "recall" in ask.tiers:
            found, some = await self._recall(caller, ask, agents, query)
            hits += found
            loose += [some] * bool(found)
        if "archival" in ask.tiers and ask.roles is None:
            found, some, degraded = await self._archive(caller, ask, query)
            hits += found
            loose += [some] * bool(found)
        return api.SearchInfo(
            hits=hits,
            loose=bool(loose) and all(loose),
            degraded=degraded,
            seconds=time.perf_counter() - began,
        )

    async def _working(
        self, caller: Caller, ask: api.SearchRequest, agents: list[str] | None, query: words.Query
    ) -> tuple[list[api.HitInfo], bool]:
        blocks, loose = await self._memory.find_blocks(
            who(caller), query, agents=agents, since=ask.since, until=ask.until, limit=ask.limit
        )
        return [
            api.HitInfo(
                tier="working",
                agent=block.agent,
                name=self._names.of(block.agent),
                title=block.name,
                text=passages.part(block.text, query, _PART),
                at=block.changed_at,
                by=block.changed_by,
                version=block.version,
            )
            for block in blocks
        ], loose

    async def _recall(
        self, caller: Caller, ask: api.SearchRequest, agents: list[str] | None, query: words.Query
    ) -> tuple[list[api.HitInfo], bool]:
        if not (query.wanted or query.unwanted):
            return [], False  # nothing that is a word was asked for; recall alone would tell its newest
        found = await self._memory.recall(
            who(caller),
            ask.query,
            agents=agents,
            roles=ask.roles,
            since=ask.since,
            until=ask.until,
            limit=ask.limit,
        )
        return [
            api.HitInfo(
                tier="recall",
                agent=entry.agent,
                name=self._names.of(entry.agent),
                title=entry.role,
                text=passages.part(entry.text, query, _PART),
                at=entry.at,
                id=entry.id,
                source=entry.source,
            )
            for entry in found.entries
        ], found.loose

    async def _archive(
        self, caller: Caller, ask: api.SearchRequest, query: words.Query
    ) -> tuple[list[api.HitInfo], bool, str]:
        reader = who(caller)
        if ask.agent and caller.agent is None:
            reader = Who(await self._names.agent(caller, ask.agent))
        found = await self._memory.search(
            reader, ask.query, mode=ask.mode, limit=ask.limit, since=ask.since, until=ask.until
        )
        hits = []
        for hit in found.hits:
            note = hit.note
            private = note.namespace.removeprefix("private/") if note.namespace[:8] == "private/" else ""
            hits.append(
                api.HitInfo(
                    tier="archival",
                    agent=private,
                    name=self._names.of(private) if private else "",
                    title=f"{note.namespace}/{note.key}",
                    text=passages.part(note.text, query, _PART),
                    at=note.at,
                    by=note.by,
                    version=note.version,
                    source=note.source,
                    meaning=hit.by != "words",
                )
            )
        return hits, found.loose, found.degraded
