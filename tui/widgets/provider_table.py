"""The providers as the gateway sees them now: breaker, key, limits and what is left, who waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..format import UNKNOWN, age, clean, level, model, tokens
from .paper import Row, column

if TYPE_CHECKING:
    from agenttop.core.api import LimitInfo, ProviderInfo

#: A breaker's states: the word, and its colour.
BREAKERS = {"closed": ("ok", "good"), "half-open": ("half-open", "warn bold"), "open": ("broken", "bad bold")}
KEYS = {"present": ("present", "muted"), "missing": ("missing", "bad bold"), "clients": ("clients'", "muted")}
LIMITS = {
    "requests": "calls/min", "tokens": "tokens/min", "input_tokens": "input/min",
    "output_tokens": "output/min", "concurrency": "at once",
}  # fmt: skip

HEADING: Row = [
    (" PROVIDER    ", "label"), ("BREAKER   ", "label"), ("KEY       ", "label"), ("  RUN", "label"),
    (" WAIT", "label"), (" /MIN", "label"), (" FAIL", "label"), ("  RETRY", "label"),
    ("  FALLBACK    ", "label"), ("ADDRESS", "label"),
]  # fmt: skip


def rows(providers: Sequence[ProviderInfo], now: float, width: int) -> list[Row]:
    """The heading, and for each provider a line, why it is broken, and a line for each limit."""
    found: list[Row] = [HEADING]
    for provider in providers:
        found.append(_row(provider, now))
        if provider.breaker_why:
            colour = BREAKERS[provider.breaker][1].split()[0]
            found.append([("   ", ""), (clean(provider.breaker_why), colour)])
        found += [_limit(limit, "", now, width) for limit in provider.limits]
        for name, limits in sorted(provider.models.items()):
            found += [_limit(limit, model(name), now, width) for limit in limits]
        if not provider.limits and not provider.models:
            found.append([("   no limit known", "muted")])
    return found if providers else [*found, [("   no provider is configured", "muted")]]


def _row(provider: ProviderInfo, now: float) -> Row:
    word, colour = BREAKERS[provider.breaker]
    key, key_ink = KEYS[provider.key]
    waiting = provider.waiting
    retry = UNKNOWN
    if provider.retry_at is not None:
        retry = f"in {age(provider.retry_at - now)}" if provider.retry_at > now else "now"
    return [
        (" ", ""), column(provider.name, 12, "bright bold"), column(word, 10, colour),
        column(key, 10, key_ink),
        _count(provider.running, "fg"), _count(waiting, "warn bold"), _count(provider.calls_minute, "fg"),
        _count(provider.errors_minute, "bad bold"), (retry.rjust(7), "muted" if retry == UNKNOWN else "warn"),
        ("  ", ""), column(provider.fallback or UNKNOWN, 12, "muted"), (clean(provider.base_url), "muted"),
    ]  # fmt: skip


def _count(value: int, colour: str) -> tuple[str, str]:
    return (tokens(value).rjust(5), colour if value else "muted")


def _limit(limit: LimitInfo, of: str, now: float, width: int) -> Row:
    """``tokens/min  253k of 400k ━━━━───  147k left, again in 21s, learned``."""
    cells, names = (24, 30) if width >= 120 else (24, 24) if width >= 100 else (10, 24)
    row: Row = [
        ("   ", ""),
        column(f"{LIMITS[limit.what]} {of}".rstrip(), names if of or width >= 100 else 12, "label"),
    ]
    if limit.left is None:
        row.append((f"at most {tokens(limit.limit)}".ljust(15), "fg"))
    else:
        used = max(0.0, limit.limit - limit.left)
        share = used / limit.limit if limit.limit else 1.0
        solid = min(cells, max(1 if round(used) else 0, round(cells * share)))
        row += [
            (f"{tokens(used)} of {tokens(limit.limit)}".ljust(15), "fg"),
            ("━" * solid, level(100 * share)), ("─" * (cells - solid), "rule"),
            (f"  {tokens(max(0.0, limit.left))} left", "fg"),
        ]  # fmt: skip
    said = [f"again in {age(limit.resets_at - now)}"] if limit.resets_at and limit.resets_at > now else []
    said.append("learned" if limit.source == "learned" else "from the config")
    return [*row, ("  " + ", ".join(said), "muted")]
