"""What sums of calls cost where the price of a call depends on how large it is."""

from __future__ import annotations

from ...journal.events import Usage
from ..pricing import Pricing
from .calls import BANDS

#: A probe for the price of output, so large that what the input costs does not blur it.
_MANY = 1_000_000


def cost(pricing: Pricing, observer: str, model: str, usage: Usage, band: int) -> float | None:
    """USD of several calls to one model; ``None`` where it has no known price. Call it off the event loop.

    For large inputs some models have other prices, for the whole call. A sum does not tell how large its
    calls were; but within a band of sizes the price of a token is one, so it is taken from a call of that
    size.

    Args:
        observer: Whose transcripts tell of them.
        band: The band that the calls are all in; see ``calls.band``.
    """
    if not usage.total:
        return 0.0
    if pricing(observer, model, usage).cost is None:
        return None
    size = BANDS[band] if band < len(BANDS) else 2 * BANDS[-1]

    def price(**tokens: int) -> float:
        return pricing(observer, model, Usage(**tokens)).cost or 0.0

    fresh = price(input=size)
    return (
        usage.input * fresh
        + usage.cache_read * price(cache_read=size)
        + usage.cache_write_5m * price(cache_write_5m=size)
        + usage.cache_write_1h * price(cache_write_1h=size)
    ) / size + usage.output * (price(input=size, output=_MANY) - fresh) / _MANY
