"""What the calls in transcripts cost at list prices."""

from __future__ import annotations

from collections.abc import Sequence

from ..budget.prices import Prices
from ..journal.events import Usage
from .calls import BANDS

#: Whose price list a CLI's models are in, where nothing else tells.
_MAKERS = {"claude": "anthropic", "codex": "openai", "gemini": "gemini"}
#: Beginnings of model names that tell whose they are; a CLI can be led to another provider.
_NAMES = {
    "claude": "anthropic",
    "gpt": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "codex": "openai",
    "gemini": "gemini",
    "grok": "x-ai",
    "deepseek": "deepseek",
    "mistral": "mistral",
    "devstral": "mistral",
}

#: A probe for the price of output, so large that what the input costs does not blur it.
_MANY = 1_000_000


def providers(kind: str, model: str) -> Sequence[str]:
    """Whose price lists may have a model, the likeliest first; ``kind`` is the CLI's name.

    ``openai/gpt-5.1`` says it itself, a name that begins with ``claude`` does too, else it is the CLI's.
    """
    vendor, slash, rest = model.rpartition("/")
    named = (owner for begin, owner in _NAMES.items() if rest.lower().startswith(begin))
    found = [vendor.rpartition("/")[2]] if slash else []
    return [*dict.fromkeys([*found, *named, *filter(None, [_MAKERS.get(kind)])])]


def cost(prices: Prices, kind: str, model: str, usage: Usage, band: int | None = None) -> float | None:
    """USD of calls to one model; ``None`` where it has no known price. Await ``prices.ready`` before.

    Args:
        kind: The CLI, as its observer is named.
        usage: One call, or the sum of several.
        band: Of several calls the band of sizes they are all in, because for large inputs some prices
            are others (``calls.band``).
    """
    for name in (model, model.rpartition("/")[2]):
        for provider in providers(kind, model):
            usd = _quote(prices, provider, name, usage, band)
            if usd is not None:
                return usd
    return None


def _quote(prices: Prices, provider: str, model: str, usage: Usage, band: int | None) -> float | None:
    whole = prices.quote(provider, model, usage).cost
    if band is None or whole is None:
        return whole
    size = BANDS[band] if band < len(BANDS) else 2 * BANDS[-1]

    def price(**tokens: int) -> float:
        return prices.quote(provider, model, Usage(**tokens)).cost or 0.0

    fresh = price(input=size)
    return (
        usage.input * fresh
        + usage.cache_read * price(cache_read=size)
        + usage.cache_write_5m * price(cache_write_5m=size)
        + usage.cache_write_1h * price(cache_write_1h=size)
    ) / size + usage.output * (price(input=size, output=_MANY) - fresh) / _MANY
