"""Tokens, in the buckets that everything is counted in."""

from __future__ import annotations

from typing import NamedTuple


class Usage(NamedTuple):
    """Tokens of one call or a sum of calls, in disjoint buckets.

    ``reasoning`` is the part of ``output`` that was spent thinking, not a further bucket.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def cache_write(self) -> int:
        """Tokens written to the provider's cache, whatever their lifetime."""
        return self.cache_write_5m + self.cache_write_1h

    @property
    def total(self) -> int:
        """All tokens; reasoning is inside output already."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h + self.output

    @property
    def context(self) -> int:
        """Tokens that stand in the model's context after this call."""
        return self.total

    def plus(self, other: Usage) -> Usage:
        """The bucket-wise sum."""
        # Written out: this is done for every call and every sum it counts in.
        return Usage(
            self.input + other.input,
            self.cache_read + other.cache_read,
            self.cache_write_5m + other.cache_write_5m,
            self.cache_write_1h + other.cache_write_1h,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )
