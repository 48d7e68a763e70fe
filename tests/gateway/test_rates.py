"""Remembered rates give the very figures that the price lists give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.budget import prices
from agenttop.core.budget.prices import Prices
from agenttop.core.gateway.providers import Provider
from agenttop.core.journal.events import Usage

COUNT = st.integers(0, 50_000_000)
USAGES = st.builds(
    Usage, input=COUNT, cache_read=COUNT, cache_write_5m=COUNT, cache_write_1h=COUNT, output=COUNT
)
#: Flat prices, tiers by the length of the context, prices by the clock, and what no list has.
MODELS = [
    ("anthropic", "claude-opus-4-1"), ("anthropic", "claude-sonnet-4-5"), ("anthropic", "claude-haiku-4-5"),
    ("openai", "gpt-5"), ("openai", "o3"), ("gemini", "gemini-2.5-pro"), ("gemini", "gemini-2.5-flash"),
    ("deepseek", "deepseek-chat"), ("anthropic", "no-such-model"), ("nobody", "gpt-5"),
]  # fmt: skip


def direct(provider: str, model: str, usage: Usage) -> tuple[float, int | None] | None:
    """What genai-prices itself says."""
    for listing in prices._lists(provider):
        try:
            found = prices._calc(listing, model, usage)
        except LookupError:
            continue
        return float(found.total_price), found.model.context_window
    return None


@pytest.mark.parametrize(("provider", "model"), MODELS)
@given(usage=USAGES)
def test_a_remembered_price_is_the_listed_price(provider: str, model: str, usage: Usage) -> None:
    prices.warm()
    quote = Prices().quote(provider, model, usage)
    expected = direct(provider, model, usage)
    if expected is None:
        assert quote.cost == (None if usage.total else 0.0)
    else:
        assert (quote.cost, quote.context_limit) == expected


def test_tiers_are_not_taken_for_flat_prices() -> None:
    prices.warm()
    small, large = Usage(input=100_000), Usage(input=300_000)
    quote = Prices().quote
    assert (quote("gemini", "gemini-2.5-pro", large).cost or 0) > 3 * (
        quote("gemini", "gemini-2.5-pro", small).cost or 0
    )


def test_at_home_there_is_no_list_price() -> None:
    prices.warm()
    home = Provider(name="vllm", protocol="openai", base_url="http://192.168.1.5:8000", key_env="K")
    away = Provider(name="corp", protocol="openai", base_url="https://llm.example.com", key_env="K")
    usage = Usage(input=1_000_000)
    for _ in range(2):  # remembered, too
        assert Prices().quote(home, "gpt-5", usage).cost is None
        assert (Prices().quote(away, "gpt-5", usage).cost or 0) > 0
