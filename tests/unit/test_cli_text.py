"""What commands make of their words, without a kernel."""

from __future__ import annotations

import io
import itertools
import re
import sys
from typing import Any

import pytest
import typer.main
from hypothesis import example, given
from hypothesis import strategies as st
from typer.core import TyperGroup

from agenttop.core.agents.spec import check_name
from agenttop.core.api import Outcome
from agenttop.core.backend import Chunk
from agenttop.core.errors import AgentTopError, UsageError
from agenttop.core.http.frames import Frames, Lines, chunk_frame, error_frame, error_line
from agenttop.tui.cli import amounts, calls, control, listing, logs, printing, run
from agenttop.tui.cli.app import build


@given(st.binary())
@example(b"\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J \x9b1A \x1bPq\x1b\\ a\rb \x08\x1b[6n\xc2\x9b2J")
def test_nothing_but_text_tabs_lines_and_colours_reaches_a_terminal(data: bytes) -> None:
    harmless = logs.Harmless()
    text = harmless.feed(data) + harmless.finish()
    rest = re.sub(r"\x1b\[[0-9;:]*m", "", text)
    assert not [char for char in rest if (ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160]


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
@example(b"a\x1b]0;t\x07b\x1b[31mc", [2, 4, 9])
def test_pieces_do_not_change_what_is_shown(data: bytes, cuts: list[int]) -> None:
    whole = logs.Harmless()
    pieces = logs.Harmless()
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    shown = "".join(pieces.feed(data[a:b]) for a, b in itertools.pairwise(places)) + pieces.finish()
    # A lone CR before LF may fall on a cut; both forms break the line.
    assert shown.replace("\n\n", "\n") == (whole.feed(data) + whole.finish()).replace("\n\n", "\n")


@given(
    st.lists(st.tuples(st.sampled_from(["out", "err"]), st.integers(0, 2**40), st.binary(max_size=99))),
    st.integers(1, 7),
)
def test_frames_survive_any_cut(chunks: list[tuple[str, int, bytes]], step: int) -> None:
    made = [Chunk(stream, offset, data) for stream, offset, data in chunks]  # type: ignore[arg-type]
    wire = b"".join(map(chunk_frame, made))
    frames = Frames()
    got = [chunk for i in range(0, len(wire), step) for chunk in frames.feed(wire[i : i + step])]
    assert got == made


def test_an_error_at_the_end_of_a_stream_is_raised_after_what_came_before() -> None:
    frames, lines = Frames(), Lines()
    wire = chunk_frame(Chunk("out", 0, b"x")) + error_frame(AgentTopError("it broke", "w", "h"))
    stream = frames.feed(wire)
    assert next(stream).data == b"x"
    with pytest.raises(AgentTopError, match="it broke"):
        next(stream)
    with pytest.raises(AgentTopError, match=r"it broke\. w\. h\."):
        list(lines.feed(error_line(AgentTopError("it broke", "w", "h"))))


@given(st.text(max_size=80))
@example("/usr/bin/python3.11")
@example("../../ü\n")
def test_a_made_up_name_is_a_name(program: str) -> None:
    assert check_name(run.proposal(None, [program] if program else None))


@given(st.binary(max_size=200), st.integers(0, 9))
def test_tail_counts_lines_from_the_end(data: bytes, count: int) -> None:
    kept = bytes(data[logs._line_start(bytearray(data), count) :])
    pieces = data.split(b"\n")
    unfinished = pieces.pop()
    whole = [piece + b"\n" for piece in pieces] + ([unfinished] if unfinished else [])
    assert kept == b"".join(whole[len(whole) - min(count, len(whole)) :])


@pytest.mark.parametrize(
    ("codes", "status"), [([], 0), ([0, 0], 0), ([3, 0], 3), ([3, 3], 3), ([3, 1], 1), ([1, 0], 1)]
)
def test_the_exit_status_of_several(codes: list[int], status: int) -> None:
    assert printing.status([Outcome(ref="x", exit_code=code) for code in codes]) == status


def test_signals_by_name_or_number() -> None:
    assert [control._signal(text) for text in ("INT", "sigint", "2")] == [2, 2, 2]
    with pytest.raises(UsageError):
        control._signal("NOPE")


def test_filters_match_fields_and_labels() -> None:
    agent = {"labels": {"team": "a"}, "state": "idle"} | dict.fromkeys(listing._FIELDS[1:])
    for text, fits in [
        ("state=idle", True),
        ("state=x", False),
        ("label=team", True),
        ("label=team=b", False),
    ]:
        assert listing._filter(text)(agent) is fits
    with pytest.raises(UsageError, match="not a filter"):
        listing._filter("colour=red")


def test_mounts_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._mount("/a:/b") == {"source": "/a", "target": "/b", "read_only": True}
    assert run._mount("/a:/b:rw")["read_only"] is False
    with pytest.raises(UsageError):
        run._mount("/a")
    monkeypatch.setenv("HERE", "1")
    assert run._variables(["A=x=y", "HERE"]) == {"A": "x=y", "HERE": "1"}
    with pytest.raises(UsageError, match="not set here"):
        run._variables(["ABSENT_"])


def test_tokens_are_whole() -> None:
    assert amounts.tokens("1.5k") == 1500
    with pytest.raises(UsageError, match="not a number of tokens"):
        amounts.tokens("1.5")


def test_why_a_call_is_held_is_said_once() -> None:
    call = {
        "state": "held",
        "reason": "budget",
        "detail": "budget team",
        "outcome": "",
        "error": "",
        "ended_in": "",
    }
    assert calls._end(call, settled=False) == "budget team"
    assert calls._end({**call, "reason": "halt", "detail": ""}, settled=False) == "halt"
    assert calls._end({**call, "reason": "", "detail": ""}, settled=False) == "-"


class Terminal(io.StringIO):
    """Where what is printed is read by a person."""

    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, columns: int, stdout: io.StringIO, **options: Any) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", stdout)
    printing.table(("ID", "NI", "COST", "TASK"), [("a1", "0", "1.20", "fix the cart, then sleep")], **options)
    return stdout.getvalue().splitlines()


def test_a_narrow_terminal_does_without_columns_before_the_last_one_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drop = ("NI", "COST")
    assert printed(monkeypatch, 40, Terminal(), drop=drop)[0].split() == ["ID", "NI", "COST", "TASK"]
    assert printed(monkeypatch, 24, Terminal(), drop=drop) == ["ID  COST  TASK", "a1  1.20  fix the cart,…"]
    assert printed(monkeypatch, 16, Terminal(), drop=drop) == ["ID  TASK", "a1  fix the car…"]
    assert printed(monkeypatch, 16, io.StringIO(), drop=drop)[1] == "a1  0   1.20  fix the cart, then sleep"


def test_a_last_column_can_be_told_whole_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, 28, Terminal(), whole=True) == [
        "ID  NI  COST  TASK", "a1  0   1.20  fix the cart,", "              then sleep",
    ]  # fmt: skip


def test_the_list_of_commands_says_each_in_a_line_of_80_columns() -> None:
    root = typer.main.get_command(build())
    assert isinstance(root, TyperGroup)
    room = 80 - 6 - max(map(len, root.commands))
    cut = [name for name, command in root.commands.items() if "..." in command.get_short_help_str(room)]
    assert cut == []
