"""Where the words of a search stand in a text: whether all are there, and the part around them.

For what no full-text index has (blocks, old versions) and for what is shown of what was found. Words are
taken apart as FTS5's ``unicode61 remove_diacritics 2`` does: letters and digits, without case and accents.
"""

from __future__ import annotations

import re
import unicodedata

from .words import Query

_WORD = re.compile(r"[^\W_]+")
_MARKS = re.compile(r"[\u0300-\u036f]")
_PLACES = 400
"""So many places of words are looked at to find the best part."""
_LEAD = 60


def _folded(text: str) -> str:
    """Without case and accents; not of the same length."""
    if text.isascii():
        return text.lower()
    return _MARKS.sub("", unicodedata.normalize("NFKD", text)).lower()


def _in_place(text: str) -> str:
    """Without case and accents, each character in its place."""
    if text.isascii():
        return text.lower()
    return "".join(
        char.lower() if char < "\x80" else (unicodedata.normalize("NFKD", char)[0].lower() or char)[0]
        for char in text
    )


def _phrases(quoted: list[str]) -> list[tuple[str, bool]]:
    """Words of each part of a search, joined by spaces, and whether the last is only a beginning."""
    found = []
    for part in quoted:
        words = _WORD.findall(_folded(part.rstrip("*").strip('"')))
        if words:
            found.append((" ".join(words), part.endswith("*")))
    return found


def has(text: str, query: Query, *, loose: bool = False) -> int:
    """How many of the wanted parts are in a text; 0 where it is not found by this search.

    ``loose``: some of them are enough.
    """
    laid_out = " " + " ".join(_WORD.findall(_folded(text))) + " "

    def there(phrase: str, begins: bool) -> bool:
        return (f" {phrase}" if begins else f" {phrase} ") in laid_out

    wanted = _phrases(query.wanted)
    if any(there(*part) for part in _phrases(query.unwanted)):
        return 0
    found = sum(there(*part) for part in wanted)
    return found if loose or found == len(wanted) else 0


def part(text: str, query: Query, size: int) -> str:
    """The ``size`` characters with most of the words, ``…`` where something was left out."""
    if len(text) <= size:
        return text
    start = max(0, _best(text, query, size - _LEAD) - _LEAD)
    start = min(start, len(text) - size)
    return ("…" if start else "") + text[start : start + size] + ("…" if start + size < len(text) else "")


def _best(text: str, query: Query, size: int) -> int:
    heads = {phrase.split()[0] for phrase, _ in _phrases(query.wanted)}
    if not heads:
        return 0
    pattern = re.compile("|".join(sorted(map(re.escape, heads), key=len, reverse=True)))
    places: list[tuple[int, str]] = []
    folded = _in_place(text)
    for match in pattern.finditer(folded):
        if match.start() == 0 or not folded[match.start() - 1].isalnum():
            places.append((match.start(), match.group()))
            if len(places) == _PLACES:
                break
    best, most, end = 0, 0, 0
    for first, (at, _) in enumerate(places):
        end = max(end, first)
        while end < len(places) and places[end][0] < at + size:
            end += 1
        number = len({word for _, word in places[first:end]})
        if number > most:
            best, most = at, number
    return best
