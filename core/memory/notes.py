"""``Notes``: the verbs of ``Memory`` about the archive."""

from __future__ import annotations

from typing import Any

from . import archival, facts, names
from .forgets import Forgets
from .meaning import Mode
from .model import Count, Hits, MemoryRefused, Note, NoteHead, Version, Who, bounded
from .working import Desk


class Notes(Forgets):
    """Part of ``Memory``; see there."""

    count: Count
    _keep: float
    """What part of its limit a block keeps that went over it."""

    async def _desk(self) -> Desk:
        """What a write needs to know; the file is open then."""
        await self._store.ready()
        return Desk(self._store.salt, self.limits, self.count, self._clock.time(), self._keep)

    async def note(self, who: Who, namespace: str, key: str) -> Note:
        """A note in its newest version.

        Raises:
            NotRemembered: It is not there.
        """
        namespace, key = names.namespace(namespace), names.note_key(key)
        self._check(who, "read", namespace)
        return await self._store.read(lambda db: archival.existing(db, namespace, key))

    async def note_versions(self, who: Who, namespace: str, key: str) -> list[Version]:
        """Its versions, newest first."""
        note = await self.note(who, namespace, key)
        return await self._store.read(lambda db: archival.versions(db, note.id))

    async def keys(self, who: Who, namespace: str, after: str = "", limit: int = 200) -> list[str]:
        """Keys in a namespace, sorted, those behind ``after``."""
        namespace = names.namespace(namespace)
        self._check(who, "read", namespace)
        limit = max(1, min(limit, self.limits.results))
        return await self._store.read(lambda db: archival.keys(db, namespace, after, limit))

    async def namespaces(self, who: Who) -> list[str]:
        """The namespaces with something in them that this one may read."""
        found = await self._store.read(archival.namespaces)
        return [name for name in found if self._access(who, "read", name)]

    async def counts(self, who: Who) -> dict[str, int]:
        """How many notes each namespace has that this one may read."""
        found = await self._store.read(archival.counts)
        return {name: number for name, number in found.items() if self._access(who, "read", name)}

    async def page(self, who: Who, namespace: str, after: str, limit: int, cut: int) -> list[NoteHead]:
        """Notes of a namespace by key, those behind ``after``, texts cut to ``cut`` characters."""
        namespace = names.namespace(namespace)
        self._check(who, "read", namespace)
        limit = max(1, min(limit, self.limits.results))
        return await self._store.read(lambda db: archival.page(db, namespace, after, limit, cut))

    async def newest(self, who: Who, limit: int, cut: int) -> list[NoteHead]:
        """The newest notes of all that this one may read, texts cut to ``cut`` characters."""
        allowed = await self.namespaces(who)
        limit = max(1, min(limit, self.limits.results))
        return await self._store.read(lambda db: archival.newest(db, allowed, limit, cut))

    @property
    def embeds(self) -> bool:
        """Whether there is an embedder."""
        return self._meaning.has_embedder

    @property
    def embeds_again_in(self) -> float:
        """Seconds until an embedder that failed is asked again."""
        return self._meaning.again_in

    @property
    def embeddings(self) -> str:
        """The model that notes are searched by meaning with, or why there is none."""
        return self._meaning.state

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
        self._check(who, "write", namespace)
        file, limits = None, self.limits
        if isinstance(text, bytes):
            if len(text) > limits.file_bytes:
                raise MemoryRefused(f"file {key} is too long", f"It has more than {limits.file_bytes} bytes")
            file, text = text, _text_of(text, limits.write_bytes)
        text = bounded(text, limits.write_bytes, f"note {key}")
        desk = await self._desk()

        def put(db: Any) -> Note:
            note = archival.write(
                db, limits, namespace, key, text, file, who=who, now=desk.now, expected=expected
            )
            if moved_from in ("working", "recall"):
                agent = who.agent or ""
                what, size = f"{namespace}/{key}", self.count(text)
                facts.moved(db, desk.now, agent, what, moved_from, "archival", "archived", size)
            return note

        note = await self._store.write(put)
        self._changed()
        return note

    async def search(
        self,
        who: Who,
        text: str,
        *,
        mode: Mode = "hybrid",
        limit: int = 20,
        since: float | None = None,
        until: float | None = None,
    ) -> Hits:
        """Search the archive by words, meaning or both, in all namespaces this one may read.

        Where meaning cannot be had (no embedder, it fails, numpy is missing), words are searched, and
        ``degraded`` says why.
        """
        allowed = await self.namespaces(who)
        limit = max(1, min(limit, self.limits.results))
        span = (since or 0.0, until if until is not None else float("inf"))
        return await self._meaning.search(text, allowed, mode, limit, self.limits.query_chars, span)

    async def embed(self, limit: int = 32) -> int:
        """Make vectors for up to ``limit`` notes that wait for them; how many it made. Call until it is 0.

        Raises:
            AgentTopError: As the embedder says; nothing is lost, and nothing is tried again by itself.
        """
        return await self._meaning.embed(limit)


def _text_of(file: bytes, most: int) -> str:
    """What can be searched of a file: its beginning, if it is text."""
    try:
        text = file.decode()
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else text.encode()[:most].decode("utf-8", "ignore")
