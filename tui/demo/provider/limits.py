"""The provider's rate limits: token buckets that refill continuously, and what they say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple


class PerMinute(NamedTuple):
    """What an organisation may use in a minute of each model class; cache reads are not counted."""

    requests: int = 4_000
    input: int = 2_000_000
    output: int = 400_000


@dataclass(slots=True)
class _Bucket:
    limit: int
    left: float
    at: float

    def take(self, amount: float, now: float) -> None:
        self.left = min(float(self.limit), self.left + (now - self.at) * self.limit / 60.0) - amount
        self.at = now

    def seconds_until(self, amount: float) -> float:
        """How long until ``amount`` is there."""
        return max(0.0, (amount - self.left) * 60.0 / self.limit)


class RateLimits:
    """One set of buckets per model class. They refuse only with ``enforce``."""

    def __init__(self, per_minute: PerMinute | None = None, *, enforce: bool = False) -> None:
        self.per_minute = per_minute or PerMinute()
        self.enforce = enforce
        self._buckets: dict[str, dict[str, _Bucket]] = {}

    def admit(self, model: str, fresh: int, now: float) -> float:
        """Take a request of ``fresh`` counted input tokens; returns seconds to wait, 0 if admitted."""
        buckets = self._of(model, now)
        for bucket in buckets.values():
            bucket.take(0, now)
        if self.enforce:
            wait = max(
                buckets["requests"].seconds_until(1),
                buckets["input-tokens"].seconds_until(min(fresh, self.per_minute.input)),
                buckets["output-tokens"].seconds_until(1),
            )
            if wait > 0:
                return wait
        buckets["requests"].take(1, now)
        buckets["input-tokens"].take(fresh, now)
        return 0.0

    def spend(self, model: str, output: int, now: float) -> None:
        """Take the output of a reply once it is known."""
        self._of(model, now)["output-tokens"].take(output, now)

    def headers(self, model: str, now: float, wall: float, style: str = "anthropic") -> list[tuple[str, str]]:
        """``anthropic-ratelimit-*`` or ``x-ratelimit-*``, as their inventors document them."""
        if style == "openai":
            return self._openai(model, now)
        if style == "none":
            return []
        lines = []
        for name, bucket in self._of(model, now).items():
            reset = datetime.fromtimestamp(wall + bucket.seconds_until(bucket.limit), UTC)
            lines += [
                (f"anthropic-ratelimit-{name}-limit", str(bucket.limit)),
                (f"anthropic-ratelimit-{name}-remaining", str(max(0, int(bucket.left)))),
                (f"anthropic-ratelimit-{name}-reset", reset.strftime("%Y-%m-%dT%H:%M:%SZ")),
            ]
        return lines

    def _openai(self, model: str, now: float) -> list[tuple[str, str]]:
        buckets = self._of(model, now)
        lines = []
        for kind, name in (("requests", "requests"), ("tokens", "input-tokens")):
            bucket = buckets[name]
            lines += [
                (f"x-ratelimit-limit-{kind}", str(bucket.limit)),
                (f"x-ratelimit-remaining-{kind}", str(max(0, int(bucket.left)))),
                (f"x-ratelimit-reset-{kind}", f"{bucket.seconds_until(bucket.limit) * 1000:.0f}ms"),
            ]
        return lines

    def _of(self, model: str, now: float) -> dict[str, _Bucket]:
        kind = next((part for part in ("opus", "sonnet", "haiku") if part in model), model)
        if kind not in self._buckets:
            sizes = zip(("requests", "input-tokens", "output-tokens"), self.per_minute, strict=True)
            self._buckets[kind] = {name: _Bucket(size, float(size), now) for name, size in sizes}
        return self._buckets[kind]
