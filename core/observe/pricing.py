"""What the calls in a transcript cost: which price list is meant, for it names a model and no provider."""

from __future__ import annotations

from ..budget.prices import Prices, Quote
from ..journal.events import Usage

#: Whose models a name begins so.
_BEGINNINGS = (
    ("claude", "anthropic"),
    ("gpt", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("codex", "openai"),
    ("gemini", "gemini"),
    ("grok", "x-ai"),
    ("mistral", "mistral"),
    ("deepseek", "deepseek"),
)
#: Whose models a CLI asks, if the name does not tell.
_DEFAULTS = {"claude": "anthropic", "codex": "openai", "gemini": "gemini"}


def provider(observer: str, model: str) -> tuple[str | None, str]:
    """Provider and model as the price lists name them.

    ``anthropic/claude-…`` names both; ``None``: nobody's that is known.
    """
    before, slash, rest = model.partition("/")
    if slash:
        return before, rest
    named = next((name for begin, name in _BEGINNINGS if model.startswith(begin)), None)
    return named or _DEFAULTS.get(observer), model


class Pricing:
    """Quotes of the calls in transcripts. The price lists are read when the first call is priced: call it off
    the event loop."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    def __call__(self, observer: str, model: str, usage: Usage) -> Quote:
        """USD for this usage and the model's context limit; ``None`` is not known, never zero."""
        if not model:
            return Quote(None if usage.total else 0.0, None)
        name, rest = provider(observer, model)
        quote = self._prices.quote(name, rest, usage)
        if quote.cost is None and rest != model:  # one's own price may name it whole
            whole = self._prices.quote(None, model, usage)
            return whole if whole.cost is not None else quote
        return quote
