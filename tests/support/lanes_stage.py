"""Lanes on a clock that the test moves, with real tasks that wait in them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from agenttop.core.agents.states import Waiting
from agenttop.core.clock import ManualClock
from agenttop.core.gateway.lanes import Lanes, Waiter
from agenttop.core.gateway.providers import Provider


def provider(name: str = "anthropic", **fields: Any) -> Provider:
    given = {"protocol": "anthropic", "base_url": f"https://{name}.example.com", "key_env": "KEY", **fields}
    return Provider(name=name, **given)


@dataclass
class Asked:
    """One call that a task makes."""

    call: str
    agent: str
    provider: str | None = None
    """Where it may go; ``None`` while it waits."""
    at: float | None = None
    whys: list[tuple[Waiting, str]] = field(default_factory=list)
    error: BaseException | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def why(self) -> str:
        return self.whys[-1][1] if self.whys else ""


class Stage:
    """The lanes, their clock, and what their breakers told."""

    def __init__(self, tasks: TaskGroup, *providers: Provider, seed: int = 1) -> None:
        self.clock = ManualClock()
        self.moves: list[tuple[str, str, str]] = []
        self.lanes = Lanes(
            {one.name: one for one in providers},
            self.clock,
            moved=lambda name, state, why: self.moves.append((name, state, why)),
            seed=seed,
        )
        self._first = providers[0].name
        self._tasks = tasks
        self._number = itertools.count(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def ask(self, agent: str = "a", *, call: str | None = None, **waiter: Any) -> Asked:
        """A task that enters; ``settled`` lets it get as far as it can."""
        fields = {"provider": self._first, "model": "m", "nice": 0, "queue": "interactive", "tokens": 1000}
        asked = Asked(call or f"c{next(self._number)}", agent)
        wants = Waiter(call=asked.call, agent=agent, **{**fields, **waiter})  # type: ignore[arg-type]

        async def enter() -> None:
            with asked.scope:
                try:
                    asked.provider = await self.lanes.enter(
                        wants, lambda reason, detail: asked.whys.append((reason, detail))
                    )
                    asked.at = self.now
                except ValueError as error:
                    asked.error = error

        self._tasks.start_soon(enter)
        return asked

    def answer(self, asked: Asked, status: int = 200, headers: Mapping[str, str] | None = None) -> str:
        assert asked.provider is not None
        raw = {name.encode(): value.encode() for name, value in (headers or {}).items()}
        return self.lanes.answered(asked.call, asked.provider, status, raw)

    def lose(self, asked: Asked, why: str = "connection refused") -> None:
        assert asked.provider is not None
        self.lanes.lost(asked.call, asked.provider, why)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something when the clock has come so far."""
        heapq.heappush(self._events, (self.now + seconds, next(self._number), action))

    async def settled(self) -> None:
        """Every task has got as far as it can without the clock."""
        for _ in range(4):
            await anyio.lowlevel.checkpoint()

    async def pass_time(self, seconds: float) -> None:
        """Move the clock, stopping at everything that is due on the way."""
        end = self.now + seconds
        await self.settled()
        while True:
            for _ in range(2):
                self.lanes.tick()
                await self.settled()
            wait = self.lanes.tick()
            due = min(
                end,
                self.now + wait if wait is not None else end,
                self._events[0][0] if self._events else end,
            )
            if due > self.now:
                self.clock.advance(due - self.now)
            happened = False
            while self._events and self._events[0][0] <= self.now + 1e-9:
                heapq.heappop(self._events)[2]()
                happened = True
            await self.settled()
            if self.now >= end - 1e-9 and not happened:
                self.lanes.tick()
                await self.settled()
                return
