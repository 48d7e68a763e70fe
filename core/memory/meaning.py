"""Search in the archive by words and by meaning, and the vectors the latter needs."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence
from typing import Literal

import anyio

from ..clock import Clock
from ..errors import AgentTopError
from . import archival, vectors, words
from .model import Hit, Hits
from .store import Store
from .vectors import Embedder, Matrix, Pending

Mode = Literal["words", "meaning", "hybrid"]
_DEPTH = 3
"""How many times more than asked for each list has before the two are fused."""
_REFUSALS = 3
"""So many notes refused in a row are the provider's fault, and not theirs."""
_PATIENCE = 10.0
"""Seconds that a search waits for the vector of its words."""
_FIRST, _LONGEST = 5.0, 600.0
"""Seconds until an embedder that failed is asked again: doubled each time, up to the second."""


class Meaning:
    """Joins the two searches. Without an embedder only words are searched."""

    def __init__(self, store: Store, embedder: Embedder | None, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._embedder = embedder
        self._matrix: Matrix | None = None
        self._generation = 0
        self._dimension = 0
        """Of the model's vectors, when notes waited for some last."""
        self._failed = ""
        """Why the embedder gave nothing when it was asked last; empty if it did."""
        self._failures = 0
        self._refused: set[tuple[int, int]] = set()
        """Notes and versions that the embedder takes no more in this life of the kernel."""
        self._again_at = 0.0
        """When it may be asked again (monotonic): nobody who searches waits for one that is dead."""

    def drop(self) -> None:
        """Let go of the vectors in memory: something was forgotten."""
        self._matrix = None
        self._generation += 1

    async def embed(self, limit: int) -> int:
        """See ``Memory.embed``."""
        embedder = self._embedder
        if embedder is None:
            return 0
        model, most = embedder.model, limit + len(self._refused)
        waiting = await self._store.read(lambda db: vectors.pending(db, model, most))
        waiting = [note for note in waiting if (note.note, note.version) not in self._refused][:limit]
        if not waiting:
            return 0
        try:
            return await self._embed_some(embedder, waiting)
        except vectors.EmbeddingFailed:
            if len(waiting) == 1:
                raise
        return await self._one_by_one(embedder, waiting)

    async def _one_by_one(self, embedder: Embedder, waiting: Sequence[Pending]) -> int:
        """So that one note that a provider does not like keeps no other from its vectors."""
        made, refused, last = 0, [], None
        for note in waiting:
            try:
                made += await self._embed_some(embedder, [note])
            except vectors.EmbeddingFailed as error:
                refused.append(note)
                last = error
                if not made and len(refused) == _REFUSALS:
                    raise  # it is the provider
        if last is not None and not made:
            raise last
        self._refused |= {(note.note, note.version) for note in refused}
        return made

    async def _embed_some(self, embedder: Embedder, waiting: Sequence[Pending]) -> int:
        model = embedder.model
        found = await self._ask(embedder, [part for note in waiting for part in note.parts])

        def keep(db: sqlite3.Connection) -> int:
            kept, at = 0, 0
            for note in waiting:
                kept += vectors.store(db, model, note, found[at : at + len(note.parts)])
                at += len(note.parts)
            return kept

        kept = await self._store.write(keep)
        self._generation += 1
        return kept

    @property
    def has_embedder(self) -> bool:
        """Whether notes are to have vectors."""
        return self._embedder is not None

    @property
    def again_in(self) -> float:
        """Seconds until the embedder that failed may be asked again."""
        return max(_FIRST, self._again_at - self._clock.monotonic())

    @property
    def state(self) -> str:
        """The model's name, or why there is no search by meaning."""
        if self._embedder is None:
            return "off"
        return f"{self._embedder.model}: {self._failed}" if self._failed else self._embedder.model

    async def _ask(self, embedder: Embedder, texts: Sequence[str]) -> list[array[float]]:
        """Ask it, and remember whether it answers."""
        try:
            found = await vectors.ask(embedder, texts)
        except AgentTopError as error:
            self._fails(str(error))
            raise
        self._failed, self._failures = "", 0
        return found

    def _fails(self, why: str) -> None:
        self._failed = why
        self._again_at = self._clock.monotonic() + min(_LONGEST, _FIRST * 2 ** min(self._failures, 16))
        self._failures += 1

    async def search(
        self,
        text: str,
        allowed: Sequence[str],
        mode: Mode,
        limit: int,
        chars: int,
        span: tuple[float, float],
    ) -> Hits:
        """See ``Memory.search``."""
        degraded, near = "", list[tuple[int, float]]()
        if mode != "words":
            near, degraded = await self._near(text[:chars], frozenset(allowed), limit * _DEPTH)
        query = words.parse(text, chars)
        by_words, loose = list[int](), False
        if mode != "meaning" or (degraded and not near):
            by_words, loose = await self._store.read(
                lambda db: archival.search(db, query, allowed, limit * _DEPTH)
            )
        return await self._hits(by_words, near, loose, degraded, limit, frozenset(allowed), span)

    async def _hits(
        self,
        by_words: list[int],
        near: list[tuple[int, float]],
        loose: bool,
        degraded: str,
        limit: int,
        allowed: frozenset[str],
        span: tuple[float, float],
    ) -> Hits:
        by_meaning = [id for id, _ in near]
        scores = vectors.fuse(by_words, by_meaning)
        best = list(scores)
        notes = await self._store.read(lambda db: archival.by_ids(db, best))
        worded, meant = frozenset(by_words), frozenset(by_meaning)
        hits = [
            Hit(
                notes[id],
                scores[id],
                "both" if id in worded and id in meant else "words" if id in worded else "meaning",
            )
            for id in best
            if id in notes and notes[id].namespace in allowed and span[0] <= notes[id].at < span[1]
        ][:limit]
        return Hits(hits, loose and not near, degraded)

    async def _near(
        self, text: str, allowed: frozenset[str], limit: int
    ) -> tuple[list[tuple[int, float]], str]:
        if self._embedder is None:
            return [], "no embedding model is configured"
        if not text.strip():
            return [], ""
        model = self._embedder.model
        if self._failed and self._clock.monotonic() < self._again_at:
            return [], self._failed
        try:
            with anyio.fail_after(_PATIENCE):
                (vector,) = await self._ask(self._embedder, [text])
        except TimeoutError:
            self._fails(f"{model} did not answer within {_PATIENCE:g} s")
            return [], self._failed
        except AgentTopError as error:
            return [], str(error)
        try:
            return await self._compare(model, vector, allowed, limit)
        except AgentTopError as error:
            return [], str(error)

    async def _compare(
        self, model: str, vector: array[float], allowed: frozenset[str], limit: int
    ) -> tuple[list[tuple[int, float]], str]:
        known, generation = self._matrix, self._generation

        def look(db: sqlite3.Connection) -> tuple[Matrix, list[tuple[int, float]], int]:
            matrix = vectors.load(db, model, len(vector), known, generation)
            return (
                matrix,
                vectors.nearest(matrix, vector, allowed, limit),
                vectors.waiting(db, model, len(vector)),
            )

        matrix, near, waiting = await self._store.read(look)
        if self._generation == generation:  # nothing was forgotten meanwhile
            self._matrix = matrix
        if waiting and self._dimension != len(vector):
            # What was made when this model had another dimension is made anew.
            self._dimension = len(vector)
            await self._store.write(lambda db: vectors.outgrow(db, model, len(vector)))
            self._generation += 1
        return near, f"{waiting} notes have no embedding yet" if waiting else ""
