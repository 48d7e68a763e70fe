from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.tui import format as f


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (812, "812"),
        (999, "999"),
        (1_000, "1.0k"),
        (9_840, "9.8k"),
        (9_960, "10k"),
        (41_000, "41k"),
        (999_600, "1.0M"),
        (6_800_000, "6.8M"),
        (30_000_000, "30M"),
    ],
)
def test_tokens_have_one_decimal_below_ten_and_none_above(value: int | None, shown: str) -> None:
    assert f.tokens(value) == shown


@given(st.integers(0, 10**15))
def test_tokens_never_take_more_than_four_cells(value: int) -> None:
    assert len(f.tokens(value)) <= 4


@given(st.integers(0, 2**50))
def test_sizes_never_take_more_than_five_cells(value: int) -> None:
    assert len(f.size(value)) <= 5


@pytest.mark.parametrize(
    ("value", "cells", "exact", "shown"),
    [
        (12.3, 5, True, "12.30"),
        (16.94, 5, False, "~16.9"),
        (123.4, 5, True, "123.4"),
        (1234.5, 5, True, "1234"),
        (123456.0, 5, True, "123456"),
    ],
)
def test_money_drops_decimals_never_digits(value: float, cells: int, exact: bool, shown: str) -> None:
    assert f.money(value, cells, exact=exact) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0s"), (3.9, "3s"), (59, "59s"), (60, "1m"), (3599, "59m"), (4440, "1h14"), (274260, "3d04:11")],
)
def test_ages_step_a_second_below_a_minute_then_a_minute(seconds: float, shown: str) -> None:
    assert f.age(seconds) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("claude-sonnet-4-5-20250929", "sonnet-4.5"),
        ("anthropic/claude-opus-4-5", "opus-4.5"),
        ("gpt-5.1-codex", "gpt-5.1-codex"),
        ("claude-3-5-haiku-latest", "haiku-3.5"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
    ],
)
def test_models_lose_vendor_and_date(name: str, shown: str) -> None:
    assert f.model(name) == shown


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("a\nb\tc", "a b c"),
        ("a\u202eb", "ab"),
        ("zero\u200bwidth", "zerowidth"),
        ("\x9b31mred", "red"),
        ("bell\x07", "bell"),
        ("half\ud800", "half?"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("tag\U000e0041", "tag"),
    ],
)
def test_hostile_text_becomes_one_harmless_line(hostile: str, shown: str) -> None:
    assert f.clean(hostile) == shown


@given(st.text())
def test_clean_text_has_no_control_characters_and_can_be_encoded(text: str) -> None:
    clean = f.clean(text)
    clean.encode()
    assert not any(
        ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0x202A <= ord(char) <= 0x202E for char in clean
    )
    assert f.clean(clean) == clean


@given(st.text(), st.integers(1, 30))
def test_cut_text_fits_its_cells(text: str, cells: int) -> None:
    clean = f.clean(text)
    assert f.width(f.cut(clean, cells)) <= cells
    assert f.width(f.cut_middle(clean, cells)) <= cells
    assert f.width(f.fit(clean, cells)) == cells


def test_the_middle_goes_and_the_tail_stays() -> None:
    assert f.cut_middle("gpt-5.1-codex", 11) == "gpt-5.1…dex"


def test_a_value_above_zero_leaves_a_dot_in_its_sparkline() -> None:
    assert f.sparkline((0,) * 18 + (1, 1000)) == "⠀" * 9 + "⣸"
    assert f.sparkline((0,) * 20) == " " * 10
