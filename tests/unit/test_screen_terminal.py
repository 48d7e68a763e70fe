"""What is sent to the terminal is replayed in a terminal emulator and compared with what was meant."""

from __future__ import annotations

import pyte
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from agenttop.tui.lines import changes
from agenttop.tui.terminal import ThriftyChops

WIDTH = 40
STYLES = [
    Style.parse(text)
    for text in (
        "none",
        "bold",
        "#ff0000",
        "#ff0000 on #000000",
        "bold italic #00ff00 on #101010",
        "reverse",
        "underline blue",
        "default on default",
        "bright_white on cyan",
    )
]

segments = st.tuples(st.text("abc 0", min_size=1, max_size=9), st.sampled_from(STYLES)).map(
    lambda parts: Segment(*parts)
)


def line(parts: list[Segment]) -> Strip:
    return Strip(parts).adjust_cell_length(WIDTH)


lines = st.lists(segments, max_size=8).map(line)


def cells(screen: pyte.Screen) -> list[tuple[object, ...]]:
    row = screen.buffer[0]
    return [
        (row[x].data, row[x].fg, row[x].bg, row[x].bold, row[x].italics, row[x].underscore, row[x].reverse)
        for x in range(WIDTH)
    ]


def shown(*updates: str) -> list[tuple[object, ...]]:
    screen = pyte.Screen(WIDTH, 2)
    stream = pyte.Stream(screen)
    for update in updates:
        stream.feed(update)
    return cells(screen)


def sent(strip: Strip, spans: list[tuple[int, int]]) -> str:
    console = Console(color_system="truecolor", force_terminal=True)
    return ThriftyChops([{0: strip}], [(0, x1, x2) for x1, x2 in spans], [[WIDTH]]).render_segments(console)


@settings(max_examples=200, deadline=None)
@given(lines, lines)
def test_repainting_the_changes_gives_the_same_screen_as_painting_all(old: Strip, new: Strip) -> None:
    spans = changes(old, new)
    whole = shown(sent(new, [(0, WIDTH)]))
    assert shown(sent(old, [(0, WIDTH)]), *([sent(new, spans)] if spans else [])) == whole


def test_one_changed_digit_costs_a_few_bytes() -> None:
    style = Style.parse("#c8c8c8 on #000000")
    old, new = (
        line([Segment("a1f3 lead         P call 8s   ", style), Segment(f"{n}k", style)]) for n in (98, 99)
    )
    assert changes(old, new) == [(31, 32)]
    assert len(sent(new, changes(old, new))) < 60


def test_lines_with_wide_characters_are_repainted_whole() -> None:
    assert changes(line([Segment("abc")]), line([Segment("日本")])) == [(0, WIDTH)]
