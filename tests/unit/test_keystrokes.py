from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.backends import keystrokes, tmux

NAMED = (
    "Enter",
    "Escape",
    "C-c",
    "^C",
    "M-x",
    "C-M-Left",
    "F5",
    "F12",
    "PageUp",
    "Up",
    "BTab",
    "Space",
    "KP0",
)
WORDS = ("hello", "a", "Entering", "C-", "F", "upwards", "run the tests", "-x", "", "^", "Control")

keys = st.lists(st.sampled_from(NAMED + WORDS), max_size=12)


@pytest.mark.parametrize("key", NAMED)
def test_a_name_of_a_key_is_one(key: str) -> None:
    assert keystrokes.named(key)


@pytest.mark.parametrize("word", WORDS)
def test_everything_else_is_typed(word: str) -> None:
    assert not keystrokes.named(word)


@given(keys)
def test_the_pieces_are_all_keys_in_their_order_parted_where_a_key_follows_words(pressed: list[str]) -> None:
    pieces = list(keystrokes.parts(pressed))
    assert [key for piece in pieces for key in piece] == pressed
    assert all(pieces)
    for piece in pieces:
        for before, after in pairwise(piece):
            assert not (keystrokes.named(after) and not keystrokes.named(before))
    for before, after in pairwise(pieces):
        assert keystrokes.named(after[0])
        assert not keystrokes.named(before[-1])


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("C-\\", "Ctrl-\\"),
        ("C-]", "Ctrl-]"),
        ("F12", "F12"),
        ("M-S-Up", "Alt-Shift-Up"),
        ("C-M-d", "Ctrl-Alt-d"),
    ],
)
def test_a_key_is_said_as_people_say_it(key: str, said: str) -> None:
    assert tmux.spoken(key) == said
