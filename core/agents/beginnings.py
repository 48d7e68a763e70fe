"""What lies in an agent's folder for the beginning of a run: blocks it was declared with, its memory.

Declared blocks wait in a 0600 file until they are in the memory, where they can be forgotten: the journal
has digests of them only. Blocking, all of it; small files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import orjson

#: The working memory as the last run began with it; ``AGENTTOP_MEMORY`` names it.
MEMORY = "memory.md"

_BLOCKS = "blocks.json"
_BEGIN = "<!-- agenttop: working memory, written at each start -->"
_END = "<!-- agenttop: end of working memory -->"


def keep(folder: Path, blocks: Mapping[str, str]) -> None:
    """Keep blocks that are to be made; nothing if there are none.

    Raises:
        OSError: The disk does not take it.
    """
    if blocks:
        _replace(folder / _BLOCKS, orjson.dumps(dict(blocks)))


def kept(folder: Path) -> dict[str, str]:
    """The blocks that have not been made yet."""
    try:
        return {str(name): str(text) for name, text in orjson.loads((folder / _BLOCKS).read_bytes()).items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def made(folder: Path) -> None:
    """The blocks are in the memory."""
    (folder / _BLOCKS).unlink(missing_ok=True)


def write(file: Path, text: str) -> None:
    """Write a 0600 file, whole or not at all.

    Raises:
        OSError: The disk does not take it.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _replace(file, text.encode("utf-8", "replace"))


def insert(file: Path, text: str) -> None:
    """Put a text between its marks in a file; whatever else is in there stays.

    Raises:
        OSError: The disk does not take it.
    """
    try:
        old = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        old = ""
    before, begun, rest = old.partition(_BEGIN)
    after = rest.partition(_END)[2] if begun else ""
    if not text and not begun:
        return
    body = f"{_BEGIN}\n{_unmarked(text).strip()}\n{_END}" if text else ""
    whole = before + body + after
    if before and not begun and not before.endswith("\n"):
        whole = f"{before}\n{body}"
    write(file, whole)


def _unmarked(text: str) -> str:
    """Without the marks, also those that begin to be one when another is taken out of them."""
    while _BEGIN in text or _END in text:
        text = text.replace(_BEGIN, "").replace(_END, "")
    return text


def _replace(file: Path, data: bytes) -> None:
    temporary = file.with_name(f".{file.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(temporary, flags, 0o600), "wb") as opened:
        opened.write(data)
    temporary.replace(file)
