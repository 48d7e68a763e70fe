"""System calls of the three memory tiers: blocks, recall, notes, and how full they are."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from ..api import memory as api
from ..errors import Forbidden
from ..memory.model import Block, Entry, MemoryRefused, Note, NoteHead, Version, Who
from ..memory.working import Moved, Written
from .caller import Caller
from .memory_forgetting import ForgettingCalls
from .memory_names import Names, who
from .memory_search import SearchCalls
from .memory_trading import TradingCalls
from .table import Syscalls

if TYPE_CHECKING:
    from ..kernel import Kernel

_CUT = 400
"""Characters of a note's text in a list."""


def add(table: Syscalls, kernel: Kernel) -> None:
    """Put the calls of this room into the table."""
    names = Names(kernel.books, kernel.memory)
    calls = MemoryCalls(kernel, names)
    table.add(api.BLOCKS, calls.blocks)
    table.add(api.WRITE_BLOCK, calls.write_block)
    table.add(api.PIN, calls.pin)
    table.add(api.EVICT, calls.evict)
    table.add(api.BLOCK_VERSIONS, calls.block_versions)
    table.add(api.RECALL, calls.recall)
    table.add(api.PROMOTE, calls.promote)
    table.add(api.NOTE, calls.note)
    table.add(api.WRITE_NOTE, calls.write_note)
    table.add(api.NOTES, calls.notes)
    table.add(api.NOTE_VERSIONS, calls.note_versions)
    table.add(api.FILL, calls.fill)
    table.add(api.MOVES, calls.moves)
    table.add(api.SEARCH, SearchCalls(kernel, names).search)
    table.add(api.FORGET, ForgettingCalls(kernel, names).forget)
    trading = TradingCalls(kernel, names)
    table.add(api.EXPORT, trading.export)
    table.add(api.IMPORT, trading.bring)


class MemoryCalls:
    """One handler for each verb."""

    def __init__(self, kernel: Kernel, names: Names) -> None:
        self._memory = kernel.memory
        self._names = names

    # --- working

    async def blocks(self, caller: Caller, ask: api.BlocksRequest) -> list[api.BlockInfo]:
        """The blocks of an agent."""
        agent = await self._names.agent(caller, ask.agent)
        return [block_info(one) for one in await self._memory.blocks(who(caller), agent, used=ask.used)]

    async def write_block(self, caller: Caller, ask: api.WriteBlockRequest) -> api.WrittenInfo:
        """Write to a block."""
        written = await self._memory.write_block(
            who(caller),
            await self._names.agent(caller, ask.agent),
            ask.name,
            ask.text,
            expected=ask.expected,
            append=ask.append,
            limit=ask.limit,
            pinned=ask.pinned,
        )
        return self._written(written)

    async def pin(self, caller: Caller, ask: api.PinRequest) -> api.BlockInfo:
        """Pin or unpin a block."""
        agent = await self._names.agent(caller, ask.agent)
        return block_info(await self._memory.pin(who(caller), agent, ask.name, ask.pinned))

    async def evict(self, caller: Caller, ask: api.BlockRequest) -> api.WrittenInfo:
        """Move a block's text to recall; the answer has the block as it was."""
        agent = await self._names.agent(caller, ask.agent)
        return self._written(await self._memory.evict(who(caller), agent, ask.name))

    async def block_versions(self, caller: Caller, ask: api.BlockRequest) -> list[api.VersionInfo]:
        """Versions of a block."""
        agent = await self._names.agent(caller, ask.agent)
        return [version_info(one) for one in await self._memory.block_versions(who(caller), agent, ask.name)]

    def _written(self, written: Written) -> api.WrittenInfo:
        return api.WrittenInfo(
            block=block_info(written.block), moved=[self._moved(one) for one in written.moved]
        )

    def _moved(self, moved: Moved) -> api.MovedInfo:
        return api.MovedInfo(block=moved.block, tokens=self._memory.count(moved.text))

    # --- recall

    async def recall(self, caller: Caller, ask: api.RecallRequest) -> api.FoundInfo:
        """Search what was said."""
        found = await self._memory.recall(
            who(caller),
            ask.query,
            agents=await self._names.agents(caller, ask.agent, ask.agents),
            roles=ask.roles,
            since=ask.since,
            until=ask.until,
            limit=ask.limit,
        )
        entries = [self._entry(one, ask.chars) for one in found.entries]
        return api.FoundInfo(entries=entries, loose=found.loose)

    def _entry(self, entry: Entry, chars: int) -> api.EntryInfo:
        return api.EntryInfo(
            id=entry.id,
            at=entry.at,
            agent=entry.agent,
            name=self._names.of(entry.agent),
            run=entry.run,
            role=entry.role,
            source=entry.source,
            text=entry.text[:chars] if chars else entry.text,
        )

    async def promote(self, caller: Caller, ask: api.PromoteRequest) -> api.WrittenInfo:
        """Bring an entry back into a block."""
        agent = await self._names.agent(caller, ask.agent)
        return self._written(await self._memory.promote(who(caller), agent, ask.entry, ask.block))

    # --- archival

    async def note(self, caller: Caller, ask: api.NoteRequest) -> api.NoteInfo:
        """One note."""
        space = await self._names.namespace(caller, ask.namespace)
        return self._note(await self._memory.note(who(caller), space, ask.key), ask.base64)

    async def write_note(self, caller: Caller, ask: api.WriteNoteRequest) -> api.NoteInfo:
        """Write a note or a file."""
        space = await self._names.namespace(caller, ask.namespace)
        content: str | bytes = ask.text
        if ask.base64:
            try:
                content = base64.b64decode(ask.text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise MemoryRefused(
                    f"file {ask.key[:80]!r} was not written", f"It is no base64: {error}"
                ) from error
        note = await self._memory.write_note(
            who(caller), space, ask.key, content, expected=ask.expected, moved_from=ask.moved_from
        )
        return self._note(note, ask.base64)

    def _note(self, note: Note, base64_wanted: bool) -> api.NoteInfo:
        text = note.text
        if base64_wanted:
            raw = note.file if note.file is not None else note.text.encode()
            text = base64.b64encode(raw).decode()
        size = len(note.file) if note.file is not None else len(note.text.encode())
        return api.NoteInfo(
            namespace=note.namespace,
            key=note.key,
            text=text,
            version=note.version,
            at=note.at,
            by=note.by,
            by_name=self._names.of(note.by),
            run=note.run,
            source=note.source,
            size=size,
            file=note.file is not None,
        )

    async def notes(self, caller: Caller, ask: api.NotesRequest) -> api.NotesInfo:
        """Namespaces, and notes of one or the newest of all; a person may ask as an agent."""
        asker = who(caller)
        if ask.agent:
            agent = await self._names.agent(caller, ask.agent)
            if caller.agent not in (None, agent):
                raise Forbidden(f"{caller.agent} may not ask what {agent} may use", "", "Ask for yourself")
            asker = Who(agent)
        counts = await self._memory.counts(asker)
        spaces = self._spaces(asker, counts)
        if ask.namespace:
            space = await self._names.namespace(caller, ask.namespace)
            heads = await self._memory.page(asker, space, ask.after, ask.limit, _CUT)
            total = counts.get(space, 0)
        else:
            heads = await self._memory.newest(asker, ask.limit, _CUT)
            total = sum(counts.values())
        return api.NotesInfo(
            spaces=spaces,
            notes=[self._head(one) for one in heads],
            total=total,
            embeddings=self._memory.embeddings,
        )

    def _spaces(self, asker: Who, counts: dict[str, int]) -> list[api.SpaceInfo]:
        """Those with notes, and those the asker may use that have none yet."""
        usable = ["shared"]
        if asker.agent is not None:
            usable += [f"private/{asker.agent}", *(f"team/{one}" for one in self._names.teams(asker.agent))]
        return [
            api.SpaceInfo(name=name, notes=counts.get(name, 0), write=self._memory.may(asker, "write", name))
            for name in sorted({*counts, *usable})
        ]

    def _head(self, head: NoteHead) -> api.NoteInfo:
        return api.NoteInfo(**head._asdict(), by_name=self._names.of(head.by))

    async def note_versions(self, caller: Caller, ask: api.NoteRequest) -> list[api.VersionInfo]:
        """Versions of a note."""
        space = await self._names.namespace(caller, ask.namespace)
        return [version_info(one) for one in await self._memory.note_versions(who(caller), space, ask.key)]

    # --- all tiers

    async def fill(self, caller: Caller, ask: api.AgentRequest) -> api.FillInfo:
        """How full an agent's tiers are."""
        agent = await self._names.agent(caller, ask.agent)
        fill = await self._memory.fill(who(caller), agent)
        return api.FillInfo(agent=agent, name=self._names.of(agent), **fill._asdict())

    async def moves(self, caller: Caller, ask: api.MovesRequest) -> list[api.MoveInfo]:
        """What moved between the tiers."""
        agents = await self._names.agents(caller, ask.agent)
        found = await self._memory.moves(who(caller), agents, ask.limit)
        return [api.MoveInfo(**one._asdict()) for one in found]


def block_info(block: Block) -> api.BlockInfo:
    """A block as it crosses the door."""
    return api.BlockInfo(**block._asdict())


def version_info(version: Version) -> api.VersionInfo:
    """A version as it crosses the door."""
    return api.VersionInfo(**version._asdict())
