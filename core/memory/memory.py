"""``Memory``: the three tiers of all agents, as the kernel uses them.

Whoever asks is a ``Who``; an agent's blocks and its recall belong to its namespace ``private/AGENT``, so that
one rule (``names.Access``) says who may read and write all three tiers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import anyio

from ..clock import Clock
from . import archival, exchange, facts, names, recall, words, working
from .meaning import Meaning
from .model import (
    Block,
    Count,
    Fill,
    Found,
    Limits,
    MemoryRefused,
    Move,
    NotRemembered,
    Said,
    Version,
    Who,
    bounded,
    estimate,
)
from .names import Access
from .notes import Notes
from .store import Store
from .vectors import Embedder
from .working import Written

T = TypeVar("T")
Summarise = Callable[[str, str, str, int], Awaitable[str]]
"""Agent, block and the text that left it to a summary of at most so many tokens."""
_SUMMARY_ROOM = 0.75


class Memory(Notes):
    """``async with Memory(path, clock, access) as memory``; belongs to one event loop.

    Everything raises ``MemoryUnavailable`` where the file cannot be used, ``Forbidden`` where ``access``
    says no, ``MemoryRefused`` for bad names and sizes.

    Args:
        count: Counts the tokens of a text.
        lazy: The file is opened when it is first needed; ``settle`` finishes what a crash left then.
        in_place: Up to so many bytes the file is scrubbed where it lies, while writes wait; a larger one is
            copied, while they go on.

    Attributes:
        on_change: Called on the loop after each write that there is something to tell or to embed of.
        on_overflow: Called with what moved out of a block that was written, where a summariser waits for it.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        access: Access,
        *,
        limits: Limits | None = None,
        count: Count = estimate,
        embedder: Embedder | None = None,
        summarise: Summarise | None = None,
        lazy: bool = False,
        in_place: int = 16 << 20,
    ) -> None:
        self._store = Store(path, lazy=lazy)
        self._clock = clock
        self._access = access
        self.limits = limits or Limits()
        self.count = count
        self._summarise = summarise
        self._keep = _SUMMARY_ROOM if summarise is not None else 1.0
        self._meaning = Meaning(self._store, embedder, clock)
        self._scrubbing = anyio.Lock()
        self._lazy = lazy
        self._in_place = in_place
        self.on_change: list[Callable[[], None]] = []
        self.on_overflow: list[Callable[[Written], None]] = []

    async def __aenter__(self) -> Memory:
        await self._store.__aenter__()
        try:
            if not self._lazy:
                await self.settle()
        except BaseException:
            await self._store.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._store.close()

    @property
    def begun(self) -> bool:
        """Whether there is a file."""
        return self._store.path.exists()

    @property
    def problem(self) -> str:
        """Why the file could not be used when that was tried last; empty if it could."""
        return self._store.problem

    async def settle(self) -> None:
        """Finish the forgetting that a crash left half done; nothing where there is no file yet."""
        if self.begun:
            await self._scrub()

    async def facts(self, most: int) -> list[facts.Fact]:
        """What the journal has not heard yet, oldest first; nothing where there is no file yet."""
        if not self.begun:
            return []
        return await self._store.read(lambda db: facts.pending(db, most))

    async def told(self, last: int) -> None:
        """The journal has heard all facts up to this one."""
        await self._store.write(lambda db: facts.told(db, last))

    async def look(self, job: Callable[[Any], T]) -> T:
        """Read in a worker thread, however long it takes; for exports, which check access first."""
        return await self._store.read(job, patient=True)

    def lines(self, db: Any, agents: Sequence[str], spaces: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """All that these agents and namespaces have: the tier, and a line of JSON."""
        for agent in agents:
            for block in working.all_of(db, agent):
                yield "working", exchange.block_line(block)
            for (id,) in db.execute("SELECT id FROM entry WHERE agent = ? ORDER BY id", (agent,)):
                for entry in recall.get(db, [id]):
                    yield "recall", exchange.entry_line(entry)
        for space in spaces:
            for (id,) in db.execute("SELECT id FROM note WHERE namespace = ? ORDER BY key", (space,)):
                for note in archival.by_ids(db, [id]).values():
                    yield "archival", exchange.note_line(note)

    async def agents(self) -> list[str]:
        """Ids of all agents that have anything of their own. For the kernel: access is not asked."""
        return await self._store.read(_agents)

    # --- working

    async def blocks(self, who: Who, agent: str, *, used: bool = False) -> list[Block]:
        """The blocks of an agent. ``used``: they go into its context now, which counts as use."""
        self.check_own(who, "read", agent)
        if used:
            now = self._clock.time()
            await self._store.write(lambda db: working.use(db, agent, None, now))
        return await self._store.read(lambda db: working.all_of(db, agent))

    async def block(self, who: Who, agent: str, name: str) -> Block:
        """One block.

        Raises:
            NotRemembered: It is not there.
        """
        self.check_own(who, "read", agent)
        name = names.block_name(name)
        return await self._store.read(lambda db: working.existing(db, agent, name))

    async def block_versions(self, who: Who, agent: str, name: str) -> list[Version]:
        """The versions of a block that are kept, newest first."""
        self.check_own(who, "read", agent)
        name = names.block_name(name)
        return await self._store.read(lambda db: working.versions(db, agent, name))

    async def write_block(
        self,
        who: Who,
        agent: str,
        name: str,
        text: str,
        *,
        expected: int | None = None,
        append: bool = False,
        limit: int | None = None,
        pinned: bool | None = None,
    ) -> Written:
        """Write, append to or make a block; durable on return, with what pressure moved to recall for it.

        Raises:
            WriteRace: ``expected`` is not its version (0: not there yet).
            MemoryRefused: It is pinned and would be over its limit; there are too many.
        """
        self.check_own(who, "write", agent)
        name = names.block_name(name)
        text = bounded(text, self.limits.write_bytes, f"the text for block {name}")
        desk = await self._desk()
        written = await self._store.write(
            lambda db: working.write(
                db,
                desk,
                agent,
                name,
                text,
                by=who.name,
                expected=expected,
                append=append,
                limit=limit,
                pinned=pinned,
            )
        )
        self._moved(written)
        return written

    def _moved(self, written: Written) -> None:
        if written.moved:
            self._changed()
            if self._summarise is not None:
                for overflowed in self.on_overflow:
                    overflowed(written)

    async def pin(self, who: Who, agent: str, name: str, pinned: bool = True) -> Block:
        """Pin or unpin a block."""
        self.check_own(who, "write", agent)
        name = names.block_name(name)
        return await self._store.write(lambda db: working.set_pinned(db, agent, name, pinned))

    async def evict(self, who: Who, agent: str, name: str) -> Written:
        """Move a block to recall; the block as it was, and what moved.

        Raises:
            NotRemembered: It is not there.
            MemoryRefused: It is pinned.
        """
        self.check_own(who, "write", agent)
        name = names.block_name(name)

        desk = await self._desk()

        def out(db: Any) -> Written:
            block = working.existing(db, agent, name)
            if block.pinned:
                raise MemoryRefused(
                    f"block {name} stays", "It is pinned: what is pinned never moves", "Unpin it first"
                )
            return Written(block, [working.drop(db, desk, agent, name, expected=None)])

        written = await self._store.write(out)
        self._changed()
        return written

    async def find_blocks(
        self,
        who: Who,
        query: words.Query,
        *,
        agents: Sequence[str] | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 20,
    ) -> tuple[list[Block], bool]:
        """Blocks with the words of a search, newest first, and whether only some of the words are in them.

        ``agents=None`` is the asking agent's own (a person's: all).
        """
        agents = self._readable(who, agents)
        limit = max(1, min(limit, self.limits.results))
        return await self._store.read(lambda db: working.search(db, query, agents, since, until, limit))

    def _readable(self, who: Who, agents: Sequence[str] | None) -> Sequence[str] | None:
        if agents is None and who.agent is not None:
            agents = [who.agent]
        for agent in agents or ():
            self.check_own(who, "read", agent)
        return agents

    async def drop_block(self, who: Who, agent: str, name: str, *, expected: int | None = None) -> None:
        """Take a block out of the context. Its text is in recall; to lose it, forget it."""
        self.check_own(who, "write", agent)
        name = names.block_name(name)
        desk = await self._desk()
        await self._store.write(lambda db: working.drop(db, desk, agent, name, expected=expected))
        self._changed()

    async def summarise(self, written: Written) -> Block | None:
        """Put a summary of what a write moved out of its block on top of that block.

        Does nothing where no summariser is configured, the block was written since, or the summary
        is too long: the text itself is in recall either way. Calls a model: not for the path of a write.

        Raises:
            AgentTopError: As the summariser says.
        """
        block = written.block
        gone = "".join(moved.text for moved in written.moved if moved.block == block.name)
        room = block.limit - block.tokens
        if self._summarise is None or not gone or room < 1:
            return None
        summary = await self._summarise(block.agent, block.name, gone, room)
        text = bounded(summary, self.limits.write_bytes, "the summary").rstrip("\n") + "\n" + block.text
        desk = await self._desk()

        def put(db: Any) -> Block | None:
            now = working.find(db, block.agent, block.name)
            if now is None or now.version != block.version or self.count(text) > now.limit:
                return None
            return working.write(
                db, desk, block.agent, block.name, text,
                by="agenttop", expected=now.version, append=False, limit=None, pinned=None,
            ).block  # fmt: skip

        return await self._store.write(put)

    # --- recall

    async def remember(self, said: Sequence[Said]) -> list[int]:
        """Add to recall, all or nothing; ids of what is new. For the kernel: access is not asked."""
        await self._store.ready()
        salt, size = self._store.salt, self.limits.part_chars
        bounded_said = [
            one._replace(text=bounded(one.text, self.limits.file_bytes, "what was said")) for one in said
        ]
        return await self._store.write(lambda db: recall.add(db, salt, bounded_said, size))

    async def recall(
        self,
        who: Who,
        text: str = "",
        *,
        agents: Sequence[str] | None = None,
        roles: Sequence[str] | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 20,
    ) -> Found:
        """Search what was said, newest first; ``agents=None`` is the asking agent's own (a person's: all)."""
        agents = self._readable(who, agents)
        query = words.parse(text, self.limits.query_chars)
        limit = max(1, min(limit, self.limits.results))
        return await self._store.read(
            lambda db: recall.search(
                db, query, agents=agents, roles=roles, since=since, until=until, limit=limit
            )
        )

    async def promote(self, who: Who, agent: str, entry: int, block: str) -> Written:
        """Bring an entry of an agent's recall back into a block of it; it stays in recall too."""
        self.check_own(who, "write", agent)
        block = names.block_name(block)
        desk = await self._desk()

        def bring(db: Any) -> Written:
            found = [one for one in recall.get(db, [entry]) if one.agent == agent]
            if not found:
                raise NotRemembered(f"there is no entry {entry} in the recall of {agent}")
            written = working.write(
                db,
                desk,
                agent,
                block,
                found[0].text,
                by=who.name,
                expected=None,
                append=True,
                limit=None,
                pinned=None,
            )
            size = self.count(found[0].text)
            facts.moved(db, desk.now, agent, block, "recall", "working", "brought back", size)
            return written

        written = await self._store.write(bring)
        self._changed()
        self._moved(written)
        return written

    # --- all tiers

    async def fill(self, who: Who, agent: str) -> Fill:
        """How much an agent has in each tier."""
        self.check_own(who, "read", agent)
        limit, now = self.limits.agent_tokens, self._clock.time()

        def look(db: Any) -> Fill:
            blocks, tokens = db.execute(
                "SELECT count(*), coalesce(sum(tokens), 0) FROM block WHERE agent = ?", (agent,)
            ).fetchone()
            (notes,) = db.execute(
                "SELECT count(*) FROM note WHERE namespace = ? OR by = ?", (f"private/{agent}", agent)
            ).fetchone()
            return Fill(blocks, tokens, limit, *recall.tally(db, agent), recall.spark(db, agent, now), notes)

        return await self._store.read(look)

    async def moves(self, who: Who, agents: Sequence[str] | None, limit: int = 50) -> list[Move]:
        """What went from tier to tier, newest first; ``agents=None``: the asker's own (a person's: all)."""
        agents = self._readable(who, agents)
        where, values = "", list[str]()
        if agents is not None:
            where, values = f"WHERE agent IN ({', '.join('?' * len(agents))})", list(agents)
        rows = await self._store.read(
            lambda db: db.execute(
                f"SELECT id, at, agent, what, source, target, why, tokens FROM move {where}"
                " ORDER BY id DESC LIMIT ?",
                (*values, max(1, min(limit, self.limits.results))),
            ).fetchall()
        )
        return [Move(*row) for row in rows]


def _agents(db: Any) -> list[str]:
    rows = db.execute(
        "SELECT agent FROM block UNION SELECT agent FROM tally UNION"
        " SELECT substr(namespace, 9) FROM note WHERE namespace >= 'private/' AND namespace < 'private0'"
    )
    return [agent for (agent,) in rows]
