"""From what people and models type to what FTS5 understands; no text is ever a syntax error.

Words must all be there; ``"in quotes"`` is a phrase, ``begin*`` a prefix, ``-word`` must not be there.
Everything else (brackets, colons, AND, NEAR) is only text: each part is passed as a quoted string,
in which FTS5 knows no operators (https://www.sqlite.org/fts5.html#fts5_strings).
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PART = re.compile(r'(-?)"([^"]*)"?(\*?)|(\S+)')
_PARTS = 32
"""Of one search; more say no more."""


class Query(NamedTuple):
    """A search, taken apart."""

    wanted: list[str]
    """FTS5 strings, quoted; some with ``*`` behind them."""
    unwanted: list[str]
    cut: bool = False
    """More was given than counts."""

    def strict(self) -> str:
        """The FTS5 expression for all that is wanted; empty if nothing is."""
        return self._without(" AND ".join(self.wanted))

    def loose(self) -> str:
        """For any of it."""
        return self._without(" OR ".join(self.wanted))

    def _without(self, positive: str) -> str:
        if not positive or not self.unwanted:
            return positive
        return f"({positive}) NOT ({' OR '.join(self.unwanted)})"


def parse(text: str, limit: int) -> Query:
    """Take a search apart; only its first ``limit`` characters count."""
    wanted: dict[str, None] = {}
    unwanted: dict[str, None] = {}
    for match in _PART.finditer(text[:limit].replace("\0", " ")):
        minus, phrase, star, word = match.groups()
        if word is not None:
            minus = "-" if word.startswith("-") and len(word) > 1 else ""
            star = "*" if word.endswith("*") else ""
            phrase = word.removeprefix("-") if minus else word
        if not any(char.isalnum() for char in phrase):
            continue  # FTS5 would see no word in it, and an empty phrase is in no text
        quoted = (
            '"' + phrase.replace('"', " ").encode("utf-8", "replace").decode() + '"' + ("*" if star else "")
        )
        (unwanted if minus else wanted)[quoted] = None
    cut = len(text.rstrip()) > limit or max(len(wanted), len(unwanted)) > _PARTS
    return Query(list(wanted)[:_PARTS], list(unwanted)[:_PARTS], cut)
