"""How fast a model answers: time to the first token, then tokens per second."""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

INSTANT = math.inf


class Pace(NamedTuple):
    """Seconds before the first token, and seconds for each token after it."""

    first: float
    each: float

    def due(self, tokens: int) -> float:
        """Seconds after the request at which ``tokens`` tokens have been sent."""
        return self.first + tokens * self.each


#: Tokens per second by what the model's name contains; the first match counts.
_SPEEDS = (("opus", 55.0), ("haiku", 150.0), ("sonnet", 78.0), ("", 90.0))


def pace_of(model: str, fresh: int, speed: float, rng: Random) -> Pace:
    """The pace of one reply.

    ``fresh`` is how many prompt tokens are not in the cache (a prompt is read at some 20,000 tokens a
    second), ``speed`` a factor: 1 is life, 10 ten times as fast, ``INSTANT`` no waiting at all.
    """
    if speed == INSTANT:
        return Pace(0.0, 0.0)
    rate = next(rate for part, rate in _SPEEDS if part in model) * rng.uniform(0.8, 1.2)
    first = rng.uniform(0.35, 0.9) + fresh / 20_000
    return Pace(first / speed, 1 / (rate * speed))
