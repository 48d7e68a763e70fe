"""A decision in the fair queue with 1,000 waiters, against a heap. Run: python tests/bench/bench_queue.py

Aim: at most 50 µs a decision. Times are CPU time of this process.
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
import time
from collections.abc import Callable

from agenttop.core.clock import ManualClock
from agenttop.core.gateway.lanes.fair import FairQueue, Place
from agenttop.core.gateway.lanes.lane import Lane
from agenttop.core.gateway.lanes.ticket import Ticket
from agenttop.core.gateway.providers import CallLimits, Provider

WAITERS = 1_000
DECISIONS = 20_000
AIM = 50.0


def measured(decide: Callable[[], None]) -> list[float]:
    """Microseconds of each decision."""
    taken = []
    for _ in range(DECISIONS):
        begun = time.process_time_ns()
        decide()
        taken.append((time.process_time_ns() - begun) / 1000)
    return taken


def bare_heap() -> list[float]:
    """The rival: priorities without fairness, classes, models or leaving."""
    jitter = random.Random(1)
    heap = [(jitter.random(), number) for number in range(WAITERS)]
    heapq.heapify(heap)

    def decide() -> None:
        _, number = heapq.heappop(heap)
        heapq.heappush(heap, (jitter.random(), number))

    return measured(decide)


def fair_queue(agents: int) -> list[float]:
    """Take the next one, settle it as something else, let another wait."""
    queue: FairQueue[Place] = FairQueue()
    numbers = itertools.count()
    jitter = random.Random(1)

    def place() -> Place:
        number = next(numbers)
        agent = number % agents
        return Place(
            f"c{number}",
            f"a{agent}",
            "batch" if agent % 3 == 0 else "interactive",
            nice=agent % 40 - 20,
            tokens=jitter.randrange(50_000),
            group="model" if agent % 4 else None,
        )

    for _ in range(WAITERS):
        queue.push(place(), 0.0)

    def decide() -> None:
        one = queue.pop(lambda group: True, 1.0)
        assert one is not None
        queue.settle(one, 1000, 1.0)
        queue.push(place(), 1.0)

    return measured(decide)


def lane() -> list[float]:
    """The same with limits, a model's gate, the breaker, and the reasons why the others wait."""
    provider = Provider(
        name="p",
        protocol="openai",
        base_url="http://127.0.0.1",
        key_env="K",
        limits=CallLimits(concurrency=8, requests=1e9, tokens=1e12),
        models={"big-*": CallLimits(concurrency=4)},
    )
    one = Lane(provider, ManualClock(), random.Random(1))
    numbers = itertools.count()
    running: list[Ticket] = []

    def ticket() -> Ticket:
        number = next(numbers)
        model = "big-1" if number % 2 else "small"
        return Ticket(
            f"c{number}", f"a{number % WAITERS}", "interactive", 0, 20_000, model=model, home=provider.name
        )

    def pump() -> None:
        running.extend(one.pump(0.0)[0])

    for _ in range(WAITERS + 8):
        one.put(ticket(), 0.0)
    pump()
    one.answered(running[0], 200, {}, 0.0)
    pump()

    def decide() -> None:
        one.finish(running.pop(0), 500, 0.0)
        one.put(ticket(), 0.0)
        pump()

    return measured(decide)


def show(name: str, taken: list[float], rival: float) -> None:
    """One line."""
    ordered = sorted(taken)
    mean, tail = statistics.fmean(taken), ordered[int(len(ordered) * 0.99)]
    verdict = "" if rival == mean else f"  {mean / rival:5.1f} × the heap"
    print(f"{name:44} {mean:7.1f} µs mean {tail:7.1f} µs p99{verdict}")


def main() -> None:
    """Measure and print."""
    print(f"one decision with {WAITERS:,} calls waiting, CPU time; aim {AIM:.0f} µs")
    heap = bare_heap()
    rival = statistics.fmean(heap)
    show("bare heapq, pop and push", heap, rival)
    show("fair queue, 1,000 agents", fair_queue(WAITERS), rival)
    show("fair queue, 10 agents", fair_queue(10), rival)
    show("a whole lane with limits", lane(), rival)


if __name__ == "__main__":
    main()
