from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import Color

from agenttop.core.errors import UsageError
from agenttop.themes import MONO, NAMES, Palette, load, textual_theme
from agenttop.themes.loader import parse
from agenttop.tui.look import ASCII, UNICODE, look, wanted_theme, wants_ascii
from agenttop.tui.meters import Meter, bar, parts


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    rgb = [part / 255 for part in Color.parse(colour).triplet or (0, 0, 0)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXT = ["fg", "muted", "bright", "label", "good", "warn", "bad", "tag", "num-estimated", "num-stale"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ansi"])
def test_text_can_be_read_on_its_background(name: str) -> None:
    colours = load(name).colours
    states = [variable for variable in colours if variable.startswith("state-")]
    pairs = [(variable, "bg") for variable in (*TEXT, *states)]
    pairs += [
        ("head-fg", "head-bg"),
        ("sort-fg", "sort-bg"),
        ("cursor-fg", "cursor-bg"),
        ("act-fg", "act-bg"),
    ]
    pairs += [("badge-fg", "state-needs-you"), ("key-fg", "key-bg")]
    for fg, bg in pairs:
        assert contrast(colours[fg], colours[bg]) >= 4.5, (fg, bg)


def test_all_themes_have_the_same_variables() -> None:
    assert len({frozenset(load(name).colours) for name in (*NAMES, MONO)}) == 1


@pytest.mark.parametrize("name", [*NAMES, MONO])
def test_every_colour_is_a_css_variable(name: str) -> None:
    variables = textual_theme(load(name)).variables
    assert set(load(name).colours) <= set(variables)


def test_without_colour_there_are_only_bold_reverse_underline_and_italic() -> None:
    palette = Palette(load(MONO))
    for fg in load(MONO).colours:
        style = palette(fg, "cursor-bg", bold=True)
        assert style.color is None
        assert style.bgcolor is None
        assert style.reverse


@pytest.mark.parametrize("text", ["[colours", '[colours]\nfg = "red"', "[colours]\nfg = 3"])
def test_a_theme_that_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="theme mine"):
        parse("mine", text)


@pytest.mark.parametrize(
    ("environ", "theme"),
    [
        ({"NO_COLOR": "1", "TERM": "xterm-256color"}, MONO),
        ({"TERM": "dumb"}, MONO),
        ({"TERM": "linux"}, "ansi"),
        ({"TERM": "xterm-256color"}, "htop"),
        ({"TERM": "screen", "COLORTERM": "truecolor"}, "htop"),
    ],
)
def test_the_terminal_decides_the_first_theme(environ: dict[str, str], theme: str) -> None:
    assert wanted_theme(environ, None) == theme


@pytest.mark.parametrize(
    ("environ", "ascii"),
    [
        ({"TERM": "linux", "LANG": "C.UTF-8"}, True),
        ({"LANG": "C"}, True),
        ({"LANG": "de_DE.UTF-8"}, False),
        ({"LC_ALL": "C", "LANG": "C.UTF-8"}, True),
    ],
)
def test_ascii_where_unicode_cannot_be_trusted(environ: dict[str, str], ascii: bool) -> None:
    assert wants_ascii(environ) is ascii


def test_the_ascii_set_is_ascii() -> None:
    assert "".join(ASCII).isascii()
    assert len(ASCII) == len(UNICODE)


amounts = st.lists(
    st.tuples(
        st.sampled_from(["tok-input", "tok-cache-read", "tok-cache-write", "tok-output"]), st.floats(0, 1e9)
    ),
    max_size=4,
    unique_by=lambda part: part[0],
)


@given(amounts, st.floats(0, 1e9), st.integers(4, 80))
def test_a_bucket_above_zero_gets_a_cell_and_no_bar_leaves_its_bracket(
    given_parts: list[tuple[str, float]], scale: float, cells: int
) -> None:
    filled = bar(given_parts, scale, cells)
    assert sum(count for _, count in filled) <= cells
    if scale > 0:
        assert {name for name, _ in filled} == {name for name, amount in given_parts if amount > 0}


@given(amounts, st.integers(0, 60), st.sampled_from(["htop", MONO]))
def test_a_meter_takes_exactly_its_cells(
    given_parts: list[tuple[str, float]], cells: int, theme: str
) -> None:
    meter = Meter("ANT", tuple(given_parts), 1e9, "253k/400k tok/min")
    drawn = "".join(text for text, _ in parts(meter, cells + 8, look(theme)))
    assert len(drawn) == cells + 8


def test_text_lies_over_the_bar_and_takes_its_colour() -> None:
    palette = look("htop")
    drawn = parts(Meter("ANT", (("tok-input", 1.0),), 1.0, "full"), 12, palette)
    assert drawn[-2] == ("full", palette.palette("tok-input", bold=True))
