"""Runaways: agents that run in circles, seen from their calls alone.

Three signs, each of them an agent's own: the same request answered again and again, nearly the same one,
and many more calls a minute than it is used to make. Whoever sees one holds the call and asks a person.
Pure: times are told to it, in monotonic seconds; time in which an agent is frozen or held does not count.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

NEAR_BITS = 3
"""Fingerprints that differ in so many of their 64 bits are of nearly identical requests."""
MINUTE = 60.0
LEARNING = 3
"""Active minutes before an agent's own history counts; until then it may make ``floor`` calls a minute."""
WEIGHT = 0.15
"""Of one more active minute in the average."""
HIGHEST = 64.0
_SLOTS = 12
_KEPT = 256
"""Answered requests that are remembered of an agent; all are looked through at each call."""
_MOST_KEPT = 4096


class Bars(Protocol):
    """How much is too much; ``RunawayTable`` of the configuration."""

    @property
    def enabled(self) -> bool:
        """Whether anything is looked at."""

    @property
    def identical(self) -> int:
        """Identical requests answered within ``window``."""

    @property
    def near(self) -> int:
        """Nearly identical ones."""

    @property
    def window(self) -> float:
        """Seconds."""

    @property
    def rate(self) -> float:
        """Times the agent's own usual calls a minute."""

    @property
    def floor(self) -> int:
        """Calls a minute that are never too many."""


@dataclass(slots=True)
class _Habits:
    """What is remembered of one agent; its own clock stands still while it is paused."""

    answered: deque[tuple[float, int]]
    slots: deque[tuple[int, int]] = field(default_factory=deque)
    """Calls by twelfths of a minute, the last minute's only."""
    minute: int = 0
    minute_calls: int = 0
    minutes: int = 0
    """Active minutes seen."""
    usual: float = 0.0
    """Calls in an active minute, on average."""
    bar: float = 1.0
    """Times the configured bars, for one whom a person let go on."""
    lost: float = 0.0
    paused_at: float | None = None

    def clock(self, now: float) -> float:
        """The agent's own time."""
        return (now if self.paused_at is None else min(now, self.paused_at)) - self.lost


class Runaway:
    """Watches all agents.

    For each call ``asked`` (which says why to hold it, or ``None``), and ``answered`` when it succeeded.
    """

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._agents: dict[str, _Habits] = {}
        self._keep = max(_KEPT, 4 * max(bars.identical, bars.near))

    def asked(self, agent: str, fingerprint: int | None, now: float) -> str | None:
        """Note that a call is about to go; why it should not, for a person to read.

        Args:
            agent: Whose call.
            fingerprint: Its 64-bit similarity hash; ``None`` where there is none.
            now: Monotonic seconds.
        """
        if not self._bars.enabled:
            return None
        habits = self._habits(agent)
        own = habits.clock(now)
        self._count(habits, own)
        return self._too_often(habits, fingerprint, own) or self._too_many(habits, own)

    def answered(self, agent: str, fingerprint: int | None, now: float) -> None:
        """A call was answered successfully."""
        if self._bars.enabled and fingerprint is not None:
            habits = self._habits(agent)
            habits.answered.append((habits.clock(now), fingerprint))

    def paused(self, agent: str, now: float) -> None:
        """The agent is frozen, or a call of it is held: its time stands still."""
        habits = self._agents.get(agent)
        if habits is not None and habits.paused_at is None:
            habits.paused_at = now

    def resumed(self, agent: str, now: float) -> None:
        """It goes on."""
        habits = self._agents.get(agent)
        if habits is not None and habits.paused_at is not None:
            habits.lost += max(0.0, now - habits.paused_at)
            habits.paused_at = None

    def allow(self, agent: str) -> None:
        """A person lets it go on: what was seen is forgotten, and the bars are twice as high from now on."""
        habits = self._agents.get(agent)
        if habits is None:
            return
        habits.bar = min(HIGHEST, habits.bar * 2)
        habits.answered = deque(maxlen=max(self._keep, min(_MOST_KEPT, int(self._keep * habits.bar))))
        habits.slots.clear()

    def forget(self, agent: str) -> None:
        """The agent is gone."""
        self._agents.pop(agent, None)

    # --- inside

    def _habits(self, agent: str) -> _Habits:
        habits = self._agents.get(agent)
        if habits is None:
            habits = self._agents[agent] = _Habits(deque(maxlen=self._keep))
        return habits

    def _too_often(self, habits: _Habits, fingerprint: int | None, own: float) -> str | None:
        answered, bars = habits.answered, self._bars
        while answered and answered[0][0] <= own - bars.window:
            answered.popleft()
        if fingerprint is None or len(answered) < min(bars.identical, bars.near) * habits.bar:
            return None
        same = near = 0
        for _, other in answered:
            difference = (other ^ fingerprint).bit_count()
            near += difference <= NEAR_BITS
            same += difference == 0
        span = f"in {_span(bars.window)}"
        if same >= bars.identical * habits.bar:
            return f"the same request was answered {same} times {span}"
        if near >= bars.near * habits.bar:
            return f"{near} nearly identical requests were answered {span}"
        return None

    def _too_many(self, habits: _Habits, own: float) -> str | None:
        calls = sum(count for _, count in habits.slots)
        most = self._most(habits)
        if calls <= most:
            return None
        usual = f"usual are {habits.usual:.0f}" if habits.minutes >= LEARNING else "it has no history yet"
        return f"{calls} calls in a minute; {usual}"

    def _most(self, habits: _Habits) -> float:
        usual = habits.usual if habits.minutes >= LEARNING else float(self._bars.floor)
        return max(float(self._bars.floor), self._bars.rate * usual) * habits.bar

    def _count(self, habits: _Habits, own: float) -> None:
        slot, minute = int(own * _SLOTS / MINUTE), int(own / MINUTE)
        slots = habits.slots
        while slots and slots[0][0] <= slot - _SLOTS:
            slots.popleft()
        if slots and slots[-1][0] == slot:
            slots[-1] = (slot, slots[-1][1] + 1)
        else:
            slots.append((slot, 1))
        if minute != habits.minute:
            self._learn(habits)
            habits.minute, habits.minute_calls = minute, 0
        habits.minute_calls += 1

    def _learn(self, habits: _Habits) -> None:
        """One active minute is over. A minute of running wild does not become the habit at once."""
        if not habits.minute_calls:
            return
        calls = min(float(habits.minute_calls), self._most(habits))
        habits.minutes += 1
        # The first minutes count alike, later ones by weight.
        habits.usual += (calls - habits.usual) * max(WEIGHT, 1.0 / habits.minutes)


def _span(seconds: float) -> str:
    return f"{seconds / 60:.3g} minutes" if seconds >= 120 else f"{seconds:.3g} seconds"
