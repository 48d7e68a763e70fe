from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import Color
from rich.style import Style

from agenttop.tui.widgets.output_lines import LONGEST, Line, LineDecoder


def decode(*pieces: bytes) -> list[Line]:
    decoder = LineDecoder()
    lines = [line for piece in pieces for line in decoder.feed(piece)]
    lines += decoder.feed(b"", final=True)
    rest = decoder.rest()
    return [*lines, rest] if rest else lines


def texts(*pieces: bytes) -> list[str]:
    return [line.text for line in decode(*pieces)]


SPICE = [
    b"\x1b[2J",
    b"\x1b]0;owned\x07",
    b"\x1b]52;c;AAAA\x1b\\",
    b"\x1bP+q\x1b\\",
    b"\x1b[31m",
    b"\x1b[38;5;300m",
    b"\x1bc",
    b"\x9b5A",
    "\x9b2J".encode(),
    b"\r",
    b"\n",
    b"\r\n",
    b"\b\b",
    b"\t",
    b"\x00",
    b"\x1b[?1049h",
    b"\x1b(0",
    b"\x1b[",
    b"\x1b]",
    b"\x1b",
    "\u202e".encode(),
    "é漢".encode(),
    b"\xc3",
    b"[bold]x[/bold]",
    b"\x1b[K",
    b"\x1b[1K",
    b"\x1b[2K",
]


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(SPICE)), max_size=40))
def test_whatever_comes_in_no_control_character_comes_out(pieces: list[bytes]) -> None:
    for line in decode(*pieces):
        assert not {unicodedata.category(char) for char in line.text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        assert line.runs == () or (line.runs[0][0] == 0 and line.runs[-1][1] == len(line.text))
        assert all(a[1] == b[0] for a, b in zip(line.runs, line.runs[1:], strict=False))


@given(st.lists(st.one_of(st.binary(max_size=20), st.sampled_from(SPICE)), max_size=20), st.data())
def test_where_the_bytes_are_cut_makes_no_difference(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert texts(*parts) == texts(whole)


PRINTABLE = st.characters(codec="ascii", min_codepoint=32, max_codepoint=126)


@given(st.lists(st.text(PRINTABLE, max_size=50), min_size=1))
def test_plain_text_comes_out_as_it_went_in(lines: list[str]) -> None:
    assert texts("\n".join(lines).encode() + b"\n") == lines


@given(st.binary(max_size=200).filter(lambda data: b"\x1b" not in data and b"\x90" not in data))
def test_every_line_knows_the_offset_of_its_first_byte(data: bytes) -> None:
    starts = [0] + [at + 1 for at, byte in enumerate(data) if byte == 10]
    ended = [line.start for line in LineDecoder().feed(data)]
    assert ended == starts[:-1]


@given(st.lists(st.sampled_from([*SPICE, b"text"]), max_size=30))
def test_a_newline_ends_a_line_whatever_stands_before_it(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert len(LineDecoder().feed(data)) == data.count(b"\n")


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b" 10%\r 50%\r100%\n", ["100%"]),
        (b"downloading\rdone\x1b[K\n", ["done"]),
        (b"abcdef\rXY\n", ["XYcdef"]),
        (b"abc\x1b[2K\rnew\n", ["new"]),
        (b"ab\bc\n", ["ac"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"a\tb\n", ["a       b"]),
        (b"x\x1b]0;title", ["x"]),
        (b"x\x1b]0;never closed\nvisible\n", ["x", "visible"]),
        (b"x\x1b[5;5Hy\x1b[2Az\n", ["xyz"]),
        (b"x\x1b[?25ly\n", ["xy"]),
        (b"x\x1b(By\n", ["xy"]),
        (b"\xff\xfe\n", ["��"]),
        ("x\u202egpj.exe\n".encode(), ["xgpj.exe"]),
        (b"[red]not markup[/red]\n", ["[red]not markup[/red]"]),
    ],
)
def test_sequences_are_obeyed_or_removed(data: bytes, shown: list[str]) -> None:
    assert texts(data) == shown


def test_colours_survive_and_end_where_they_are_reset() -> None:
    (line,) = decode(b"a\x1b[1;31mb\x1b[0mc\x1b[38;5;200md\x1b[38;2;1;2;3me\n")
    styles = {line.text[start:end]: style for start, end, style in line.runs}
    assert styles["a"] == Style()
    assert styles["b"] == Style(bold=True, color=Color.from_ansi(1))
    assert styles["c"] == Style()
    assert styles["d"].color == Color.from_ansi(200)
    assert styles["e"].color == Color.from_rgb(1, 2, 3)


def test_concealed_and_blinking_text_is_shown_plainly() -> None:
    (line,) = decode(b"\x1b[8;5mhidden\n")
    assert line.runs == ((0, 6, Style()),)


def test_a_line_without_end_is_broken() -> None:
    lines = texts(b"x" * (LONGEST * 2 + 5))
    assert [len(line) for line in lines] == [LONGEST, LONGEST, 5]


def test_an_open_control_string_fed_byte_by_byte_stays_cheap() -> None:
    decoder = LineDecoder()
    began = time.process_time()
    decoder.feed(b"\x1b]")
    for _ in range(8_000):
        decoder.feed(b"a")
    assert time.process_time() - began < 5
    assert decoder.rest() is not None
