"""The end mark of a terminal's output: left out wherever it was cut, and nothing else with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import anyio
from hypothesis import given
from hypothesis import strategies as st

from agenttop.backends import terminal_start
from agenttop.backends.terminal_output import complete, end_mark, silent, unmarked
from agenttop.core.backend import Chunk

MARK = "0123456789ab/a1.1"
END = end_mark(MARK)


def read(pieces: list[bytes]) -> list[Chunk]:
    async def source() -> AsyncIterator[Chunk]:
        offset = 0
        for piece in pieces:
            yield Chunk("out", offset, piece)
            offset += len(piece)

    async def collect() -> list[Chunk]:
        return [chunk async for chunk in unmarked(source(), MARK)]

    return anyio.run(collect)


@given(
    printed=st.lists(st.sampled_from([b"\x1b", b"\x1b^", b"\x1b^agent", b"text", b"\\", END[:-1], b"\0"])),
    ended=st.booleans(),
    cuts=st.lists(st.integers(0, 200)),
)
def test_all_but_the_mark_arrives_in_order_with_its_offset(
    printed: list[bytes], ended: bool, cuts: list[int]
) -> None:
    said = b"".join(printed)
    whole = said + (END if ended else b"")
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    chunks = read([whole[a:b] for a, b in pairwise(places)])
    expected = whole.replace(END, b"")
    assert b"".join(chunk.data for chunk in chunks) == expected
    for chunk in chunks:
        assert whole[chunk.offset : chunk.offset + len(chunk.data)] == chunk.data
    assert all(chunk.data for chunk in chunks)


def test_a_gap_in_the_output_is_no_place_for_a_mark() -> None:
    async def source() -> AsyncIterator[Chunk]:
        yield Chunk("out", 0, b"a" + END[:5])
        yield Chunk("out", 100, END[5:] + b"b")

    async def collect() -> list[Chunk]:
        return [chunk async for chunk in unmarked(source(), MARK)]

    assert b"".join(chunk.data for chunk in anyio.run(collect)) == b"a" + END + b"b"


def test_output_is_complete_when_its_last_bytes_are_the_mark_of_this_run(tmp_path: Path) -> None:
    assert not complete(tmp_path, MARK)
    assert silent(tmp_path, 1000)
    (tmp_path / "out").write_bytes(b"x" + END)
    assert complete(tmp_path, MARK)
    assert not complete(tmp_path, "0123456789ab/a1.2")
    assert not silent(tmp_path, 1000)
    (tmp_path / "out").write_bytes(END + b"x")
    assert not complete(tmp_path, MARK)


def test_the_terminal_of_the_caller_is_not_the_programs() -> None:
    caller = {"TERM": "xterm-kitty", "TMUX": "x", "KITTY_WINDOW_ID": "1", "COLORTERM": "truecolor", "A": "b"}
    found = terminal_start.environment(caller, "/work", "tmux-256color")
    assert found == {"COLORTERM": "truecolor", "A": "b", "TERM": "tmux-256color", "PWD": "/work"}
