"""Recall: everything said to and by agents, in the order of time, found by its words.

Results come newest first, as in a log: that order FTS5 streams by itself, however common the words are.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from . import words
from .model import ROLES, Entry, Found, MemoryRefused, Said, clean
from .names import tag

_COLUMNS = "entry.id, entry.agent, entry.run, entry.role, entry.source, entry.text"
_LOOSE = 300
"""The newest entries with any of the words, among which those with most are the answer."""
_LATEST = (1 << 62) - 1
_DIGEST = 16
_MINUTE = 60_000_000


def digest(salt: bytes, text: str) -> bytes:
    """Tells equal texts, and nothing else to whoever lacks the salt."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), key=salt, digest_size=_DIGEST).digest()


def parts(text: str, size: int) -> Iterator[str]:
    """A long text in parts, which joined are the text again."""
    yield text[:size]
    for start in range(size, len(text), size):
        yield text[start : start + size]


def add(db: sqlite3.Connection, salt: bytes, said: Iterable[Said], part_chars: int) -> list[int]:
    """Remember what is not remembered or forgotten already; the ids of the new entries.

    Raises:
        MemoryRefused: No such role, or a time before 1970.
    """
    ids: list[int] = []
    counts: dict[str, list[int]] = {}
    for one in said:
        if one.role not in ROLES:
            raise MemoryRefused(f"{one.role!r} is no role", f"There are {', '.join(sorted(ROLES))}")
        if not 0 < one.at < 1e11:
            raise MemoryRefused(f"{one.at} is no time", "It is counted in seconds since 1970")
        key = digest(salt, one.key) if one.key is not None else None
        if key is not None and _known(db, salt, one.agent, key):
            continue
        for number, text in enumerate(parts(clean(one.text), part_chars)):
            if _repeated(one.source) and _gone(db, salt, one.agent, _words_of(salt, one.role, text)):
                continue
            ids.append(_insert(db, one, text, key if number == 0 else None))
            _count(counts, one.agent, text, 1)
    _book(db, counts)
    return ids


def _count(counts: dict[str, list[int]], agent: str, text: str, sign: int) -> None:
    size = len(text.encode())
    sums = counts.setdefault(agent, [0, 0, 0])
    for place, number in enumerate((1, size, (size + 3) // 4)):
        sums[place] += sign * number


def _book(db: sqlite3.Connection, counts: dict[str, list[int]]) -> None:
    """Add to what each agent has, once for all that was written: no trigger, as ``schema`` says."""
    for agent, sums in counts.items():
        db.execute(
            "INSERT INTO tally VALUES (?, ?, ?, ?) ON CONFLICT (agent) DO UPDATE SET"
            " entries = entries + excluded.entries, bytes = bytes + excluded.bytes,"
            " tokens = tokens + excluded.tokens",
            (agent, *sums),
        )
        db.execute("DELETE FROM tally WHERE agent = ? AND entries = 0", (agent,))


def there(db: sqlite3.Connection, one: Said) -> bool:
    """Whether an entry has just this, said at this moment; a time that was a float is off by one or two."""
    id = int(one.at * 1e6)
    row = db.execute(
        "SELECT 1 FROM entry WHERE id BETWEEN ? AND ? AND agent = ? AND role = ? AND text = ?",
        (id - 2, id + 2, one.agent, one.role, clean(one.text)),
    ).fetchone()
    return row is not None


def _known(db: sqlite3.Connection, salt: bytes, agent: str, key: bytes) -> bool:
    here = db.execute("SELECT 1 FROM entry WHERE agent = ? AND key = ?", (agent, key)).fetchone()
    return here is not None or _gone(db, salt, agent, key)


def _gone(db: sqlite3.Connection, salt: bytes, agent: str, key: bytes) -> bool:
    gone = "SELECT 1 FROM forgotten WHERE agent = ? AND key = ?"
    return db.execute(gone, (digest(salt, agent), key)).fetchone() is not None


def _repeated(source: str) -> bool:
    """Whether clients repeat what comes from there; in a fork of a conversation as another one's."""
    return source.startswith("call:")


def _words_of(salt: bytes, role: str, text: str) -> bytes:
    return digest(salt, f"{role} {text}")


def _insert(db: sqlite3.Connection, one: Said, text: str, key: bytes | None) -> int:
    id = _free(db, int(one.at * 1e6))
    db.execute(
        "INSERT INTO entry (id, agent, run, role, source, text, key) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (id, one.agent, one.run, one.role, clean(one.source[:200]), text, key),
    )
    db.execute(
        "INSERT INTO entry_text (rowid, text, tags) VALUES (?, ?, ?)",
        (id, text, f"{tag('a', one.agent)} {tag('r', one.role)}"),
    )
    return id


def _free(db: sqlite3.Connection, id: int) -> int:
    """The first id from here on that is free: what was said at one moment stays in its order."""
    # A run of taken ids is as long as what came within the same microseconds; halving finds its end.
    step = 1
    low = id
    while db.execute("SELECT 1 FROM entry WHERE id = ?", (low,)).fetchone() is not None:
        row = db.execute("SELECT count(*) FROM entry WHERE id >= ? AND id < ?", (low, low + step)).fetchone()
        if row[0] == step:
            low += step
            step *= 2
        else:
            step = max(1, step // 2)
    return low


def _moment(seconds: float | None, otherwise: int) -> int:
    """A time as an id, within what ids can be, whatever was asked for."""
    if seconds is None or seconds != seconds:
        return otherwise
    return int(min(max(seconds, 0.0), 1e11) * 1e6)


def _tags(agents: Sequence[str] | None, roles: Sequence[str] | None) -> str:
    found = ""
    for kind, values in (("a", agents), ("r", roles)):
        if values is not None:
            any_of = " OR ".join(f'"{tag(kind, value)}"' for value in values)
            found += f" AND tags : ({any_of})"
    return found


def tally(db: sqlite3.Connection, agent: str) -> tuple[int, int, int]:
    """Entries of an agent, their bytes, and their tokens (estimated)."""
    row = db.execute("SELECT entries, bytes, tokens FROM tally WHERE agent = ?", (agent,)).fetchone()
    return (0, 0, 0) if row is None else row


def spark(db: sqlite3.Connection, agent: str, now: float, minutes: int = 60) -> list[int]:
    """Entries of an agent in each of the last minutes, the oldest first."""
    first = int(now * 1e6) - minutes * _MINUTE
    counts = [0] * minutes
    for minute, number in db.execute(
        "SELECT (id - ?) / ?, count(*) FROM entry WHERE agent = ? AND id > ? AND id <= ? GROUP BY 1",
        (first, _MINUTE, agent, first, int(now * 1e6)),
    ):
        counts[min(minute, minutes - 1)] += number
    return counts


def search(
    db: sqlite3.Connection,
    query: words.Query,
    *,
    agents: Sequence[str] | None,
    roles: Sequence[str] | None,
    since: float | None,
    until: float | None,
    limit: int,
) -> Found:
    """The newest entries with these words, or the newest of all where no word is asked for.

    ``agents`` and ``roles`` (``None``: all); ``since`` and ``until`` in seconds since the epoch, inclusive
    and exclusive.
    """
    if (agents is not None and not agents) or (roles is not None and not roles):
        return Found([], False)
    low, high = _moment(since, 0), _moment(until, _LATEST)
    if not query.wanted:
        return Found(_newest(db, query, agents, roles, low, high, limit), False)
    tags = _tags(agents, roles)
    strict = f"text : ({query.strict()}){tags}"
    entries = _matching(db, strict, low, high, limit)
    if entries or len(query.wanted) < 2:
        return Found(entries, False)
    ids = _matching_ids(db, f"text : ({query.loose()}){tags}", low, high, _LOOSE)
    return Found(_by_words(db, query, ids, limit), True)


def select(
    db: sqlite3.Connection,
    query: words.Query,
    *,
    agents: Sequence[str] | None,
    roles: Sequence[str] | None,
    since: float | None,
    until: float | None,
) -> list[Entry]:
    """Every entry that a search would find with all its words; never those with some of them."""
    if (agents is not None and not agents) or (roles is not None and not roles):
        return []
    low, high = _moment(since, 0), _moment(until, _LATEST)
    if not query.wanted:
        return _newest(db, query, agents, roles, low, high, -1)
    return _matching(db, f"text : ({query.strict()}){_tags(agents, roles)}", low, high, -1)


def _newest(
    db: sqlite3.Connection,
    query: words.Query,
    agents: Sequence[str] | None,
    roles: Sequence[str] | None,
    low: int,
    high: int,
    limit: int,
) -> list[Entry]:
    if agents is None and roles is None and not query.unwanted:
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM entry WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?",
            (low, high, limit),
        )
        return [Entry(*row) for row in rows]
    positive = _tags(agents, roles).removeprefix(" AND ")
    if not positive:
        everyone = [f'"{tag("r", role)}"' for role in sorted(ROLES)]
        positive = f"tags : ({' OR '.join(everyone)})"
    if query.unwanted:
        positive = f"({positive}) NOT text : ({' OR '.join(query.unwanted)})"
    return _matching(db, positive, low, high, limit)


def _matching_ids(db: sqlite3.Connection, match: str, low: int, high: int, limit: int) -> list[int]:
    rows = db.execute(
        "SELECT rowid FROM entry_text WHERE entry_text MATCH ? AND rowid >= ? AND rowid < ?"
        " ORDER BY rowid DESC LIMIT ?",
        (match, low, high, limit),
    )
    return [id for (id,) in rows]


def _matching(db: sqlite3.Connection, match: str, low: int, high: int, limit: int) -> list[Entry]:
    return get(db, _matching_ids(db, match, low, high, limit))


def get(db: sqlite3.Connection, ids: Sequence[int]) -> list[Entry]:
    """These entries, in this order, as far as they are there."""
    found = []
    for id in ids:
        if not 0 <= id <= _LATEST:
            continue
        row = db.execute(f"SELECT {_COLUMNS} FROM entry WHERE id = ?", (id,)).fetchone()
        if row is not None:
            found.append(Entry(*row))
    return found


def _by_words(db: sqlite3.Connection, query: words.Query, ids: list[int], limit: int) -> list[Entry]:
    if not ids:
        return []
    scores = dict.fromkeys(ids, 0)
    for word in query.wanted:
        rows = db.execute(
            "SELECT rowid FROM entry_text WHERE entry_text MATCH ? AND rowid >= ? AND rowid <= ?",
            (f"text : {word}", ids[-1], ids[0]),
        )
        for (id,) in rows:
            if id in scores:
                scores[id] += 1
    return get(db, sorted(ids, key=lambda id: (-scores[id], -id))[:limit])


def remove(db: sqlite3.Connection, salt: bytes, entries: Sequence[Entry], *, for_good: bool) -> None:
    """Take entries out of table and index, for ever. The file still has to be scrubbed.

    ``for_good``: the agent's calls never bring the same words of the same role back, as whichever
    conversation's they come.
    """
    counts: dict[str, list[int]] = {}
    for entry in entries:
        (key,) = db.execute("SELECT key FROM entry WHERE id = ?", (entry.id,)).fetchone()
        gone = [key] if key is not None else []
        if for_good and _repeated(entry.source):
            gone.append(_words_of(salt, entry.role, entry.text))
        for one in gone:
            db.execute("INSERT OR IGNORE INTO forgotten VALUES (?, ?)", (digest(salt, entry.agent), one))
        db.execute(
            "INSERT INTO entry_text (entry_text, rowid, text, tags) VALUES ('delete', ?, ?, ?)",
            (entry.id, entry.text, f"{tag('a', entry.agent)} {tag('r', entry.role)}"),
        )
        db.execute("DELETE FROM entry WHERE id = ?", (entry.id,))
        _count(counts, entry.agent, entry.text, -1)
    _book(db, counts)
