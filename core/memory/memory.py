"""``Memory``: the three tiers of all agents, as the kernel uses them.

Whoever asks is a ``Who``; an agent's blocks and its recall belong to its namespace ``private/AGENT``, so that
one rule (``names.Access``) says who may read and write all three tiers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ..clock import Clock
from ..errors import Forbidden
from . import archival, exchange, forgetting, names, recall, words, working
from .meaning import Meaning, Mode
from .model import (
    Block,
    Count,
    Entry,
    Fill,
    Forgotten,
    Found,
    Hits,
    Limits,
    MemoryRefused,
    Move,
    Note,
    NotRemembered,
    Said,
    Version,
    Who,
    bounded,
    estimate,
)
from .names import Access, Verb
from .store import Store
from .vectors import Embedder
from .working import Written

T = TypeVar("T")
Summarise = Callable[[str, str, str, int], Awaitable[str]]
"""Agent, block and the text that left it to a summary of at most so many tokens."""
_SUMMARY_ROOM = 0.75
_RETENTION_GROUP = 2_000


class Memory:
    """``async with Memory(path, clock, access) as memory``; belongs to one event loop.

    Everything raises ``MemoryUnavailable`` where the file cannot be used, ``Forbidden`` where ``access``
    says no, ``MemoryRefused`` for bad names and sizes.
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
    ) -> None:
        self._store = Store(path)
        self._clock = clock
        self._access = access
        self.limits = limits or Limits()
        self._count = count
        self._summarise = summarise
        self._meaning = Meaning(self._store, embedder)

    async def __aenter__(self) -> Memory:
        await self._store.__aenter__()
        try:
            await self._store.alone(forgetting.scrub)  # what a crash left half forgotten
        except BaseException:
            await self._store.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._store.close()

    def _may(self, who: Who, verb: Verb, namespace: str) -> None:
        if not self._access(who, verb, namespace):
            raise Forbidden(
                f"{who.name} may not {verb} {namespace}",
                "It belongs to others",
                "Use shared, or ask a person",
            )

    def check_own(self, who: Who, verb: Verb, agent: str) -> None:
        """See that somebody may read or write the blocks and the recall of an agent.

        Raises:
            Forbidden: They may not.
        """
        self._own(who, verb, agent)

    async def look(self, job: Callable[[Any], T]) -> T:
        """Read in a worker thread, however long it takes; for exports, which check access first."""
        return await self._store.read(job, patient=True)

    def lines(self, db: Any, agents: Sequence[str], spaces: Sequence[str]) -> Iterator[bytes]:
        """All that these agents and namespaces have, as JSON lines."""
        for agent in agents:
            yield from map(exchange.block_line, working.all_of(db, agent))
            for (id,) in db.execute("SELECT id FROM entry WHERE agent = ? ORDER BY id", (agent,)):
                yield from map(exchange.entry_line, recall.get(db, [id]))
        for space in spaces:
            for (id,) in db.execute("SELECT id FROM note WHERE namespace = ? ORDER BY key", (space,)):
                yield from map(exchange.note_line, archival.by_ids(db, [id]).values())

    def _own(self, who: Who, verb: Verb, agent: str) -> None:
        self._may(who, verb, names.namespace(f"private/{agent}"))

    def _desk(self) -> working.Desk:
        keep = _SUMMARY_ROOM if self._summarise is not None else 1.0
        return working.Desk(self._store.salt, self.limits, self._count, self._clock.time(), keep)

    # --- working

    async def blocks(self, who: Who, agent: str, *, used: bool = False) -> list[Block]:
        """The blocks of an agent. ``used``: they go into its context now, which counts as use."""
        self._own(who, "read", agent)
        if used:
            now = self._clock.time()
            await self._store.write(lambda db: working.use(db, agent, None, now))
        return await self._store.read(lambda db: working.all_of(db, agent))

    async def block(self, who: Who, agent: str, name: str) -> Block:
        """One block.

        Raises:
            NotRemembered: It is not there.
        """
        self._own(who, "read", agent)
        return await self._store.read(lambda db: working.existing(db, agent, name))

    async def block_versions(self, who: Who, agent: str, name: str) -> list[Version]:
        """The versions of a block that are kept, newest first."""
        self._own(who, "read", agent)
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
        self._own(who, "write", agent)
        name = names.block_name(name)
        text = bounded(text, self.limits.write_bytes, f"the text for block {name}")
        desk = self._desk()
        return await self._store.write(
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

    async def pin(self, who: Who, agent: str, name: str, pinned: bool = True) -> Block:
        """Pin or unpin a block."""
        self._own(who, "write", agent)
        return await self._store.write(lambda db: working.set_pinned(db, agent, name, pinned))

    async def drop_block(self, who: Who, agent: str, name: str, *, expected: int | None = None) -> None:
        """Take a block out of the context. Its text is in recall; to lose it, forget it."""
        self._own(who, "write", agent)
        desk = self._desk()
        await self._store.write(lambda db: working.drop(db, desk, agent, name, expected=expected))

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
        desk = self._desk()

        def put(db: Any) -> Block | None:
            now = working.find(db, block.agent, block.name)
            if now is None or now.version != block.version or self._count(text) > now.limit:
                return None
            return working.write(
                db, desk, block.agent, block.name, text,
                by="agenttop", expected=now.version, append=False, limit=None, pinned=None,
            ).block  # fmt: skip

        return await self._store.write(put)

    # --- recall

    async def remember(self, said: Sequence[Said]) -> list[int]:
        """Add to recall, all or nothing; ids of what is new. For the kernel: access is not asked."""
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
        if agents is None and who.agent is not None:
            agents = [who.agent]
        for agent in agents or ():
            self._own(who, "read", agent)
        query = words.parse(text, self.limits.query_chars)
        limit = max(1, min(limit, self.limits.results))
        return await self._store.read(
            lambda db: recall.search(
                db, query, agents=agents, roles=roles, since=since, until=until, limit=limit
            )
        )

    async def promote(self, who: Who, agent: str, entry: int, block: str) -> Written:
        """Bring an entry of an agent's recall back into a block of it; it stays in recall too."""
        self._own(who, "write", agent)
        block = names.block_name(block)
        desk = self._desk()

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
            _note_move(
                db, desk, agent, block, "recall", "working", "brought back", self._count(found[0].text)
            )
            return written

        return await self._store.write(bring)

    # --- archival

    async def note(self, who: Who, namespace: str, key: str) -> Note:
        """A note in its newest version.

        Raises:
            NotRemembered: It is not there.
        """
        namespace, key = names.namespace(namespace), names.note_key(key)
        self._may(who, "read", namespace)
        return await self._store.read(lambda db: archival.existing(db, namespace, key))

    async def note_versions(self, who: Who, namespace: str, key: str) -> list[Version]:
        """Its versions, newest first."""
        note = await self.note(who, namespace, key)
        return await self._store.read(lambda db: archival.versions(db, note.id))

    async def keys(self, who: Who, namespace: str, after: str = "", limit: int = 200) -> list[str]:
        """Keys in a namespace, sorted, those behind ``after``."""
        namespace = names.namespace(namespace)
        self._may(who, "read", namespace)
        limit = max(1, min(limit, self.limits.results))
        return await self._store.read(lambda db: archival.keys(db, namespace, after, limit))

    async def namespaces(self, who: Who) -> list[str]:
        """The namespaces with something in them that this one may read."""
        found = await self._store.read(archival.namespaces)
        return [name for name in found if self._access(who, "read", name)]

    async def write_note(
        self,
        who: Who,
        namespace: str,
        key: str,
        text: str | bytes,
        *,
        expected: int | None = None,
        moved_from: str = "",
    ) -> Note:
        """Write or make a note (text) or file (bytes; searched by its text if it is UTF-8).

        Raises:
            WriteRace: ``expected`` is not its version (0: not there yet).
        """
        namespace, key = names.namespace(namespace), names.note_key(key)
        self._may(who, "write", namespace)
        file, limits = None, self.limits
        if isinstance(text, bytes):
            if len(text) > limits.file_bytes:
                raise MemoryRefused(f"file {key} is too long", f"It has more than {limits.file_bytes} bytes")
            file, text = text, _text_of(text, limits.write_bytes)
        text = bounded(text, limits.write_bytes, f"note {key}")
        desk = self._desk()

        def put(db: Any) -> Note:
            note = archival.write(
                db, limits, namespace, key, text, file, who=who, now=desk.now, expected=expected
            )
            if moved_from in ("working", "recall"):
                agent = who.agent or ""
                _note_move(
                    db,
                    desk,
                    agent,
                    f"{namespace}/{key}",
                    moved_from,
                    "archival",
                    "archived",
                    self._count(text),
                )
            return note

        return await self._store.write(put)

    async def search(self, who: Who, text: str, *, mode: Mode = "hybrid", limit: int = 20) -> Hits:
        """Search the archive by words, meaning or both, in all namespaces this one may read.

        Where meaning cannot be had (no embedder, it fails, numpy is missing), words are searched, and
        ``degraded`` says why.
        """
        allowed = await self.namespaces(who)
        limit = max(1, min(limit, self.limits.results))
        return await self._meaning.search(text, allowed, mode, limit, self.limits.query_chars)

    async def embed(self, limit: int = 32) -> int:
        """Make vectors for up to ``limit`` notes that wait for them; how many it made. Call until it is 0.

        Raises:
            AgentTopError: As the embedder says; nothing is lost, and nothing is tried again by itself.
        """
        return await self._meaning.embed(limit)

    # --- all tiers

    async def fill(self, who: Who, agent: str) -> Fill:
        """How much an agent has in each tier."""
        self._own(who, "read", agent)
        limit = self.limits.agent_tokens

        def look(db: Any) -> Fill:
            blocks, tokens = db.execute(
                "SELECT count(*), coalesce(sum(tokens), 0) FROM block WHERE agent = ?", (agent,)
            ).fetchone()
            (said,) = db.execute("SELECT count(*) FROM entry WHERE agent = ?", (agent,)).fetchone()
            (notes,) = db.execute(
                "SELECT count(*) FROM note WHERE namespace = ? OR by = ?", (f"private/{agent}", agent)
            ).fetchone()
            return Fill(blocks, tokens, limit, said, notes)

        return await self._store.read(look)

    async def moves(self, who: Who, agent: str, limit: int = 50) -> list[Move]:
        """What went from tier to tier, newest first."""
        self._own(who, "read", agent)
        rows = await self._store.read(
            lambda db: db.execute(
                "SELECT id, at, agent, what, source, target, why, tokens FROM move WHERE agent = ?"
                " ORDER BY id DESC LIMIT ?",
                (agent, max(1, min(limit, self.limits.results))),
            ).fetchall()
        )
        return [Move(*row) for row in rows]

    # --- forgetting; each returns when the bytes are gone

    async def forget_entries(
        self,
        who: Who,
        *,
        ids: Sequence[int] | None = None,
        text: str = "",
        agents: Sequence[str] | None = None,
        roles: Sequence[str] | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Forgotten:
        """Forget entries of recall: those with these ids, or every one with all of these words and filters.

        Raises:
            MemoryRefused: Nothing says which.
        """
        query = words.parse(text, self.limits.query_chars)
        if ids is None and not query.wanted and agents is None and since is None and until is None:
            raise MemoryRefused("nothing was forgotten", "Neither ids, words, agents nor a time were given")
        if text.strip() and not query.wanted:
            raise MemoryRefused("nothing was forgotten", f"There is no word in {text[:80]!r}")
        if agents is None and who.agent is not None:
            agents = [who.agent]
        for agent in agents or ():
            self._own(who, "write", agent)
        salt = self._store.salt

        def select(db: Any) -> list[Entry]:
            if ids is None:
                return recall.select(db, query, agents=agents, roles=roles, since=since, until=until)
            return [
                entry
                for entry in recall.get(db, list(dict.fromkeys(ids)))
                if agents is None or entry.agent in agents
            ]

        return await self._forget(lambda db: forgetting.entries(db, salt, select(db)))

    async def forget_block(self, who: Who, agent: str, name: str) -> Forgotten:
        """Forget a block, its versions, and what pressure moved from it to recall."""
        self._own(who, "write", agent)
        salt = self._store.salt
        return await self._forget(lambda db: forgetting.block(db, salt, agent, name))

    async def forget_note(self, who: Who, namespace: str, key: str) -> Forgotten:
        """Forget a note or file with all its versions and vectors."""
        namespace, key = names.namespace(namespace), names.note_key(key)
        self._may(who, "write", namespace)
        return await self._forget(lambda db: forgetting.note(db, namespace, key))

    async def forget_agent(self, who: Who, agent: str) -> Forgotten:
        """Forget all that an agent has; what it wrote to team and shared namespaces stays."""
        self._own(who, "write", agent)
        salt = self._store.salt
        return await self._forget(lambda db: forgetting.agent(db, salt, agent))

    async def retain(self, seconds: float, per_agent: int | None = None) -> Forgotten:
        """Forget recall older than ``seconds``, and each agent's oldest beyond ``per_agent`` entries."""
        salt, before, total = self._store.salt, self._clock.time() - seconds, 0
        while True:
            gone = await self._store.write(
                lambda db: forgetting.expired(db, salt, before, per_agent, _RETENTION_GROUP)
            )
            total += gone.entries
            if not gone.entries:
                break
        await self._store.alone(forgetting.scrub)
        return Forgotten(entries=total)

    async def _forget(self, job: Callable[[Any], Forgotten]) -> Forgotten:
        gone = await self._store.write(job)
        self._meaning.drop()
        await self._store.alone(forgetting.scrub)
        return gone


def _text_of(file: bytes, most: int) -> str:
    """What can be searched of a file: its beginning, if it is text."""
    try:
        text = file.decode()
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else text.encode()[:most].decode("utf-8", "ignore")


def _note_move(
    db: Any, desk: working.Desk, agent: str, what: str, source: str, target: str, why: str, tokens: int
) -> None:
    db.execute(
        "INSERT INTO move (at, agent, what, source, target, why, tokens) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (desk.now, agent, what, source, target, why, tokens),
    )
