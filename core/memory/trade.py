"""Imports and exports of a whole ``Memory``, with access checked as for any reader and writer."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from . import exchange, recall
from .exchange import Line, Skipped
from .memory import Memory
from .model import Note, NotRemembered, Said, Who

_PAGE = 200


class Imported(NamedTuple):
    """What an import brought in."""

    blocks: int
    entries: int
    notes: int
    skipped: list[Skipped]


async def import_lines(memory: Memory, who: Who, path: Path, agent: str = "") -> Imported:
    """Bring in JSON lines. All lines are checked before the first is taken; provenance names the file.

    ``agent``: blocks, recall and private notes become this agent's, whosever they were.

    An import that was cut is simply done again: entries of recall that are there already are not doubled, and
    notes and blocks that already say the same are left as they are.

    Raises:
        MemoryRefused: A line is wrong (nothing was taken).
        Forbidden: ``who`` may not write where a line goes.
    """
    source = f"import:{path.name}"
    number = await anyio.to_thread.run_sync(lambda: sum(1 for _ in exchange.read_lines(path, memory.limits)))
    lines = exchange.read_lines(path, memory.limits)
    blocks = entries = notes = 0
    asker = who._replace(source=source)
    for _ in range(0, number, _PAGE):
        page = await anyio.to_thread.run_sync(lambda: list(islice(lines, _PAGE)))
        if agent:
            page = [_given_to(agent, line) for line in page]
        said = [_said(line, source) for line in page if line.tier == "recall"]
        for agent in {one.agent for one in said}:
            memory.check_own(who, "write", agent)
        said = await _missing(memory, said)
        entries += len(await memory.remember(said))
        for line in page:
            if line.tier == "archival":
                notes += await _note(memory, asker, line)
            elif line.tier == "working":
                blocks += await _block(memory, asker, line)
    return Imported(blocks, entries, notes, [])


def _given_to(agent: str, line: Line) -> Line:
    fields = dict(line.fields)
    if line.tier != "archival":
        fields["agent"] = agent
    elif fields["namespace"].startswith("private/"):
        fields["namespace"] = f"private/{agent}"
    return line._replace(fields=fields)


def _said(line: Line, source: str) -> Said:
    fields = line.fields
    agent, role, text, at = (fields[name] for name in ("agent", "role", "text", "at"))
    key = f"import {at!r} {role} {text}"
    return Said(agent, role, text, float(at), None, source, key)


async def _missing(memory: Memory, said: list[Said]) -> list[Said]:
    """Those that are not there: what was exported here is brought back only where it is lacking."""
    return await memory.look(lambda db: [one for one in said if not recall.there(db, one)])


async def _block(memory: Memory, who: Who, line: Line) -> bool:
    agent, name, text = (line.fields[field] for field in ("agent", "name", "text"))
    blocks = {block.name: block for block in await memory.blocks(who, agent)}
    if name in blocks and blocks[name].text == text:
        return False
    await memory.write_block(who, agent, name, text)
    return True


async def _note(memory: Memory, who: Who, line: Line) -> bool:
    space, key, content = (line.fields[field] for field in ("namespace", "key", "content"))
    return await _put(memory, who, space, key, content)


async def _put(memory: Memory, who: Who, space: str, key: str, content: str | bytes) -> bool:
    try:
        before = await memory.note(who, space, key)
    except NotRemembered:
        pass  # it is new
    else:
        if (before.text if before.file is None else before.file) == content:
            return False
    await memory.write_note(who, space, key, content)
    return True


async def import_markdown(memory: Memory, who: Who, folder: Path, space: str) -> Imported:
    """Bring the Markdown files below a folder into a namespace; keys are their paths without ``.md``."""
    skipped: list[Skipped] = []
    found = exchange.read_markdown(folder, memory.limits, skipped)
    notes = 0
    while page := await anyio.to_thread.run_sync(lambda: list(islice(found, _PAGE))):
        for one in page:
            asker = who._replace(source=f"import:{one.path}")
            notes += await _put(memory, asker, space, one.key, one.text)
    return Imported(0, 0, notes, skipped)


async def export_lines(
    memory: Memory, who: Who, path: Path, agents: list[str] | None = None, spaces: list[str] | None = None
) -> Imported:
    """Write blocks and recall of these agents and the notes of these namespaces to a new file; how many.

    Without both: of all agents, and all notes that ``who`` may read. With agents only: their notes are those
    of their private namespaces.
    """
    if agents is None and spaces is None:
        agents, spaces = await memory.agents(), await memory.namespaces(who)
    elif spaces is None:
        spaces = [f"private/{agent}" for agent in agents or ()]
    for agent in agents or ():
        memory.check_own(who, "read", agent)
    for space in spaces:
        memory.check_namespace(who, "read", space)
    chosen = (agents or (), spaces)
    counts = Counter[str]()

    def counted(db: sqlite3.Connection) -> Iterator[bytes]:
        for tier, line in memory.lines(db, *chosen):
            counts[tier] += 1
            yield line

    await memory.look(lambda db: exchange.write_lines(path, counted(db)))
    return Imported(counts["working"], counts["recall"], counts["archival"], [])


async def export_markdown(memory: Memory, who: Who, folder: Path, space: str) -> int:
    """Write the notes of a namespace to a new folder; how many."""
    notes: list[Note] = []
    after = ""
    while keys := await memory.keys(who, space, after):
        notes += [await memory.note(who, space, key) for key in keys]
        after = keys[-1]
    return await anyio.to_thread.run_sync(lambda: exchange.write_markdown(folder, iter(notes)))
