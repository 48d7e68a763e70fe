"""Typing as a person does: first the words, then the key that sends them.

Programs with a line editor of their own tell pasted text from typed by how it comes: an Enter in the
same read as words, or within some 30 ms of them, is taken for a line break of what was pasted.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
import time
from collections.abc import Iterator, Sequence

import anyio
import anyio.to_thread

#: Between words and the key that follows, once the program has read the words.
BREATH = 0.1
#: A program that reads nothing is waited for so long.
PATIENCE = 2.0

#: The keys tmux(1) knows by name ("KEY BINDINGS"); whatever else is longer than a letter is words.
_KEY = re.compile(
    r"(?:[CMS]-)+.+|\^.|F\d{1,2}|KP.{1,5}|Enter|Escape|Space|Tab|BTab|BSpace|Up|Down|Left|Right|Home|End"
    r"|PageUp|PgUp|PPage|PageDown|PgDn|NPage|Insert|IC|Delete|DC",
    re.IGNORECASE,
)


def named(key: str) -> bool:
    """Whether tmux takes it for a key, not for words to type."""
    return _KEY.fullmatch(key) is not None


def fresh(typed: float) -> bool:
    """Whether what was typed then, by the monotonic clock, may not have been read yet."""
    return time.monotonic() - typed < PATIENCE


def parts(keys: Sequence[str]) -> Iterator[list[str]]:
    """The keys in the pieces they are sent in, each to be read before the next: parted before a key."""
    piece: list[str] = []
    for key in keys:
        if piece and named(key) and not named(piece[-1]):
            yield piece
            piece = []
        piece.append(key)
    if piece:
        yield piece


async def taken(tty: str) -> None:
    """Return when the program on this terminal has read what was typed, and a breath later."""
    end = time.monotonic() + PATIENCE
    while await anyio.to_thread.run_sync(_unread, tty):
        if time.monotonic() > end:
            break
        await anyio.sleep(0.01)
    await anyio.sleep(BREATH)


def _unread(tty: str) -> int:
    """Bytes that wait to be read on a terminal; 0 where there is none any more."""
    try:
        descriptor = os.open(tty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0])
    except OSError:
        return 0
    finally:
        os.close(descriptor)
