"""The worst case of a call, which is reserved before it is forwarded."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agenttop.core.budget.amount import NANOS
from agenttop.core.budget.prices import OwnPrice, Prices, warm
from agenttop.core.budget.sizes import max_output
from agenttop.core.budget.worst import LAST, WorstCase
from agenttop.core.gateway.providers import BUILT_IN
from agenttop.core.journal.events import Usage

OWN = {
    "plain": OwnPrice(Decimal(1), Decimal(10), context_limit=10_000, max_output=500),
    "cached": OwnPrice(Decimal(1), Decimal(10), cache_write_5m=Decimal(2), cache_write_1h=Decimal(3)),
}


@pytest.fixture
def worst() -> WorstCase:
    warm()
    return WorstCase(Prices(OWN), BUILT_IN)


def test_before_anything_is_known_a_byte_is_a_token_and_the_reply_is_the_models_longest(
    worst: WorstCase,
) -> None:
    assert worst.of("a", "anthropic", "plain", 4_000, None) == (4_000 * 1_000 + 500 * 10_000, 4_500)
    assert worst.of("a", "anthropic", "plain", 4_000, 20).tokens == 4_020


def test_input_is_bounded_by_the_context_and_taken_at_the_dearest_price(worst: WorstCase) -> None:
    assert worst.of("a", "anthropic", "plain", 10**9, 0) == (10_000 * 1_000, 10_000)
    assert worst.of("a", "anthropic", "cached", 1_000, 0).usd == 3_000 * 1_000


def test_what_calls_came_to_tightens_the_bound_for_their_agent_and_model_only(worst: WorstCase) -> None:
    worst.learned("a", "plain", 10_000, Usage(input=1_000, cache_read=3_000, output=7))
    assert worst.of("a", "anthropic", "plain", 1_000, 0).tokens == 440
    assert worst.of("b", "anthropic", "plain", 1_000, 0).tokens == 1_000
    assert worst.of("a", "anthropic", "cached", 1_000, 0).tokens == 1_000
    for _ in range(LAST):
        worst.learned("a", "plain", 10_000, Usage(input=10, output=7))
    assert worst.of("a", "anthropic", "plain", 1_000, 0).tokens == 250, "never sparser than English"
    worst.learned("a", "plain", 100, Usage(input=3_000))
    assert worst.of("a", "anthropic", "plain", 1_000, 0).tokens == 10_000, "what lies at the provider counts"
    worst.forget("a")
    assert worst.of("a", "anthropic", "plain", 1_000, 0).tokens == 1_000


def test_an_unpriced_model_has_tokens_and_no_price(worst: WorstCase) -> None:
    assert worst.of("a", "anthropic", "nobody-knows-it", 1_000, 10) == (None, 1_010)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-opus-4-5"),
        ("anthropic", "claude-sonnet-4-5"),
        ("openai", "gpt-5.1"),
        ("gemini", "gemini-2.5-pro"),
    ],
)
def test_no_usage_within_the_bound_costs_more_than_the_worst_case(
    worst: WorstCase, provider: str, model: str
) -> None:
    prices = Prices()
    for size in (1_000, 150_000, 250_000, 900_000):
        need = worst.of("a", provider, model, size, 4_000)
        assert need.usd is not None
        tokens = need.tokens - 4_000
        for usage in (
            Usage(input=tokens, output=4_000),
            Usage(cache_write_1h=tokens, output=4_000),
            Usage(cache_write_5m=tokens // 2, input=tokens // 2, output=4_000),
            Usage(cache_read=tokens, output=4_000),
        ):
            cost = prices.quote(BUILT_IN[provider], model, usage).cost
            assert cost is not None
            assert cost * NANOS <= need.usd + 1


def test_families_know_their_longest_reply_and_strangers_are_bounded() -> None:
    assert max_output("claude-3-5-sonnet-latest", None) == 8_192
    assert max_output("anthropic/claude-opus-4-5", 200_000) >= 64_000
    assert max_output("gpt-4o-mini", None) == 16_384
    assert max_output("strange", 32_000) == 32_000
    assert max_output(None, None) == 128_000


def test_input_that_the_provider_has_stored_is_bounded_by_the_models_context(worst: WorstCase) -> None:
    assert worst.of("a", "anthropic", "plain", 100, 0, stored_input=True).tokens == 10_000
    assert worst.of("a", "anthropic", "cached", 100, 0, stored_input=True).tokens == 1_000_000
