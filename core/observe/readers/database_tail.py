"""The base of tails of CLIs whose conversations are in a database."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod

from ..contract import Oddities, Session
from .database import Stamp, opened, split, stamp


class DatabaseTail(ABC):
    """Follows one session, and reads only when the database has changed."""

    def __init__(self, session: Session) -> None:
        self._file, self._session = split(session.path)
        self._seen: Stamp | None = None
        self.oddities = Oddities()

    def refresh(self) -> bool:
        """Read what is new; whether anything was. A database that cannot be read now is tried again."""
        try:
            now = stamp(self._file)
            if now is None or now == self._seen:
                return False
            with opened(self._file) as db:
                self._read(db)
            self._seen = now
            self.oddities.problems.pop(self._file, None)
            return True
        except FileNotFoundError:  # the session is not there yet, or was deleted
            return False
        except OSError as error:
            self.oddities.problems[self._file] = error.strerror or str(error)
            return False

    @abstractmethod
    def _read(self, db: sqlite3.Connection) -> None:
        """Take in what changed.

        Raises:
            OSError: It cannot be read now, or the session is gone.
        """
