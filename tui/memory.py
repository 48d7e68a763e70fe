"""What the screen knows of one agent's memory, and how it is asked for: little, and only what changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agenttop.core.api import Row
    from agenttop.core.api.memory import (
        BlockInfo,
        EntryInfo,
        FillInfo,
        HitInfo,
        MoveInfo,
        NoteInfo,
        SearchInfo,
        SpaceInfo,
    )
    from agenttop.core.client import KernelClient

#: Entries, notes and movements asked for at once; characters of each text in a list.
PAGE, CHARS = 60, 320
#: Every so many looks all is asked for, whatever the counts say: a note may change and keep its size.
WHOLE = 5


@dataclass(frozen=True)
class Whose:
    """The agent whose memory is shown. ``ref`` is what the client knows it by; with several hosts it
    begins with the host's name, and ``id`` is what its own kernel calls it."""

    ref: str
    id: str
    name: str
    host: str = ""
    observed: bool = False

    @classmethod
    def of(cls, row: Row) -> Whose:
        """The agent of a row of the table."""
        bare = row.id.rpartition("/")[2] if row.host else row.id
        return cls(row.id, bare, row.name, row.host, row.observed)


@dataclass
class Known:
    """What is known of one agent's tiers; ``None`` was not asked for yet."""

    whose: Whose
    fill: FillInfo | None = None
    blocks: list[BlockInfo] | None = None
    entries: list[EntryInfo] | None = None
    spaces: list[SpaceInfo] = field(default_factory=list)
    notes: list[NoteInfo] | None = None
    notes_total: int = 0
    embeddings: str = ""
    moves: list[MoveInfo] | None = None

    @property
    def oldest(self) -> bool:
        """Whether there is nothing older than the entries that are known."""
        return self.fill is None or len(self.entries or ()) >= self.fill.recall_entries


class MemoryReader:
    """Asks a kernel for one agent's memory.

    A look costs one ``memory.fill``; what that says has changed is asked for anew, and everything at every
    ``WHOLE``-th look or when ``stale`` was called.
    """

    def __init__(self, whose: Whose) -> None:
        self.known = Known(whose)
        self.space = ""
        """The namespace whose notes are listed; empty: the newest of all that the agent may read."""
        self._looks = 0
        self._after = ""

    def stale(self) -> None:
        """Something was done: ask for everything at the next look."""
        self._looks = 0

    def choose(self, space: str) -> None:
        """List the notes of one namespace, or the newest of all."""
        self.space, self.known.notes = space, None
        self.stale()

    async def look(self, client: KernelClient) -> bool:
        """Ask for what changed; whether anything did.

        Raises:
            AgentTopError: The kernel does not answer, or refuses.
        """
        from agenttop.core.api import memory as api

        before, known = self.known.fill, self.known
        ref = known.whose.ref
        fill = await client.call(api.FILL, api.AgentRequest(agent=ref))
        whole = self._looks % WHOLE == 0
        self._looks += 1
        if before is None or whole or _working(fill) != _working(before):
            known.blocks = await client.call(api.BLOCKS, api.BlocksRequest(agent=ref))
        if before is None or whole or _recall(fill) != _recall(before):
            known.entries = await self._entries(client, fill, before)
        if before is None or whole or fill.archival_notes != before.archival_notes:
            await self._notes(client)
        if whole or fill != before:
            known.moves = await client.call(api.MOVES, api.MovesRequest(agent=ref, limit=PAGE))
        known.fill = fill
        return whole or fill != before

    async def _entries(
        self, client: KernelClient, fill: FillInfo, before: FillInfo | None
    ) -> list[EntryInfo]:
        from agenttop.core.api import memory as api

        asked = api.RecallRequest(agent=self.known.whose.ref, limit=PAGE, chars=CHARS)
        newest = (await client.call(api.RECALL, asked)).entries
        kept = self.known.entries or []
        if not newest or not kept or before is None or fill.recall_entries < before.recall_entries:
            return newest  # some were forgotten: which, only a new reading tells
        last = newest[-1].id
        if kept[0].id < last:
            return newest  # more came in than a page holds
        return [*newest, *(entry for entry in kept if entry.id < last)]

    async def older(self, client: KernelClient) -> bool:
        """Read a page of recall before the oldest entry known; whether there was one."""
        from agenttop.core.api import memory as api

        known = self.known
        if not known.entries or known.oldest:
            return False
        first = known.entries[-1]
        asked = api.RecallRequest(agent=known.whose.ref, until=first.at, limit=PAGE, chars=CHARS)
        found = (await client.call(api.RECALL, asked)).entries
        fresh = [entry for entry in found if entry.id < first.id]
        known.entries = [*known.entries, *fresh]
        return bool(fresh)

    async def _notes(self, client: KernelClient) -> None:
        from agenttop.core.api import memory as api

        known = self.known
        asked = api.NotesRequest(agent=known.whose.ref, namespace=self.space, limit=max(PAGE, self._held))
        info = await client.call(api.NOTES, asked)
        known.spaces, known.notes = info.spaces, info.notes
        known.notes_total, known.embeddings = info.total, info.embeddings

    @property
    def _held(self) -> int:
        return min(200, len(self.known.notes or ()))

    async def more_notes(self, client: KernelClient) -> bool:
        """Read the notes after the last one known; whether there were any. Without a namespace they are
        in no order that could be gone on with: only the newest are shown."""
        from agenttop.core.api import memory as api

        known = self.known
        if not self.space or not known.notes or len(known.notes) >= known.notes_total:
            return False
        asked = api.NotesRequest(
            agent=known.whose.ref, namespace=self.space, after=known.notes[-1].key, limit=PAGE
        )
        found = (await client.call(api.NOTES, asked)).notes
        known.notes = [*known.notes, *found]
        return bool(found)


def _working(fill: FillInfo) -> tuple[int, int, int]:
    return fill.blocks, fill.working_tokens, fill.working_limit


def _recall(fill: FillInfo) -> tuple[int, int, tuple[int, ...]]:
    return fill.recall_entries, fill.recall_bytes, tuple(fill.recall_spark[-1:])


@dataclass
class Search:
    """A search as it is typed, and its last answer."""

    query: str = ""
    everybody: bool = False
    """In the memory of all agents, not only of this one."""
    answered: str = ""
    """The query that ``found`` answers."""
    found: SearchInfo | None = None
    problem: str = ""
    busy: bool = False

    @property
    def hits(self) -> list[HitInfo]:
        """What was found."""
        return self.found.hits if self.found is not None else []

    async def ask(self, client: KernelClient, whose: Whose, *, words: bool, limit: int = 20) -> SearchInfo:
        """Search in all tiers; ``words`` where it is known that no search by meaning is set up.

        Raises:
            AgentTopError: The kernel does not answer, or refuses.
        """
        from agenttop.core.api import memory as api

        agent = "" if self.everybody else whose.ref
        host = whose.host if self.everybody else ""
        asked = api.SearchRequest(
            agent=agent, host=host, query=self.query.strip(), limit=limit,
            mode="words" if words else "hybrid",
        )  # fmt: skip
        return await client.call(api.SEARCH, asked)


def moved_from(source: str) -> str:
    """The block whose text an entry of recall once was, out of its source: ``working:plan@3``."""
    kind, _, name = source.partition(":")
    return name.rpartition("@")[0] or name if kind in ("working", "block") else ""


def split_title(title: str) -> tuple[str, str]:
    """Namespace and key of a note that a search found, out of ``namespace/key``."""
    first, _, rest = title.partition("/")
    if first in ("private", "team"):
        owner, _, key = rest.partition("/")
        return f"{first}/{owner}", key
    return first, rest
