"""Where in a TOML file a key stands: tomllib gives values without their lines.

The text must have been accepted by ``tomllib``; what is scanned here is only its shape.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Iterator

Place = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"""(?:"{0,2}(?!"))', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'''(?:'{0,2}(?!'))", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\n]+")
_STRINGS = (('"""', _LONG_BASIC), ("'''", _LONG_LITERAL), ('"', _BASIC), ("'", _LITERAL))


def places(text: str) -> dict[Place, int]:
    """Every key, table and array element of ``text``, as a path, with its line (from 1).

    Elements of arrays, and of arrays of tables, are counted from 0, as in a pydantic location.
    """
    return _Scanner(text).scan()


def line_of(found: dict[Place, int], location: Iterable[str | int]) -> int | None:
    """The line of the innermost part of ``location`` that stands in the file.

    Parts that do not (a union's branch, a key that is missing) are passed over.
    """
    place: Place = ()
    for part in location:
        if (*place, part) in found:
            place = (*place, part)
    return found.get(place)


class _Scanner:
    def __init__(self, text: str) -> None:
        # As tomllib does, so that a carriage return is never part of a value.
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", self._text))]
        self._found: dict[Place, int] = {}
        self._arrays: dict[Place, int] = {}

    def scan(self) -> dict[Place, int]:
        table: Place = ()
        while self._skip():
            if self._eat("[["):
                table = self._array_header()
            elif self._eat("["):
                table = self._header()
            else:
                self._pair(table)
        return self._found

    def _header(self) -> Place:
        line = self._line()
        table = self._resolve((), self._keys(), line)
        self._found[table] = line
        self._expect("]")
        return table

    def _array_header(self) -> Place:
        line = self._line()
        *parents, last = self._keys()
        self._expect("]]")
        array = (*self._resolve((), parents, line), last)
        self._found.setdefault(array, line)
        self._arrays[array] = self._arrays.get(array, -1) + 1
        element = (*array, self._arrays[array])
        self._found[element] = line
        return element

    def _pair(self, table: Place) -> None:
        line = self._line()
        place = self._resolve(table, self._keys(), line)
        self._expect("=")
        self._skip()
        self._value(place)

    def _resolve(self, start: Place, keys: Iterable[str], line: int) -> Place:
        """The path of ``keys`` below ``start``; through an array of tables it leads to its last."""
        place = start
        for key in keys:
            place = (*place, key)
            self._found.setdefault(place, line)
            if place in self._arrays:
                place = (*place, self._arrays[place])
        return place

    def _keys(self) -> list[str]:
        keys = [self._key()]
        while self._peek("."):
            self._expect(".")
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        self._skip()
        for quote, pattern in _STRINGS[2:]:
            if self._text.startswith(quote, self._at):
                key = tomllib.loads("key = " + self._match(pattern))["key"]
                return str(key)
        return self._match(_BARE_KEY)

    def _value(self, place: Place) -> None:
        if self._eat("{"):
            while not self._closed("}"):
                self._pair(place)
        elif self._eat("["):
            for index in self._elements():
                self._found[(*place, index)] = self._line()
                self._value((*place, index))
        else:
            for quote, pattern in _STRINGS:
                if self._text.startswith(quote, self._at):
                    self._match(pattern)
                    return
            self._match(_SCALAR)

    def _elements(self) -> Iterator[int]:
        index = 0
        while not self._closed("]"):
            yield index
            index += 1

    def _closed(self, bracket: str) -> bool:
        """Step to the next member; true when there is none and the bracket was passed."""
        self._skip()
        self._eat(",")
        self._skip()
        return self._eat(bracket)

    def _skip(self) -> bool:
        self._match(_BLANK)
        return self._at < len(self._text)

    def _line(self) -> int:
        return bisect_right(self._starts, self._at)

    def _peek(self, token: str) -> bool:
        self._skip()
        return self._text.startswith(token, self._at)

    def _eat(self, token: str) -> bool:
        if self._text.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def _expect(self, token: str) -> None:
        self._skip()
        if not self._eat(token):
            raise ValueError(f"line {self._line()}: expected {token}")

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"line {self._line()}: this is not TOML")
        self._at = match.end()
        return match[0]
