"""Search by meaning: one vector for each part of a note, compared exactly, by numpy.

Why numpy: the sums are exact, and there is no index beside the rows that would have to be kept in step, and
scrubbed when something is forgotten. sqlite-vec does the same sums, but is an extension of SQLite, and there
are builds of Python that cannot load any (``--disable-loadable-sqlite-extensions`` is the default).
It is the extra ``agenttop[semantic]``, and imported when first used.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import anyio.to_thread

from ..errors import AgentTopError
from .model import MemoryUnavailable

PART = 2_000
"""Characters of a note that one vector stands for."""
_DIMENSIONS = 8_192
_PARTS = 64
"""Of one note; what is behind them is found by its words only."""
_LACKS = (
    "text != '' AND NOT EXISTS (SELECT 1 FROM vector"
    " WHERE vector.note = note.id AND vector.version = note.version AND model = ?"
)


class Embedder(Protocol):
    """A model that turns texts into vectors."""

    @property
    def model(self) -> str:
        """Its name: vectors of different models cannot be compared."""
        ...

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """One vector for each text, all of one dimension.

        Raises:
            AgentTopError: The provider is not there, refuses, or the budget does.
        """
        ...


class Pending(NamedTuple):
    """A note without a vector of its newest version and this model."""

    note: int
    version: int
    parts: list[str]


class EmbeddingFailed(AgentTopError):
    """No vectors came, or none that can be used."""

    status = 502
    code = "embedding_failed"


async def ask(embedder: Embedder, texts: Sequence[str]) -> list[array[float]]:
    """Vectors of length one, checked: their number, dimension, and that they are finite.

    Raises:
        EmbeddingFailed: They are not what was asked for.
        AgentTopError: As the embedder says.
    """
    raw = await embedder.embed(texts)
    # A thousand vectors are half a second's work: not while all agents' tokens wait.
    return await anyio.to_thread.run_sync(_checked, embedder.model, texts, raw)


def _checked(model: str, texts: Sequence[str], raw: Sequence[Sequence[float]]) -> list[array[float]]:
    hint = f"See what the provider of {model} answers"
    if len(raw) != len(texts):
        raise EmbeddingFailed(
            "no embedding was made", f"{len(raw)} vectors came for {len(texts)} texts", hint
        )
    found = []
    for vector in raw:
        try:
            numbers = array("f", vector)
        except (TypeError, OverflowError) as error:
            raise EmbeddingFailed(
                "no embedding was made", f"A vector was not of numbers: {error}", hint
            ) from error
        length = sum(number * number for number in numbers) ** 0.5
        if not 0 < length < float("inf") or len(numbers) > _DIMENSIONS:
            raise EmbeddingFailed("no embedding was made", "A vector was empty, endless or too long", hint)
        found.append(array("f", [number / length for number in numbers]))
    if len({len(vector) for vector in found}) > 1:
        raise EmbeddingFailed("no embedding was made", "Its vectors have different dimensions", hint)
    return found


def pending(db: sqlite3.Connection, model: str, limit: int) -> list[Pending]:
    """Notes that wait for their vectors, oldest first."""
    rows = db.execute(
        f"SELECT id, version, substr(text, 1, ?) FROM note WHERE {_LACKS}) LIMIT ?",
        (PART * _PARTS, model, limit),
    )
    return [
        Pending(id, version, [text[at : at + PART] for at in range(0, len(text), PART)])
        for id, version, text in rows
    ]


def store(db: sqlite3.Connection, model: str, note: Pending, vectors: Sequence[array[float]]) -> bool:
    """Keep the vectors of a note, if it is still what they were made of.

    Vectors of the same model with another dimension are dropped: the model behind the name has changed, and
    its notes wait for vectors again.
    """
    row = db.execute("SELECT 1 FROM note WHERE id = ? AND version = ?", (note.note, note.version)).fetchone()
    if row is None:
        return False
    dimension = len(vectors[0])
    outgrow(db, model, dimension)
    db.execute("DELETE FROM vector WHERE note = ?", (note.note,))
    db.executemany(
        "INSERT INTO vector (note, part, version, model, dimension, data) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (note.note, part, note.version, model, dimension, vector.tobytes())
            for part, vector in enumerate(vectors)
        ],
    )
    return True


def outgrow(db: sqlite3.Connection, model: str, dimension: int) -> None:
    """Drop vectors of a model that has another dimension now; their notes wait for new ones."""
    db.execute("DELETE FROM vector WHERE model = ? AND dimension != ?", (model, dimension))


class Matrix(NamedTuple):
    """All vectors of one model in memory: 4 bytes a number."""

    stamp: object
    rows: Any
    notes: list[int]
    namespaces: list[str]


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise MemoryUnavailable(
            "there is no search by meaning", "numpy is not installed", "pip install 'agenttop[semantic]'"
        ) from error
    return numpy


def load(db: sqlite3.Connection, model: str, dimension: int, known: Matrix | None, generation: int) -> Matrix:
    """The vectors as they are now; those at hand if nothing has changed.

    ``generation`` changes whenever vectors were written or dropped; notes are looked at here.
    """
    numpy = _numpy()
    notes_now = db.execute("SELECT count(*), max(id), sum(version) FROM note").fetchone()
    stamp = (model, dimension, generation, *notes_now)
    if known is not None and known.stamp == stamp:
        return known
    notes, names, data = [], [], bytearray()
    for note, name, blob in db.execute(
        "SELECT note, namespace, data FROM vector JOIN note ON note.id = note"
        " WHERE model = ? AND dimension = ? AND vector.version = note.version ORDER BY note, part",
        (model, dimension),
    ):
        notes.append(note)
        names.append(name)
        data += blob
    rows = numpy.frombuffer(bytes(data), dtype=numpy.float32).reshape(len(notes), dimension)
    return Matrix(stamp, rows, notes, names)


def nearest(
    matrix: Matrix, vector: array[float], allowed: frozenset[str], limit: int
) -> list[tuple[int, float]]:
    """Ids of the notes nearest to a vector and their cosine, best first; each by its best part."""
    numpy = _numpy()
    if not matrix.notes:
        return []
    scores = matrix.rows @ numpy.frombuffer(vector.tobytes(), dtype=numpy.float32)
    best: dict[int, float] = {}
    for at in numpy.argsort(-scores, kind="stable"):
        note = matrix.notes[at]
        if matrix.namespaces[at] in allowed and note not in best:
            best[note] = float(scores[at])
            if len(best) == limit:
                break
    return list(best.items())


def fuse(words: Sequence[int], meaning: Sequence[int]) -> dict[int, float]:
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009, k = 60): scores of all that either list has."""
    scores: dict[int, float] = {}
    for ranked in (words, meaning):
        for rank, id in enumerate(ranked):
            scores[id] = scores.get(id, 0.0) + 1 / (61 + rank)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def waiting(db: sqlite3.Connection, model: str, dimension: int) -> int:
    """How many notes cannot be found by a vector of this model and dimension."""
    (number,) = db.execute(
        f"SELECT count(*) FROM note WHERE {_LACKS} AND dimension = ?)", (model, dimension)
    ).fetchone()
    return int(number)
