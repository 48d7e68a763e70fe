"""The last lines of an agent that failed: what of its output is shown, and which line says why."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.agents.lastwords import EACH, LINES, LONGEST, SHORT, Line, chosen, clean, telling


def err(*lines: str) -> list[Line]:
    return [Line("err", line) for line in lines]


def test_escapes_and_what_was_written_over_are_gone() -> None:
    said = b"\x1b[31mred\x1b[0m\n10%\r50%\r\n\x1b]0;a title\x07after\n\n\x1bPdata\x1b\\end"
    assert clean(said) == ["red", "50%", "after", "end"]
    assert clean(b"\x1b]0;never ended") == []
    assert clean("a\u009b31mb\u202e".encode()) == ["ab"]


@given(st.binary(max_size=4_000))
def test_nothing_that_controls_a_terminal_is_left_whatever_was_printed(data: bytes) -> None:
    for line in clean(data):
        assert line.isprintable()
        assert 0 < len(line) <= LONGEST


@given(st.lists(st.just("o"), max_size=60), st.lists(st.just("e"), max_size=60))
def test_both_streams_are_there_and_no_line_is_wasted(out: list[str], errors: list[str]) -> None:
    lines = chosen(out, errors)
    assert len(lines) == min(LINES, len(out) + len(errors))
    assert sum(line.stream == "out" for line in lines) >= min(EACH, len(out))
    assert sum(line.stream == "err" for line in lines) >= min(EACH, len(errors))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            err("Error: no such model", "    at run (cli.js:1:2)", "", "Node.js v22.1.0"),
            "Error: no such model",
        ),
        (err("Traceback (most recent call last):", "ValueError: 3", "    ^^^^"), "ValueError: 3"),
        (err(json.dumps({"type": "result", "is_error": True, "result": "API Error: 529"})), "API Error: 529"),
        (err(json.dumps({"type": "error", "error": {"message": "bad\nkey"}})), "bad key"),
        (err('{"cut": "in the mid'), '{"cut": "in the mid'),
        (err("---", "..."), ""),
        ([], ""),
    ],
)
def test_the_line_that_says_why_is_found_among_noise(lines: list[Line], said: str) -> None:
    assert telling(lines) == said


@given(st.lists(st.builds(Line, st.just("err"), st.text(max_size=300)), max_size=25))
def test_some_line_or_none_is_found_whatever_was_printed(lines: list[Line]) -> None:
    assert len(telling(lines)) <= SHORT
    assert "\n" not in telling(lines)
