"""A gate: what a provider, or one of its models, may be sent now.

Limits (configured and learned), the closing after a 429, the single call that tries whether it is over,
and the window that lets only so many run after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Literal, NamedTuple

from ...clock import Clock
from ..providers import CallLimits
from .bucket import Bucket, Learned
from .heads import Told, What

Kind = Literal["limit", "closed", "probe"]

COLD_SECONDS = 2.0
"""A call that tries keeps the others back so long; a provider that turns away does that at once."""
LONGEST_BACKOFF = 60.0
CALM = 60.0
"""Seconds in which nobody had to wait for the window, after which there is none any more."""
_FAR = 60.0
_WIDE = 64
"""A window that came from a single call is over when it has grown so wide."""
_LOOK = 30.0
_FORMS: dict[What, str] = {
    "requests": "{:.7g} requests a minute",
    "tokens": "{:.7g} tokens a minute",
    "input_tokens": "{:.7g} input tokens a minute",
    "output_tokens": "{:.7g} output tokens a minute",
}


class Block(NamedTuple):
    """Why nothing goes, and the monotonic time at which that may change by itself."""

    kind: Kind
    due: float | None
    form: str = ""
    """Which limit it is, for a person, with a place for ``limit``: words are made only when read."""
    limit: float = 0.0

    @property
    def detail(self) -> str:
        """Which limit it is."""
        return self.form.format(self.limit)


@dataclass(slots=True, eq=False)
class Pass:
    """A call that went through a gate, as the gate remembers it."""

    call: str
    tokens: int
    epoch: int = 0
    answered: bool = False


@dataclass(slots=True)
class Window:
    """How many calls may run after a 429: half of what ran, then one more per round of successes."""

    size: int
    peak: int
    """How many ran when the provider had enough."""
    tight_at: float
    """When a call last had to wait for it."""
    successes: int = 0


@dataclass(slots=True)
class Gate:
    """One gate. Pure but for its clock."""

    limits: CallLimits
    clock: Clock
    random: Random
    cold: bool = False
    """Nothing was answered yet: one call goes first."""
    running: int = 0
    running_tokens: int = 0
    window: Window | None = None
    learned: dict[What, Learned] = field(default_factory=dict)
    _buckets: dict[Literal["requests", "tokens"], Bucket] = field(default_factory=dict)
    _pending: int = 0
    """Calls that went and were not answered yet, so that no head has counted them."""
    _pending_tokens: int = 0
    _state: Literal["open", "closed", "probing"] = "open"
    _until: float = 0.0
    _until_wall: float | None = None
    _probe: Pass | None = None
    _probe_due: float = 0.0
    _epoch: int = 0
    _turned_away: int = 0

    def __post_init__(self) -> None:
        now = self.clock.monotonic()
        if self.limits.requests is not None:
            self._buckets["requests"] = Bucket.a_minute(self.limits.requests, now)
        if self.limits.tokens is not None:
            self._buckets["tokens"] = Bucket.a_minute(self.limits.tokens, now)

    # --- may something go

    def block(self, now: float) -> Block | None:
        """Why nothing may go now; ``None`` if something may."""
        return self._shut(now) or self._full(now)

    def closed_until(self, now: float) -> float | None:
        """When a closed gate lets the next call try; ``None`` where it is not closed."""
        return self._until if self._state == "closed" and not self._over(now) else None

    def _shut(self, now: float) -> Block | None:
        if self._state == "closed" and not self._over(now):
            far = self._until - now > _FAR
            return Block("closed", min(self._until, now + _LOOK) if far else self._until)
        if self._state == "probing" and self._probe is not None:
            if now < self._probe_due:
                return Block("probe", self._probe_due)
            self._open()
        return None

    def _over(self, now: float) -> bool:
        """Whether the time is over by either clock: a machine that slept has a monotonic one that did too."""
        return now >= self._until or (self._until_wall is not None and self.clock.time() >= self._until_wall)

    def _full(self, now: float) -> Block | None:
        limit = self.limits.concurrency
        if limit is not None and self.running >= limit:
            return Block("limit", None, "{:g} at a time", limit)
        window = self.window
        # The call that tries goes in any case: what runs may be long answers from before.
        if window is not None and self.running >= window.size and self._state != "closed":
            if now - window.tight_at > CALM:
                self.window = None
            else:
                window.tight_at = now
                return Block("limit", None, "{:g} at a time after a 429", window.size)
        for what, bucket in self._buckets.items():
            if wait := bucket.wait(now):
                return Block("limit", now + wait, _FORMS[what], bucket.rate * 60)
        for named, told in self.learned.items():
            if wait := told.wait(now):
                return Block("limit", now + wait, "its limit of " + _FORMS[named], told.limit)
        return None

    # --- what goes and comes back

    def take(self, gone: Pass, now: float) -> None:
        """A call goes."""
        gone.epoch = self._epoch
        self.running += 1
        self.running_tokens += gone.tokens
        self._pending += 1
        self._pending_tokens += gone.tokens
        for what, bucket in self._buckets.items():
            bucket.take(1 if what == "requests" else gone.tokens, now)
        for named, told in self.learned.items():
            if named != "output_tokens":
                told.take(1 if named == "requests" else gone.tokens, now)
        if self.cold or self._state != "open":
            self._state, self._probe, self._probe_due = "probing", gone, now + COLD_SECONDS

    def give_back(self, gone: Pass, used: int, now: float) -> None:
        """A call is over, or was turned away, having used so many tokens."""
        self.running -= 1
        self.running_tokens -= gone.tokens
        if not gone.answered:
            for named, told in self.learned.items():
                if named != "output_tokens":
                    told.take(-1 if named == "requests" else -gone.tokens, now)
        self._seen(gone)
        if "tokens" in self._buckets:
            self._buckets["tokens"].take(used - gone.tokens, now)
        if self._probe is gone:
            # It told nothing: the next one tries.
            self._probe = None
            self._state = "open" if self.cold else "closed"
            self._until, self._until_wall = now, None

    def _seen(self, gone: Pass) -> None:
        if not gone.answered:
            gone.answered = True
            self._pending -= 1
            self._pending_tokens -= gone.tokens

    def passed(self, gone: Pass) -> None:
        """A call got an answer other than "too much"."""
        self._seen(gone)
        if self._probe is gone or (gone.epoch == self._epoch and self._state != "closed"):
            self._open()
            self._turned_away = 0
        window = self.window
        if window is None or gone.epoch != self._epoch:
            return
        if window.peak <= 1:
            # One call alone was too much, so it was not how many ran: come back doubling, not one by one.
            window.size += 2
            if window.size > _WIDE:
                self.window = None
            return
        window.successes += 1
        if window.successes >= window.size:
            window.size += 1
            window.successes = 0
            if window.size > 2 * window.peak:
                self.window = None

    def _open(self) -> None:
        self._state, self._probe, self.cold = "open", None, False

    def turned_away(self, gone: Pass, retry_after: float | None, now: float) -> None:
        """A call was answered "too much" (429, 529). Closes the gate, once for all calls that were out."""
        self._seen(gone)
        late = gone.epoch != self._epoch and self._probe is not gone
        if late and (retry_after is None or (self._state == "closed" and now + retry_after <= self._until)):
            return
        if not late:
            self._turned_away += 1
            self._narrow(now)
            self._epoch += 1
        wait = retry_after or self._back_off()
        self._state, self._probe, self.cold = "closed", None, False
        self._until = now + wait
        self._until_wall = self.clock.time() + wait if wait > _FAR else None

    def _narrow(self, now: float) -> None:
        window = self.window
        running = min(self.running, window.size) if window is not None else self.running
        peak = max(running, window.peak) if window is not None else running
        self.window = Window(max(1, running // 2), peak, now)

    def _back_off(self) -> float:
        step = 2.0 ** min(16, max(0, self._turned_away - 1))
        return min(LONGEST_BACKOFF, step) * self.random.uniform(0.8, 1.0)

    def chill(self) -> None:
        """There was an outage: one call goes first again."""
        if self._state == "open":
            self.cold = True

    def learn(self, told: list[Told], now: float) -> None:
        """Take over limits that a head told; call it after the answer was noted."""
        for one in told:
            bucket = self.learned.get(one.what)
            if bucket is None:
                bucket = self.learned[one.what] = Learned(one.limit, now)
            counted = {"requests": self._pending, "output_tokens": 0}
            bucket.observe(one.limit, one.left, one.reset, counted.get(one.what, self._pending_tokens), now)
