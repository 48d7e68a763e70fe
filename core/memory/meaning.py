"""Search in the archive by words and by meaning, and the vectors the latter needs."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence
from typing import Literal

from ..errors import AgentTopError
from . import archival, vectors, words
from .model import Hit, Hits
from .store import Store
from .vectors import Embedder, Matrix

Mode = Literal["words", "meaning", "hybrid"]
_DEPTH = 3
"""How many times more than asked for each list has before the two are fused."""


class Meaning:
    """Joins the two searches. Without an embedder only words are searched."""

    def __init__(self, store: Store, embedder: Embedder | None) -> None:
        self._store = store
        self._embedder = embedder
        self._matrix: Matrix | None = None
        self._generation = 0

    def drop(self) -> None:
        """Let go of the vectors in memory: something was forgotten."""
        self._matrix = None
        self._generation += 1

    async def embed(self, limit: int) -> int:
        """See ``Memory.embed``."""
        embedder = self._embedder
        if embedder is None:
            return 0
        model = embedder.model
        waiting = await self._store.read(lambda db: vectors.pending(db, model, limit))
        if not waiting:
            return 0
        found = await vectors.ask(embedder, [part for note in waiting for part in note.parts])

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
    def state(self) -> str:
        """The model's name, or why there is no search by meaning."""
        return "off" if self._embedder is None else self._embedder.model

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
        try:
            (vector,) = await vectors.ask(self._embedder, [text])
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
        if waiting:  # what was made when this model had another dimension is made anew
            await self._store.write(lambda db: vectors.outgrow(db, model, len(vector)))
            self._generation += 1
        return near, f"{waiting} notes have no embedding yet" if waiting else ""
