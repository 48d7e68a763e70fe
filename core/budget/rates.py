"""List prices as five numbers: genai-prices takes a sixth of a millisecond for what four sums tell."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from ..journal.events import Usage

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

MILLION = Decimal(1_000_000)
_PROBES = (
    Usage(input=1_000_000),
    Usage(cache_read=1_000_000),
    Usage(cache_write_5m=1_000_000),
    Usage(cache_write_1h=1_000_000),
    Usage(output=1_000_000),
)


class Rates(NamedTuple):
    """USD per million tokens of each bucket, and the model's context in tokens."""

    input: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    output: Decimal
    context_limit: int | None

    def cost(self, usage: Usage) -> Decimal:
        """USD for these buckets."""
        return (
            usage.input * self.input
            + usage.cache_read * self.cache_read
            + usage.cache_write_5m * self.cache_write_5m
            + usage.cache_write_1h * self.cache_write_1h
            + usage.output * self.output
        ) / MILLION


def rates(calc: Callable[[Usage], PriceCalculation]) -> Rates | None:
    """The rates of a model whose price is the same at any time and for any amount, else ``None``.

    Args:
        calc: Its price for a usage, by genai-prices.
    """
    from genai_prices.types import ModelPrice

    found = calc(Usage())
    prices = found.model.prices
    if not isinstance(prices, ModelPrice) or found.total_price:  # by the clock; or by the request
        return None
    if not all(isinstance(rate, Decimal) for rate in vars(found.model_price).values() if rate is not None):
        return None  # by tiers
    fresh, read, five, hour, output = (calc(probe).total_price for probe in _PROBES)
    return Rates(fresh, read, five, hour, output, found.model.context_window)
