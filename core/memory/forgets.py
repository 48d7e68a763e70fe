"""``Forgets``: the verbs of ``Memory`` that forget. Each returns when the bytes are gone.

What is selected by words is selected by a reader first, so that a search through everything does not hold the
writer, and again until nothing is found: what moved from tier to tier meanwhile is found in its new place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio

from ..clock import Clock
from ..errors import Forbidden
from . import archival, facts, forgetting, names, recall, scope, words
from .meaning import Meaning
from .model import Entry, Forgotten, Limits, MemoryRefused, Who
from .names import Access, Verb
from .store import Store

T = TypeVar("T")
_RETENTION_GROUP = 500
_ROUNDS = 4
"""So often words are looked for again; what is written after that was written later."""


class Forgets:
    """Part of ``Memory``; see there."""

    limits: Limits
    _store: Store
    _clock: Clock
    _access: Access
    _meaning: Meaning
    _scrubbing: anyio.Lock
    _in_place: int
    on_change: list[Callable[[], None]]

    def _changed(self) -> None:
        for changed in self.on_change:
            changed()

    def may(self, who: Who, verb: Verb, namespace: str) -> bool:
        """Whether somebody may read or write a namespace."""
        return self._access(who, verb, namespace)

    def _check(self, who: Who, verb: Verb, namespace: str) -> None:
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
        self._check(who, verb, names.namespace(f"private/{agent}"))

    def check_namespace(self, who: Who, verb: Verb, namespace: str) -> None:
        """As ``check_own``, for any namespace.

        Raises:
            MemoryRefused: It is none.
            Forbidden: They may not.
        """
        self._check(who, verb, names.namespace(namespace))

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
        dry: bool = False,
    ) -> Forgotten:
        """Forget entries of recall: those with these ids, or every one with all of these words and filters.

        Raises:
            MemoryRefused: Nothing says which.
        """
        query = self._words(text)
        if ids is None and not query.wanted and agents is None and since is None and until is None:
            raise MemoryRefused("nothing was forgotten", "Neither ids, words, agents nor a time were given")
        agents = self._whose(who, agents)

        def select(db: sqlite3.Connection) -> list[Entry]:
            if ids is None:
                return recall.select(db, query, agents=agents, roles=roles, since=since, until=until)
            return [
                entry
                for entry in recall.get(db, list(dict.fromkeys(ids)))
                if agents is None or entry.agent in agents
            ]

        def job(db: sqlite3.Connection) -> Forgotten:
            return forgetting.entries(db, self._store.salt, select(db), for_good=True)

        if dry:
            found = await self._store.read(select, patient=True)
            return Forgotten(entries=len(found))
        return await self._forget(who, _one(agents), job)

    async def forget_words(
        self, who: Who, text: str, agents: Sequence[str] | None = None, *, dry: bool = False
    ) -> Forgotten:
        """Forget all that has all of these words, in all tiers of these agents (``None``: of everybody).

        Whole blocks and notes go, where their newest version has the words; else only the versions that do.
        Counted are blocks, entries and notes of which something went.

        Raises:
            MemoryRefused: There is no word in it.
        """
        query = self._words(text)
        if not query.wanted:
            raise MemoryRefused("nothing was forgotten", f"There is no word in {text[:80]!r}")
        agents = self._whose(who, agents)
        spaces = await self._writable(who)

        def look(db: sqlite3.Connection) -> scope.Scope:
            return scope.with_words(db, query, agents, agent=who.agent, spaces=spaces)

        found = await self._store.read(look, patient=True)
        if dry:
            return found.size()
        gone = Forgotten()
        for _ in range(_ROUNDS):
            if not any(found.size()):
                break
            doomed = found
            gone = gone.plus(
                await self._forget_rows(
                    who,
                    _one(agents),
                    lambda db: scope.forget(db, self._store.salt, doomed),  # noqa: B023 - awaited
                )
            )
            found = await self._store.read(look, patient=True)
        await self._scrub()
        return gone

    async def forget_block(self, who: Who, agent: str, name: str, *, dry: bool = False) -> Forgotten:
        """Forget a block, its versions, and what pressure moved from it to recall."""
        self.check_own(who, "write", agent)
        name = names.block_name(name)
        return await self._tried(
            who, agent, lambda db: forgetting.block(db, self._store.salt, agent, name), dry
        )

    async def forget_note(self, who: Who, namespace: str, key: str, *, dry: bool = False) -> Forgotten:
        """Forget a note or file with all its versions and vectors.

        Raises:
            Forbidden: An agent would forget what others wrote too: for that there are people.
        """
        namespace, key = names.namespace(namespace), names.note_key(key)
        self._check(who, "write", namespace)

        def job(db: sqlite3.Connection) -> Forgotten:
            if who.agent is not None and namespace != f"private/{who.agent}":
                scope.check_sole(db, who.agent, namespace, key)
            return forgetting.note(db, namespace, key)

        return await self._tried(who, who.agent, job, dry)

    async def forget_namespace(self, who: Who, namespace: str, *, dry: bool = False) -> Forgotten:
        """Forget all notes of a namespace."""
        namespace = names.namespace(namespace)
        self._check(who, "write", namespace)
        return await self._tried(who, who.agent, lambda db: forgetting.namespace(db, namespace), dry)

    async def forget_agent(self, who: Who, agent: str, *, dry: bool = False) -> Forgotten:
        """Forget all that an agent has; what it wrote to team and shared namespaces stays."""
        self.check_own(who, "write", agent)
        return await self._tried(who, agent, lambda db: forgetting.agent(db, self._store.salt, agent), dry)

    async def retain(self, seconds: float | None, per_agent: int | None = None) -> Forgotten:
        """Forget recall older than ``seconds``, and each agent's oldest beyond ``per_agent`` entries."""
        before = self._clock.time() - seconds if seconds is not None else 0.0
        total = 0

        def some(db: sqlite3.Connection) -> Forgotten:
            gone = forgetting.expired(db, self._store.salt, before, per_agent, _RETENTION_GROUP)
            facts.expired(db, gone.entries)
            return gone

        while (gone := await self._store.write(some)).entries:
            total += gone.entries
        await self._scrub()
        now = self._clock.time()
        await self._store.write(lambda db: forgetting.retained(db, now))
        if total:
            self._changed()
        return Forgotten(entries=total)

    async def retained(self) -> float:
        """When ``retain`` was through last, seconds since the epoch; 0 if never."""
        return await self._store.read(forgetting.retained_at)

    async def _writable(self, who: Who) -> frozenset[str] | None:
        if who.agent is None:
            return None
        there = await self._store.read(archival.namespaces)
        return frozenset(name for name in there if self._access(who, "write", name))

    def _words(self, text: str) -> words.Query:
        query = words.parse(text, self.limits.query_chars)
        if text.strip() and not query.wanted:
            raise MemoryRefused("nothing was forgotten", f"There is no word in {text[:80]!r}")
        if query.cut:
            raise MemoryRefused(
                "nothing was forgotten", "Of so many words not all count, and fewer take more", "Give fewer"
            )
        return query

    def _whose(self, who: Who, agents: Sequence[str] | None) -> Sequence[str] | None:
        if agents is None and who.agent is not None:
            agents = [who.agent]
        for agent in agents or ():
            self.check_own(who, "write", agent)
        return agents

    async def _tried(
        self, who: Who, agent: str | None, job: Callable[[sqlite3.Connection], Forgotten], dry: bool
    ) -> Forgotten:
        """Do it; ``dry``: undo it in the same transaction, and say what it was."""
        if not dry:
            return await self._forget(who, agent, job)

        def undone(db: sqlite3.Connection) -> Forgotten:
            raise _Tried(job(db))

        try:
            return await self._store.write(undone)
        except _Tried as tried:
            return tried.gone

    async def _forget_rows(
        self, who: Who, agent: str | None, job: Callable[[sqlite3.Connection], Forgotten]
    ) -> Forgotten:
        def told(db: sqlite3.Connection) -> Forgotten:
            gone = job(db)
            facts.forgotten(db, who, agent, gone)
            return gone

        gone = await self._store.write(told)
        self._meaning.drop()
        self._changed()
        return gone

    async def _forget(
        self, who: Who, agent: str | None, job: Callable[[sqlite3.Connection], Forgotten]
    ) -> Forgotten:
        gone = await self._forget_rows(who, agent, job)
        await self._scrub()
        return gone

    async def _scrub(self) -> None:
        """Return when what was forgotten until now is in no byte of the files."""
        async with self._scrubbing:
            size = await self._store.read(forgetting.due_of)
            if not size:
                return  # another one's scrub came after this one's rows had gone
            if size > self._in_place and await self._store.rewrite(forgetting.rewrite):
                return
            await self._store.alone(forgetting.scrub)


class _Tried(Exception):
    """Undoes a forgetting that was only to be counted."""

    def __init__(self, gone: Forgotten) -> None:
        super().__init__()
        self.gone = gone


def _one(agents: Sequence[str] | None) -> str | None:
    return agents[0] if agents is not None and len(agents) == 1 else None
