"""What the Bus pane costs at 2,000 messages a second, beside the Fleet pane of 100 agents in the same run.

    python tests/bench/bench_bus_pane.py [SECONDS]

Each runs in a pty of its own, of 200×50. The kernel tells a pane the newest 200 lines five times a second
at most, and how the 200 before them ended: that is what is fed here, made beforehand, 400 rows a time. The
Fleet pane gets a delta a second with a fifth of its rows. CPU is the whole process's; a key is answered
when the screen that it changed has been painted.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from tests.bench import bench_screen

RATE, TOLD, PACE = 2_000, 200, 0.2
WARM = 2.0
NAMES = [f"agent-{n}" for n in range(100)]


def lines(first: int, now: float, dice: random.Random) -> list:
    """The newest lines of one change."""
    from tests.support.sample_bus import message

    found = []
    for seq in range(first, first + TOLD):
        one, two = dice.sample(NAMES, 2)
        text = f"part {seq} of the work is done, see notes/{seq}.md"
        row = message(seq, 0, one, two, dice.choice(("direct", "request")), "accepted", text)
        found.append(row._replace(at=now, trace=f"{seq // 4:032x}", deadline=now + 60))
    return found


def changes(count: int) -> list:
    """What a watch is told: new lines, and the ones before them acknowledged."""
    from tests.support.sample_bus import BOXES, PAIRS, TOPICS, WAITS

    from agenttop.core.api.bus import BusChange, BusSums

    dice = random.Random(7)
    found, before, now = [], [], time.time()
    for number in range(count):
        now += PACE
        fresh = lines(number * round(RATE * PACE), now, dice)
        ended = [row._replace(state="acked", latency=0.02) for row in before]
        boxes = tuple(box._replace(unread=dice.randrange(50)) for box in BOXES)
        lists = (boxes, TOPICS, WAITS, (), PAIRS) if number % 5 == 0 else (None,) * 5
        found.append(BusChange(now, (*ended, *fresh), *lists, BusSums(number, float(RATE), 0.02, 12, 3)))
        before = fresh
    return found


def child(what: str, seconds: str, out: str) -> None:
    """One pane, measured."""
    from tests.support.sample import SampleClient, header
    from textual import events

    from agenttop.core.api import bus
    from agenttop.tui.app import AgentTopApp

    rows = bench_screen.fleet(100)
    client = SampleClient(rows)
    dice = random.Random(7)
    length = float(seconds)
    made = changes(round((length + WARM) / PACE) + 50) if what == "bus" else []
    documents = [bus.WATCH.answer.dump_json(change) for change in made]

    async def feed(_: object):
        """As the socket gives it: JSON, checked."""
        for document in documents:
            yield bus.WATCH.answer.validate_python(orjson.loads(document))
            await asyncio.sleep(PACE)
        await asyncio.Event().wait()

    client.answers["bus.watch"] = lambda request: _quiet() if request.trace else feed(request)

    async def _quiet():
        await asyncio.Event().wait()
        yield None

    class Bench(AgentTopApp):
        """Leaves when it has measured."""

        async def bench(self) -> None:
            """Open the pane, warm up, count CPU; then press keys while it goes on."""
            while not self.model.known:
                await asyncio.sleep(0.05)
            if what == "bus":
                self.do_pane_3()
            await self.fed(WARM)
            cpu, sent, began = time.process_time(), self.written, time.perf_counter()
            await self.fed(length)
            spent = time.perf_counter() - began
            used, wrote = time.process_time() - cpu, self.written - sent
            delays = [await self.key(("down", "down", "up", "end", "home")[n % 5]) for n in range(40)]
            delays.sort()
            found = {"cpu": 100 * used / spent, "bytes": wrote / spent}
            found |= {"median": delays[20] * 1000, "worst": delays[-1] * 1000}
            Path(out).write_text(json.dumps(found))
            self.exit()

        async def fed(self, seconds: float) -> None:
            """Let time go by; the fleet changes once a second."""
            for _ in range(round(seconds)):
                client.push(*bench_screen.change(rows, dice), sums=header(rows), time=time.time())
                await asyncio.sleep(1)

        async def key(self, name: str) -> float:
            """Press a key; seconds until the screen was painted after it."""
            await asyncio.sleep(0.05 + dice.random() / 20)
            done, start = asyncio.Event(), time.perf_counter()
            self.post_message(events.Key(name, None))
            self.call_after_refresh(done.set)
            await done.wait()
            return time.perf_counter() - start

        def on_ready(self) -> None:
            """Begin."""
            self.run_worker(self.bench())

    async def connect() -> SampleClient:
        return client

    Bench(connect, environ={"COLORTERM": "truecolor", "LANG": "C.UTF-8"}).run(mouse=False)


def main(seconds: int) -> None:
    """Print a line for each pane."""
    for what in ("fleet", "bus"):
        found = bench_screen.in_pty(what, seconds, __file__)
        print(
            f"{what:>6}: {found['cpu']:.1f} % of one CPU, {found['bytes'] / 1000:.1f} kB/s to the terminal, "
            f"keys {found['median']:.0f} ms (median), {found['worst']:.0f} ms (worst of 40)"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], sys.argv[4])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
