"""What an agent printed, made into lines that are safe to show.

Agents' output is hostile: cursor movement, titles (OSC), device strings (DCS), C0 and C1 controls and
invisible format characters (bidirectional overrides among them) never leave this module. Colours do:
of SGR (ECMA-48, 8.3.117) the weights, colours and underlines are kept; blinking and concealed text
is not. ``\\r``, ``\\b`` and "erase in line" are obeyed within the line, so that progress bars read as
they do in a terminal.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal

from rich.cells import cell_len
from rich.color import Color
from rich.style import Style

Stream = Literal["out", "err"]

#: A line without an end is broken here, in characters: one line must not eat the memory.
LONGEST = 16_384
#: A control string (OSC, DCS, …) without an end is given up after this many characters.
LONGEST_STRING = 4_096

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_INVISIBLE = re.compile(
    "[\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_CSI = re.compile(r"([\x30-\x3f]*)([\x20-\x2f]*)([\x40-\x7e])")
_STRING_END = re.compile("[\x07\x18\x1a\x1b\x9c\n\r]")
_PLAIN = Style()
_WEIGHTS = {
    1: Style(bold=True),
    2: Style(dim=True),
    3: Style(italic=True),
    4: Style(underline=True),
    7: Style(reverse=True),
    9: Style(strike=True),
    21: Style(underline=True),
    22: Style(bold=False, dim=False),
    23: Style(italic=False),
    24: Style(underline=False),
    27: Style(reverse=False),
    29: Style(strike=False),
}


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One line: clean text, and where it changes colour. Compared by identity, so it can key caches.

    ``runs`` are ``(start, end, style)`` in characters, without gaps. ``mark`` lines were not printed
    by the agent but put in by the screen.
    """

    text: str
    runs: tuple[tuple[int, int, Style], ...]
    stream: Stream = "out"
    mark: bool = False
    start: int = 0
    """Offset of the line's first byte in its stream."""

    @property
    def cells(self) -> int:
        """How many terminal cells the line takes."""
        return len(self.text) if self.text.isascii() else cell_len(self.text)


def clean(text: str) -> str:
    """``text`` without invisible format characters (controls are handled by ``LineDecoder``)."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def mark(text: str, stream: Stream = "out", start: int = 0) -> Line:
    """A line of the screen's own."""
    return Line(text, ((0, len(text), _PLAIN),), stream, True, start)


@lru_cache(maxsize=512)
def sgr(parameters: str, style: Style) -> Style:
    """The style after ``CSI parameters m``; what is not in the safe subset changes nothing."""
    codes = [
        int(part) if part.isdigit() and len(part) < 4 else 0 for part in re.split("[;:]", parameters or "0")
    ]
    queue = iter(codes)
    for code in queue:
        if code == 0:
            style = _PLAIN
        elif code in _WEIGHTS:
            style += _WEIGHTS[code]
        elif code in (38, 48):
            colour = _extended(queue)
            if colour is not None:
                style += Style(color=colour) if code == 38 else Style(bgcolor=colour)
        else:
            style += _basic(code)
    return style


def _extended(queue: Iterator[int]) -> Color | None:
    kind = next(queue, -1)
    if kind == 5:
        number = next(queue, -1)
        return Color.from_ansi(number) if 0 <= number <= 255 else None
    if kind == 2:
        parts = [next(queue, -1) for _ in range(3)]
        return Color.from_rgb(*parts) if all(0 <= part <= 255 for part in parts) else None
    return None


def _basic(code: int) -> Style:
    if 30 <= code <= 37:
        return Style(color=Color.from_ansi(code - 30))
    if 90 <= code <= 97:
        return Style(color=Color.from_ansi(code - 82))
    if 40 <= code <= 47:
        return Style(bgcolor=Color.from_ansi(code - 40))
    if 100 <= code <= 107:
        return Style(bgcolor=Color.from_ansi(code - 92))
    if code == 39:
        return Style(color="default")
    if code == 49:
        return Style(bgcolor="default")
    return _PLAIN


def _pieces(data: bytes) -> list[bytes]:
    """``data`` cut after each newline and nowhere else, so that every line's offset is known."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


class LineDecoder:
    """Bytes of one stream in, lines out. Sequences and characters may be cut anywhere between feeds."""

    def __init__(self, stream: Stream = "out", offset: int = 0) -> None:
        self.stream: Stream = stream
        self.offset = offset
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._style = _PLAIN
        self._runs: list[tuple[str, Style]] = []
        self._length = 0
        self._column = 0
        self._held = ""
        self._start = offset

    def feed(self, data: bytes, *, final: bool = False) -> list[Line]:
        """The lines that ``data`` completed."""
        lines: list[Line] = []
        for piece in _pieces(data):
            self._take(self._held + self._utf8.decode(piece), lines)
            self.offset += len(piece)
            if piece.endswith(b"\n"):
                self._start = self.offset
        if final:
            self._take(self._held + self._utf8.decode(b"", True), lines)
        return lines

    def _take(self, text: str, lines: list[Line]) -> None:
        self._held = ""
        position = 0
        while position < len(text):
            match = _CONTROL.search(text, position)
            end = match.start() if match else len(text)
            if end > position:
                self._put(text[position:end], lines)
            if match is None:
                return
            position = self._control(text, end, lines)
            if position < 0:
                self._held = text[end:]
                return

    def rest(self) -> Line | None:
        """The line that has begun but not ended, if there is anything in it."""
        return self._line() if self._runs else None

    def _put(self, text: str, lines: list[Line]) -> None:
        text = clean(text)
        while text:
            room = LONGEST - self._column
            piece, text = text[:room], text[room:]
            if self._column == self._length:
                self._runs.append((piece, self._style))
            else:
                self._overwrite(piece)
            self._column += len(piece)
            self._length = max(self._length, self._column)
            if self._column >= LONGEST:
                lines.append(self._end())

    def _overwrite(self, piece: str) -> None:
        cells = [(char, style) for run, style in self._runs for char in run]
        cells[self._column : self._column + len(piece)] = [(char, self._style) for char in piece]
        self._runs = [
            ("".join(char for char, _ in group), style) for style, group in groupby(cells, lambda c: c[1])
        ]

    def _erase(self, how: str) -> None:
        flat = "".join(run for run, _ in self._runs)
        if how == "2" or (how in ("", "0") and self._column == 0):
            self._runs, self._length, self._column = [], 0, min(self._column, 0)
        elif how in ("", "0") and self._column < self._length:
            cells = [(char, style) for run, style in self._runs for char in run][: self._column]
            self._runs = [(char, style) for char, style in cells]
            self._length = self._column
        elif how == "1" and flat:
            column, self._column = self._column, 0
            self._overwrite(" " * min(column + 1, self._length))
            self._column = column

    def _control(self, text: str, at: int, lines: list[Line]) -> int:
        """Obey or drop the control at ``at``; returns where to go on, or -1 if it is not complete."""
        char = text[at]
        if char == "\n":
            lines.append(self._end())
        elif char == "\r":
            self._column = 0
        elif char == "\b":
            self._column = max(0, self._column - 1)
        elif char == "\t":
            self._put(" " * (8 - self._column % 8), lines)
        elif char == "\x1b":
            return self._escape(text, at)
        elif char == "\x9b":
            return self._csi(text, at, at + 1)
        elif char in "\x90\x98\x9d\x9e\x9f":
            return self._string(text, at + 1)
        return at + 1

    def _escape(self, text: str, at: int) -> int:
        if at + 1 >= len(text):
            return -1
        kind = text[at + 1]
        if kind == "[":
            return self._csi(text, at, at + 2)
        if kind in "PX]^_":
            return self._string(text, at + 2)
        if kind in " #%()*+-./":
            if at + 2 >= len(text):
                return -1
            return at + 3 if "\x30" <= text[at + 2] <= "\x7e" else at + 2
        # ESC + any other graphic character is a two-character sequence; a control is its own.
        return at + 2 if "\x30" <= kind <= "\x7e" else at + 1

    def _csi(self, text: str, at: int, body: int) -> int:
        match = _CSI.match(text, body)
        if match is None:
            rest = text[body:]
            if len(rest) < 64 and all("\x20" <= char <= "\x3f" for char in rest):
                return -1
            return body
        parameters, between, final = match.groups()
        if not between and final == "m" and not parameters.startswith(("<", "=", ">", "?")):
            self._style = sgr(parameters[:64], self._style)
        elif not between and final == "K":
            self._erase(parameters)
        return match.end()

    def _string(self, text: str, body: int) -> int:
        """Skip a control string. A line end closes it too, or an open one would hide all that follows."""
        match = _STRING_END.search(text, body, body + LONGEST_STRING)
        if match is None:
            return -1 if len(text) < body + LONGEST_STRING else body + LONGEST_STRING
        position = match.start()
        if text[position] in "\n\r":
            return position
        if text[position] == "\x1b":
            if position + 1 >= len(text):
                return -1
            return position + 2 if text[position + 1] == "\\" else position
        return position + 1

    def _line(self) -> Line:
        merged = [
            ("".join(text for text, _ in group), style)
            for style, group in groupby(self._runs, lambda r: r[1])
        ]
        runs: list[tuple[int, int, Style]] = []
        position = 0
        for text, style in merged:
            runs.append((position, position + len(text), style))
            position += len(text)
        return Line("".join(text for text, _ in merged), tuple(runs), self.stream, False, self._start)

    def _end(self) -> Line:
        line = self._line()
        self._runs, self._length, self._column = [], 0, 0
        return line
