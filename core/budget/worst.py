"""The worst case of a call: what is reserved before it is forwarded.

Input is bounded by the length of the body: one token a byte before anything is known of an agent's
requests to a model, then the densest of its last ones and a tenth more; by the model's context where the
provider adds what it has stored. Output is bounded by what the
request allows, else by what the model can. Both are taken at the dearest price that may apply: writing
to a cache where that is priced, and the tier of a full context.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from ..journal.events import Usage
from .amount import nanos_up
from .prices import Priced, Prices
from .sizes import max_output

#: How many calls of an agent to a model its density is known from.
LAST = 8

#: The densest of them, and this much more.
MARGIN = 1.1

#: Never reckoned sparser than that, in tokens a byte: plain English, hardly escaped.
SPARSEST = 0.25

#: Clients may ask for a larger context than the model's usual one (Anthropic's beta of a million).
_LARGE_CONTEXT = 1_000_000

#: Tokens of a reply of which nothing is known.
_USUAL_REPLY = 500

_REMEMBERED = 1_024
_PROBE = 1_000


class Need(NamedTuple):
    """A worst case; ``usd`` in billionths, ``None`` where no price is known."""

    usd: int | None
    tokens: int


class Rates(NamedTuple):
    """The dearest prices of a model in USD per token (``None``: unpriced), and its sizes in tokens."""

    input: float | None
    output: float | None
    context: int | None
    max_output: int


class Seen(NamedTuple):
    """A settled call: tokens per byte of its body, and its output."""

    density: float
    output: int


class WorstCase:
    """Works out reservations, and learns from settled calls how dense requests are."""

    def __init__(self, prices: Prices, providers: Mapping[str, Priced]) -> None:
        self._prices = prices
        self._providers = providers
        self._rates: dict[tuple[str, str], Rates] = {}
        self._seen: dict[str, dict[str, deque[Seen]]] = {}

    async def ready(self) -> None:
        """Return when prices are known."""
        await self._prices.ready()

    def of(
        self,
        agent: str,
        provider: str,
        model: str | None,
        body_bytes: int,
        output: int | None,
        may_use: Collection[str] | None = None,
        *,
        stored_input: bool = False,
    ) -> Need:
        """The worst case of a call, wherever it may end up; await ``ready`` once before.

        Args:
            may_use: Names of the providers its agent may fall back to; ``None`` is all.
            stored_input: Its body does not bound its input, which is then the model's whole context.
        """
        size = None if stored_input else body_bytes
        need = self._at(agent, provider, model, size, output)
        if need.usd is None:
            return need
        for name in self._fallbacks(provider, may_use):
            other = self._at(agent, name, model, size, output)
            need = Need(max(need.usd or 0, other.usd or 0), max(need.tokens, other.tokens))
        return need

    def _fallbacks(self, provider: str, may_use: Collection[str] | None) -> Iterator[str]:
        seen = {provider}
        found = self._providers.get(provider)
        while found is not None and (name := found.fallback) is not None and name not in seen:
            seen.add(name)
            if may_use is None or name in may_use:
                yield name
            found = self._providers.get(name)

    def _at(
        self, agent: str, provider: str, model: str | None, body_bytes: int | None, output: int | None
    ) -> Need:
        rates = self.rates(provider, model)
        if body_bytes is None:
            tokens = rates.context or _LARGE_CONTEXT
        else:
            tokens = math.ceil(round(body_bytes * self._dense(agent, model), 6))
        if rates.context is not None:
            tokens = min(tokens, rates.context)
        replied = rates.max_output if output is None else max(0, output)
        if rates.input is None or rates.output is None:
            return Need(None, tokens + replied)
        return Need(nanos_up(tokens * rates.input + replied * rates.output), tokens + replied)

    def learned(self, agent: str, model: str | None, body_bytes: int, usage: Usage) -> None:
        """What a settled call's body came to."""
        tokens = usage.input + usage.cache_read + usage.cache_write
        if body_bytes <= 0 or tokens <= 0:
            return
        models, name = self._seen.setdefault(agent, {}), model or ""
        if name not in models and len(models) >= 64:  # an agent that makes up models
            models.clear()
        models.setdefault(name, deque(maxlen=LAST)).append(Seen(tokens / body_bytes, usage.output))

    def forget(self, agent: str) -> None:
        """The agent was removed."""
        self._seen.pop(agent, None)

    def usual(self, agent: str, model: str | None, body_bytes: int) -> int:
        """What a call will probably use, in tokens: its place in a queue goes by that, no money does."""
        seen = self._seen.get(agent, {}).get(model or "")
        if not seen:
            return math.ceil(body_bytes * SPARSEST) + _USUAL_REPLY
        return math.ceil(body_bytes * seen[-1].density) + sum(s.output for s in seen) // len(seen)

    def _dense(self, agent: str, model: str | None) -> float:
        seen = self._seen.get(agent, {}).get(model or "")
        return max(max(s.density for s in seen) * MARGIN, SPARSEST) if seen else 1.0

    def rates(self, provider: str, model: str | None) -> Rates:
        """The dearest prices of a model, and its sizes."""
        key = (provider, model or "")
        found = self._rates.get(key)
        if found is None:
            if len(self._rates) >= _REMEMBERED:  # model names come from clients
                self._rates.clear()
            found = self._rates[key] = self._dearest(self._providers.get(provider, provider), model)
        return found

    def _dearest(self, provider: Priced | str, model: str | None) -> Rates:
        own = self._prices.own(provider, model)
        context = self._prices.quote(provider, model, Usage()).context_limit
        priced = self._rate(provider, model, Usage(input=_PROBE)) is not None
        size = (own.max_output if own is not None else None) or max_output(model, context)
        bound = context
        if bound is not None and "claude" in (model or "") and (own is None or own.context_limit is None):
            bound = max(bound, _LARGE_CONTEXT)
        full = bound or _LARGE_CONTEXT
        if not priced:
            return Rates(None, None, bound, size)
        inputs = [
            self._rate(provider, model, usage)
            for tokens in (_PROBE, full)
            for usage in (
                Usage(input=tokens),
                Usage(cache_write_5m=tokens),
                Usage(cache_write_1h=tokens),
            )
        ]
        outputs = [
            self._rate(provider, model, Usage(output=_PROBE)),
            self._rate(provider, model, Usage(input=full, output=_PROBE), Usage(input=full)),
        ]
        return Rates(_most(inputs), _most(outputs), bound, size)

    def _rate(
        self, provider: Priced | str, model: str | None, usage: Usage, without: Usage | None = None
    ) -> float | None:
        """USD per token of a usage, or of what it has more than another."""
        cost = self._prices.quote(provider, model, usage).cost
        tokens = usage.total
        if cost is None or without is None:
            return None if cost is None else cost / tokens
        base = self._prices.quote(provider, model, without).cost
        return None if base is None else (cost - base) / (tokens - without.total)


def _most(rates: list[float | None]) -> float:
    # Rounded: 0.0000149999 and 0.0000150001 are the same price after a subtraction.
    return round(max(rate for rate in rates if rate is not None), 15)
