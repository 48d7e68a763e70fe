"""What a call cost, and how much a model can hold: from genai-prices, with room for one's own prices."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from threading import Lock
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

import anyio

from ..journal.events import Usage
from .rates import Rates, rates

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import PriceCalculation

log = logging.getLogger("agenttop.prices")

_PROTOCOL_IDS = {"anthropic": "anthropic", "openai": "openai", "gemini": "google"}
_NAME_IDS = {"gemini": "google"}
MILLION = Decimal(1_000_000)

#: Models whose price is remembered.
_REMEMBERED = 4_096


class Priced(Protocol):
    """What prices need to know of a provider; ``Provider`` has it."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def protocol(self) -> str:
        """Its wire protocol."""

    @property
    def base_url(self) -> str:
        """Where it is."""

    @property
    def fallback(self) -> str | None:
        """Which other provider may get its calls."""


class Quote(NamedTuple):
    """``cost`` in USD and the model's context in tokens; ``None`` is not known, never zero."""

    cost: float | None
    context_limit: int | None


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """What the configuration says of a model: USD per million tokens, and sizes in tokens.

    Without ``input`` and ``output`` the price lists' prices stay; an absent cache price is the input's.
    """

    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None
    context_limit: int | None = None
    max_output: int | None = None

    def cost(self, usage: Usage) -> Decimal | None:
        """USD for these buckets; ``None`` where it has sizes only."""
        fresh, output = self.input, self.output
        if fresh is None or output is None:
            return None

        def rate(own: Decimal | None) -> Decimal:
            return fresh if own is None else own

        return (
            usage.input * fresh
            + usage.cache_read * rate(self.cache_read)
            + usage.cache_write_5m * rate(self.cache_write_5m)
            + usage.cache_write_1h * rate(self.cache_write_1h)
            + usage.output * output
        ) / MILLION


class Prices:
    """Quotes calls. genai-prices takes a third of a second to import: ``ready`` does that in a thread.

    Which price list applies to a provider: the one whose name it has (``anthropic``, ``openrouter``,
    …; ``gemini`` is ``google``), else the one whose address it has, else that of its protocol's
    inventor, unless it runs on this machine: a model served at home has no list price.

    Args:
        own: What goes before all lists, by shell patterns on ``provider/model`` or ``model``; of several
            that match, the longest counts.
    """

    def __init__(self, own: Mapping[str, OwnPrice] | None = None) -> None:
        self._own = sorted((own or {}).items(), key=lambda item: -len(item[0]))
        self._matched: dict[tuple[str, str], OwnPrice | None] = {}
        self._reading = anyio.Lock()

    async def ready(self) -> None:
        """Return when the price lists are loaded, without having blocked the event loop for it."""
        while _snapshot is None:
            # One thread for all who wait: each would keep its own memory for as long as the kernel lives.
            async with self._reading:
                if _snapshot is None:
                    await anyio.to_thread.run_sync(warm)

    def own(self, provider: Priced | str | None, model: str | None) -> OwnPrice | None:
        """What the configuration says of a model, if anything."""
        if not self._own or not model:
            return None
        name = provider if isinstance(provider, str) else provider.name if provider is not None else ""
        key = (name, model)
        if key not in self._matched:
            if len(self._matched) >= _REMEMBERED:  # model names come from clients
                self._matched.clear()
            self._matched[key] = next(
                (
                    price
                    for pattern, price in self._own
                    if fnmatchcase(model, pattern) or fnmatchcase(f"{name}/{model}", pattern)
                ),
                None,
            )
        return self._matched[key]

    def quote(self, provider: Priced | str | None, model: str | None, usage: Usage) -> Quote:
        """Cost of this usage and context limit of the model; await ``ready`` before.

        Args:
            provider: Where only a name is left of it, that alone finds the price list.
        """
        own = self.own(provider, model)
        if own is not None and (cost := own.cost(usage)) is not None:
            return Quote(float(cost), own.context_limit)
        listed = _listed(_lists(provider), model, usage) if model else None
        # What used nothing cost nothing, whatever its price.
        quote = listed or Quote(None if usage.total else 0.0, None)
        if own is not None and own.context_limit is not None:
            return quote._replace(context_limit=own.context_limit)
        return quote


_snapshot: DataSnapshot | None = None
_loading = Lock()


def warm() -> None:
    """Import genai-prices and its lists now: about 0.3 s, so in a thread. Safe to call from several."""
    global _snapshot
    with _loading:
        if _snapshot is None:
            from genai_prices.data_snapshot import get_snapshot

            _snapshot = get_snapshot()


def price(provider: Priced | str | None, model: str | None, usage: Usage) -> float | None:
    """USD for this usage at list prices; ``None`` where there is no price."""
    return Prices().quote(provider, model, usage).cost


def context_limit(provider: Priced | str | None, model: str | None) -> int | None:
    """Tokens the model's context holds; ``None`` where that is not known."""
    return Prices().quote(provider, model, Usage()).context_limit


def _listed(lists: Sequence[_List], model: str, usage: Usage) -> Quote | None:
    warm()
    for listing in lists:
        key = (listing, model)
        known = _rates.get(key)
        if isinstance(known, Rates):
            return Quote(float(known.cost(usage)), known.context_limit)
        if known == "unlisted":
            continue
        if known is None and len(_rates) >= _REMEMBERED:  # model names come from clients
            _rates.clear()
        try:
            found = _calc(listing, model, usage)
            if known is None:
                _rates[key] = rates(partial(_calc, listing, model)) or "varied"
        except LookupError:
            _rates[key] = "unlisted"
            continue
        except ValueError as error:
            log.warning("no price for %s: %s", model[:80], error)
            return None
        return Quote(float(found.total_price), found.model.context_window)
    return None


_List = tuple[str | None, str | None]
"""A price list: genai-prices' id of a provider, or an address it has."""
_rates: dict[tuple[_List, str], Rates | Literal["varied", "unlisted"]] = {}
"""What is known of models that were asked for: a price that is the same at any time and for any amount, one
that is not, or none in this list."""


def _calc(listing: _List, model: str, usage: Usage) -> PriceCalculation:
    from genai_prices import Usage as ListedUsage

    assert _snapshot is not None
    listed = ListedUsage(
        input_tokens=usage.input + usage.cache_read + usage.cache_write,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write,
        cache_write_1h_tokens=usage.cache_write_1h,
        output_tokens=usage.output,
    )
    return _snapshot.calc(listed, model, *listing, None)


def _lists(provider: Priced | str | None) -> Sequence[_List]:
    if provider is None:
        return ()
    if isinstance(provider, str):
        return ((_NAME_IDS.get(provider, provider), None),)
    return _lists_of(provider.name, provider.protocol, provider.base_url)


@lru_cache(maxsize=256)
def _lists_of(name: str, protocol: str, base_url: str) -> tuple[_List, ...]:
    found: list[_List] = [(_NAME_IDS.get(name, name), None), (None, base_url)]
    if not _at_home(base_url):
        found.append((_PROTOCOL_IDS.get(protocol, protocol), None))
    return tuple(found)


def _at_home(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".local", ".internal", ".localhost")) or "." not in host
