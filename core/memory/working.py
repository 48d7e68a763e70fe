"""Working memory: named blocks in an agent's context, and what pressure moves out of them.

The policy. A block over its limit gives its oldest lines (its first ones) to recall until it fits. Where all
blocks of an agent are over its limit together, whole blocks go, the least recently used first. What is
pinned never moves: a write that would need that is refused. What moves is in recall, verbatim, in the
transaction that takes it out of the block; so are versions of a block that are no longer kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from . import facts, passages, recall, words
from .model import Block, Count, Limits, MemoryRefused, NotRemembered, Said, Version, WriteRace

_COLUMNS = "agent, name, text, tokens, token_limit, version, pinned, used_at, changed_at, changed_by"


class Moved(NamedTuple):
    """Text that pressure moved from a block to recall."""

    block: str
    text: str


class Written(NamedTuple):
    """A block after a write, and what had to go for it."""

    block: Block
    moved: list[Moved]


class Desk(NamedTuple):
    """What every write needs to know."""

    salt: bytes
    limits: Limits
    count: Count
    now: float
    keep: float = 1.0
    """What part of its limit a block keeps when it went over it; less where a summary is to have room."""


def _block(row: tuple[object, ...]) -> Block:
    block = Block(*row)  # type: ignore[arg-type]
    return block._replace(pinned=bool(block.pinned))


def find(db: sqlite3.Connection, agent: str, name: str) -> Block | None:
    """A block, if it is there."""
    row = db.execute(f"SELECT {_COLUMNS} FROM block WHERE agent = ? AND name = ?", (agent, name)).fetchone()
    return _block(row) if row is not None else None


def existing(db: sqlite3.Connection, agent: str, name: str) -> Block:
    """A block.

    Raises:
        NotRemembered: It is not there.
    """
    block = find(db, agent, name)
    if block is None:
        raise NotRemembered(f"there is no block {name}", f"{agent} has none of this name", "Write it first")
    return block


def all_of(db: sqlite3.Connection, agent: str) -> list[Block]:
    """The blocks of an agent, pinned ones first, then by name."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM block WHERE agent = ? ORDER BY pinned DESC, name", (agent,))
    return [_block(row) for row in rows]


def versions(db: sqlite3.Connection, agent: str, name: str) -> list[Version]:
    """The versions of a block that are kept, newest first."""
    rows = db.execute(
        "SELECT version, text, at, by FROM block_version WHERE agent = ? AND name = ? ORDER BY version DESC",
        (agent, name),
    )
    return [Version(*row) for row in rows]


def search(
    db: sqlite3.Connection,
    query: words.Query,
    agents: Sequence[str] | None,
    since: float | None,
    until: float | None,
    limit: int,
) -> tuple[list[Block], bool]:
    """Blocks with all the words, the newest first; else with some of them, those with most first."""
    where = "" if agents is None else f" AND agent IN ({', '.join('?' * len(agents))})"
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM block WHERE changed_at >= ? AND changed_at < ?{where}"
        " ORDER BY changed_at DESC",
        (since or 0.0, until if until is not None else float("inf"), *(agents or ())),
    )
    strict: list[Block] = []
    loose: list[tuple[int, Block]] = []
    for row in rows:
        block = _block(row)
        text = f"{block.name}\n{block.text}"
        if passages.has(text, query):
            strict.append(block)
            if len(strict) == limit:
                break
        elif not strict and (number := passages.has(text, query, loose=True)):
            loose.append((number, block))
    if strict or len(query.wanted) < 2:
        return strict, False
    return [block for _, block in sorted(loose, key=lambda one: -one[0])[:limit]], True


def use(db: sqlite3.Connection, agent: str, names: list[str] | None, now: float) -> None:
    """Note that blocks were given to their agent (``None``: all of them)."""
    db.execute("UPDATE block SET used_at = ? WHERE agent = ? AND ? IS NULL", (now, agent, names and 1))
    for name in names or ():
        db.execute("UPDATE block SET used_at = ? WHERE agent = ? AND name = ?", (now, agent, name))


def write(
    db: sqlite3.Connection,
    desk: Desk,
    agent: str,
    name: str,
    text: str,
    *,
    by: str,
    expected: int | None,
    append: bool,
    limit: int | None,
    pinned: bool | None,
) -> Written:
    """Write or make a block; ``expected`` is the version it is based on (0: must not be there yet).

    Raises:
        WriteRace: It has another version now.
        MemoryRefused: Too many blocks; too long and pinned; no room beside what is pinned.
    """
    before = find(db, agent, name)
    _check_race(name, before, expected)
    if before is None:
        _check_number(db, agent, desk.limits)
        bound = limit if limit is not None else desk.limits.block_tokens
        before = Block(agent, name, "", 0, bound, 0, bool(pinned), desk.now, desk.now, by)
    bound = limit if limit is not None else before.limit
    if not 0 < bound <= desk.limits.agent_tokens:
        raise MemoryRefused(
            f"{bound} tokens cannot be the limit of a block", f"It is 1 to {desk.limits.agent_tokens}"
        )
    pinned = before.pinned if pinned is None else pinned
    whole = _joined(before.text, text) if append else text
    kept, gone = whole, ""
    if desk.count(whole) > bound:
        kept, gone = _cut(whole, int(bound * desk.keep), desk.count)
    if gone and pinned:
        raise MemoryRefused(
            f"block {name} would have {desk.count(whole)} of {bound} tokens",
            "It is pinned, so nothing of it is moved to recall",
            "Shorten it, raise its limit, or unpin it",
        )
    after = Block(
        agent, name, kept, desk.count(kept), bound, before.version + 1, pinned, desk.now, desk.now, by
    )
    _put(db, after)
    moved = []
    if gone:
        moved.append(_move(db, desk, after, gone, f"{name} went over its {bound} tokens"))
    moved += _relieve(db, desk, agent, name)
    _trim(db, desk, after)
    return Written(after, moved)


def set_pinned(db: sqlite3.Connection, agent: str, name: str, pinned: bool) -> Block:
    """Pin or unpin a block; its version stays."""
    block = existing(db, agent, name)
    db.execute("UPDATE block SET pinned = ? WHERE agent = ? AND name = ?", (pinned, agent, name))
    return block._replace(pinned=pinned)


def drop(db: sqlite3.Connection, desk: Desk, agent: str, name: str, *, expected: int | None) -> Moved:
    """Take a block out of the context; its text goes to recall.

    Raises:
        NotRemembered: It is not there.
        WriteRace: It has another version now.
    """
    block = existing(db, agent, name)
    _check_race(name, block, expected)
    return _evict(db, desk, block, "taken out")


def _check_race(name: str, block: Block | None, expected: int | None) -> None:
    version = block.version if block is not None else 0
    if expected is not None and expected != version:
        by = f" by {block.changed_by}" if block is not None else ""
        raise WriteRace(
            f"block {name} was not written",
            f"It is at version {version}{by}, and this was based on {expected}",
            "Read it again, and write what you mean on top of that",
            version=version,
        )


def _check_number(db: sqlite3.Connection, agent: str, limits: Limits) -> None:
    (number,) = db.execute("SELECT count(*) FROM block WHERE agent = ?", (agent,)).fetchone()
    if number >= limits.blocks:
        raise MemoryRefused(
            f"{agent} has {number} blocks", "It may have no more", "Write to one of them, or take one out"
        )


def _joined(before: str, text: str) -> str:
    return f"{before}\n{text}" if before and not before.endswith("\n") else before + text


def _cut(text: str, limit: int, count: Count) -> tuple[str, str]:
    """The newest of a text that fits, and the rest of it before that; joined they are the text."""
    lines = text.splitlines(keepends=True)
    start = _first_fitting([len(line) for line in lines], text, limit, count)
    if start == len(text):  # even the last line alone is too long
        start = _first_fitting([1] * len(text), text, limit, count)
    return text[start:], text[:start]


def _first_fitting(pieces: list[int], text: str, limit: int, count: Count) -> int:
    """Where the longest tail of whole pieces begins that fits; found by halving."""
    starts = [0]
    for size in pieces:
        starts.append(starts[-1] + size)
    low, high = 0, len(starts) - 1
    while low < high:
        middle = (low + high) // 2
        if count(text[starts[middle] :]) <= limit:
            high = middle
        else:
            low = middle + 1
    return starts[low]


def _put(db: sqlite3.Connection, block: Block) -> None:
    db.execute(f"INSERT OR REPLACE INTO block ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", block)
    db.execute(
        "INSERT INTO block_version (agent, name, version, text, at, by) VALUES (?, ?, ?, ?, ?, ?)",
        (block.agent, block.name, block.version, block.text, block.changed_at, block.changed_by),
    )


def _relieve(db: sqlite3.Connection, desk: Desk, agent: str, keep: str) -> list[Moved]:
    """Move whole blocks, least recently used first, until the agent's limit holds."""
    blocks = sorted(all_of(db, agent), key=lambda block: (block.used_at, block.name))
    total = sum(block.tokens for block in blocks)
    moved = []
    for block in blocks:
        if total <= desk.limits.agent_tokens:
            break
        if not block.pinned and block.name != keep:
            moved.append(_evict(db, desk, block, f"{agent} went over its {desk.limits.agent_tokens} tokens"))
            total -= block.tokens
    if total > desk.limits.agent_tokens:
        raise MemoryRefused(
            f"{agent} has no room for {keep}",
            f"With what is pinned it would have {total} of {desk.limits.agent_tokens} tokens",
            "Shorten or unpin a block",
        )
    return moved


def _evict(db: sqlite3.Connection, desk: Desk, block: Block, why: str) -> Moved:
    moved = _move(db, desk, block, block.text, why)
    for version in versions(db, block.agent, block.name):
        if version.version != block.version:
            _keep_version(db, desk, block, version)
    db.execute("DELETE FROM block_version WHERE agent = ? AND name = ?", (block.agent, block.name))
    db.execute("DELETE FROM block WHERE agent = ? AND name = ?", (block.agent, block.name))
    return moved


def _move(db: sqlite3.Connection, desk: Desk, block: Block, text: str, why: str) -> Moved:
    said = Said(block.agent, "working", text, desk.now, source=f"working:{block.name}")
    if text:
        recall.add(db, desk.salt, [said], desk.limits.part_chars)
    facts.moved(db, desk.now, block.agent, block.name, "working", "recall", why, desk.count(text))
    return Moved(block.name, text)


def _keep_version(db: sqlite3.Connection, desk: Desk, block: Block, version: Version) -> None:
    if version.text:
        said = Said(
            block.agent, "working", version.text, version.at, source=f"working:{block.name}@{version.version}"
        )
        recall.add(db, desk.salt, [said], desk.limits.part_chars)


def _trim(db: sqlite3.Connection, desk: Desk, block: Block) -> None:
    for version in versions(db, block.agent, block.name)[desk.limits.block_versions :]:
        _keep_version(db, desk, block, version)
        db.execute(
            "DELETE FROM block_version WHERE agent = ? AND name = ? AND version = ?",
            (block.agent, block.name, version.version),
        )
