"""Transcripts of subagents in a folder beside their parent's: found once, then followed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

#: Subagents that are followed; the oldest are left out first.
MOST = 64

T = TypeVar("T")


class Subagents(Generic[T]):
    """Looks for new transcripts in a folder when the folder has changed.

    Args:
        folder: Need not exist yet.
        prefix: How their names begin; they end in ``.jsonl``. What is between is the subagent's id.
        make: Begins to follow one, by its id and path.
    """

    def __init__(self, folder: str, prefix: str, make: Callable[[str, str], T]) -> None:
        self._folder, self._prefix, self._make = folder, prefix, make
        self._listed = 0
        self.found: dict[str, T] = {}
        """By id, oldest first as far as is known."""

    def refresh(self) -> None:
        """Look for new ones; a folder that cannot be listed has none."""
        try:
            changed = os.stat(self._folder).st_mtime_ns
            if changed == self._listed:
                return
            with os.scandir(self._folder) as entries:
                found = [
                    (entry.stat(follow_symlinks=False).st_mtime, entry.name)
                    for entry in entries
                    if entry.name.startswith(self._prefix)
                    and entry.name.endswith(".jsonl")
                    and entry.is_file(follow_symlinks=False)
                ]
        except OSError:
            return
        self._listed = changed
        for _, name in sorted(found)[-MOST:]:
            own = name.removeprefix(self._prefix).removesuffix(".jsonl")
            if own not in self.found:
                self.found[own] = self._make(own, f"{self._folder}/{name}")
