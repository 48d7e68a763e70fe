"""Listing the conversations in a CLI's database, without asking it again while nothing has changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator

from ..index.formats import Source
from .database import Stamp, opened, stamp


class Conversations:
    """Lists what lies in one database; see ``formats.Lister``.

    Args:
        query: Gives the id of each conversation and a number, about its time in nanoseconds, that is another
            one whenever something is new in it.
    """

    def __init__(self, path: str, query: Callable[[sqlite3.Connection], Iterable[tuple[str, int]]]) -> None:
        self._path, self._query = path, query
        self._seen: Stamp | None = None
        self._listed: list[Source] = []

    def sources(self, problems: dict[str, str]) -> Iterator[Source]:
        """All conversations; a database that cannot be read now has those it had."""
        try:
            now = stamp(self._path)
            if now is None:
                return iter(())
            if now != self._seen:
                with opened(self._path) as db:
                    self._listed = [
                        Source(f"{self._path}#{identity}", now.inode, 0, changed)
                        for identity, changed in self._query(db)
                    ]
                self._seen = now
        except OSError as error:
            problems[self._path] = error.strerror or str(error)
        return iter(self._listed)
