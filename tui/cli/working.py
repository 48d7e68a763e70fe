"""Blocks of working memory, without typer: what ``mem blocks`` and ``mem write`` do (``mem.py``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agenttop.core.errors import UsageError

from .. import format as f
from . import messages, printing
from .syscall import ask, text_of


def blocks(names: Sequence[str] | None = None, *, agent: str | None = None, as_json: bool = False) -> None:
    """List the blocks in an agent's context, or print some of them in full."""
    found = ask("memory.blocks", agent=agent)
    if names:
        there = {block["name"]: block for block in found}
        if missing := [name for name in names if name not in there]:
            raise UsageError(
                f"there is no block {', '.join(missing)}", f"There are {', '.join(there) or 'none'}"
            )
        found = [there[name] for name in names]
    if as_json:
        printing.json(found)
    elif names:
        for block in found:
            printing.line(messages.harmless(block["text"]).removesuffix("\n"))
    else:
        _print_blocks(found)


def _print_blocks(found: Iterable[messages.Document]) -> None:
    rows = [
        [
            block["name"],
            f.tokens(block["tokens"]),
            f.tokens(block["limit"]),
            str(block["version"]),
            "yes" if block["pinned"] else "no",
            messages.moment(block["changed_at"]),
            messages.writer("", block["changed_by"]),
            block["text"],
        ]
        for block in found
    ]
    header = ("BLOCK", "TOKENS", "LIMIT", "VERSION", "PINNED", "CHANGED", "BY", "TEXT")
    right = ("TOKENS", "LIMIT", "VERSION")
    printing.table(header, rows, right=right, drop=("CHANGED", "VERSION", "BY", "PINNED"))


def write(
    name: str,
    text: str,
    *,
    append: bool = False,
    expected: int | None = None,
    limit: int | None = None,
    pinned: bool | None = None,
    agent: str | None = None,
    as_json: bool = False,
) -> None:
    """Write a block."""
    written = ask(
        "memory.write-block", agent=agent, name=name, text=text_of(text), append=append or None,
        expected=expected, limit=limit, pinned=pinned,
    )  # fmt: skip
    print_written(written, "written", as_json)


def print_written(written: messages.Document | None, done: str, as_json: bool) -> None:
    """What became of a block, and what had to go for it."""
    if as_json:
        printing.json(written)
    elif written is not None:
        block = written["block"]
        size = f"{f.tokens(block['tokens'])} of {f.tokens(block['limit'])} tokens"
        printing.line(f.clean(f"{block['name']} {done}, version {block['version']}, {size}"))
        for moved in written["moved"]:
            printing.note(f"{f.tokens(moved['tokens'])} tokens of {moved['block']} moved to recall")
