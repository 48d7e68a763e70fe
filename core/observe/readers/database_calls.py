"""The base of readers of calls out of the databases of CLIs."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from typing import Any

from ..index.formats import Source
from .database import opened, split, stamp


class DatabaseCalls(ABC):
    """Gathers the calls of one conversation; see ``formats.DatabaseReader``.

    Attributes:
        calls: Its calls, by key, in the order of ``Call``.
        odd: Rows that look like a call but could not be read.
        facts: ``session``, ``cwd``, ``title``, the last ``model`` and the like.
        models: Names of the models, by digest.
        restart: Whether what was found before is in what is found now.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.calls: dict[tuple[int, int], tuple[int, ...]] = {}
        self.odd = 0
        self.facts: dict[str, Any] = dict(state or {})
        self.models: dict[int, str] = {}
        self.restart = False

    def read(self, path: str) -> Source:
        """Read what changed since the last reading; see ``formats.DatabaseReader``."""
        file, session = split(path)
        seen = stamp(file)
        if seen is None:
            raise FileNotFoundError(file)
        with opened(file) as db:
            changed = self.take(db, session)
        return Source(path, seen.inode, 0, changed)

    @abstractmethod
    def take(self, db: sqlite3.Connection, session: str) -> int:
        """Read it out of an open database; when it changed, as the lister has it.

        Raises:
            OSError: There is no such session.
        """
