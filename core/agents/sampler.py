"""Gauges of live runs: CPU, memory and process counts, once a second while somebody looks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from ..backend import Sample
from ..clock import Clock
from ..errors import BackendError
from .supervisor import Supervisor, Watched

log = logging.getLogger(__name__)


class Load(NamedTuple):
    """What a run uses, rounded so that rows stay equal while nothing visible changes."""

    cpu: float | None = None
    """Per cent of one core."""
    memory: int | None = None
    """Bytes, to three digits."""
    pids: int | None = None


def round_bytes(value: int) -> int:
    """To three digits or so, so that it seldom changes."""
    if value < 1_000:
        return value
    step: int = 1 << max(0, value.bit_length() - 8)
    return value // step * step


class Sampler:
    """Asks each backend once a tick for all its live runs."""

    def __init__(self, supervisor: Supervisor, clock: Clock, changed: Callable[[str], None]) -> None:
        self._supervisor = supervisor
        self._clock = clock
        self._changed = changed
        self._last: dict[str, tuple[float, float]] = {}
        self.loads: dict[str, Load] = {}

    async def tick(self) -> None:
        """Sample all live runs now."""
        groups: dict[str, list[Watched]] = {}
        for run in self._supervisor.runs.values():
            groups.setdefault(run.backend.name, []).append(run)
        for runs in groups.values():
            try:
                samples = await runs[0].backend.sample({run.agent: run.ref for run in runs})
            except BackendError as error:
                log.debug("no samples from %s: %s", runs[0].backend.name, error)
                continue
            now = self._clock.monotonic()
            for agent, sample in samples.items():
                self._take(agent, sample, now)
        for agent in self.loads.keys() - self._supervisor.runs.keys():
            del self.loads[agent]
            self._last.pop(agent, None)
            self._changed(agent)

    def _take(self, agent: str, sample: Sample, now: float) -> None:
        cpu = None
        if sample.cpu_seconds is not None:
            before = self._last.get(agent)
            if before is not None and now > before[0] and sample.cpu_seconds >= before[1]:
                cpu = round(100 * (sample.cpu_seconds - before[1]) / (now - before[0]), 1)
            self._last[agent] = (now, sample.cpu_seconds)
        memory = None if sample.memory is None else round_bytes(sample.memory)
        load = Load(cpu, memory, sample.pids)
        if self.loads.get(agent) != load:
            self.loads[agent] = load
            self._changed(agent)
