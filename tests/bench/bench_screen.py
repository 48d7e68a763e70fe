"""What one refresh of the fleet table costs, against a ``DataTable`` that shows the same.

    python tests/bench/bench_screen.py [AGENTS ...]

Both run in a pty of 200×50, a refresh every half second, 5 % of the rows changing in each. The
CPU is the whole process's, threads included; the bytes are what the terminal was sent.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import random
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

COLUMNS, LINES = 200, 50
TICKS, PACE, SHARE = 40, 0.5, 0.05
WARM = 8


def fleet(count: int) -> list:
    """Rows as a large fleet has them: a tenth are leads with nine children each."""
    from support.sample import NOW, ROWS

    rows = []
    for n in range(count):
        base = ROWS[n % 9]
        parent = None if n % 10 == 0 else f"{n - n % 10:04x}"
        rows.append(
            base._replace(
                id=f"{n:04x}", name=f"{base.name}-{n}", parent=parent, cost=1 + (n * 7919 % count) / 100,
                since=NOW - 90 - n, started=time.time() - 4000 - n,
            )
        )  # fmt: skip
    return rows


def change(rows: list, dice: random.Random) -> list:
    """5 % of the rows, with another rate, cost and CPU."""
    picked = dice.sample(range(len(rows)), max(1, round(len(rows) * SHARE)))
    for n in picked:
        row = rows[n]
        rows[n] = row._replace(
            rate=row.rate + dice.randrange(1, 9000), output=row.output + dice.randrange(900),
            cost=(row.cost or 0) + dice.random() / 50, cpu=dice.random() * 90,
        )  # fmt: skip
    return [rows[n] for n in picked]


async def measure(tick: Callable[[], None], written: Callable[[], int]) -> dict[str, float]:
    """CPU and bytes of a tick, means over ``TICKS`` after a warm-up."""
    for _ in range(WARM):
        tick()
        await asyncio.sleep(PACE)
    cpu, sent = time.process_time(), written()
    for _ in range(TICKS):
        tick()
        await asyncio.sleep(PACE)
    return {"cpu_ms": (time.process_time() - cpu) / TICKS * 1000, "bytes": (written() - sent) / TICKS}


def ours(count: int, out: str) -> None:
    """The fleet table, tree and sort by cost on, through the whole path from a delta."""
    from support.sample import SampleClient, header

    from agenttop.tui.app import AgentTopApp

    rows = fleet(count)
    client = SampleClient(rows)
    dice = random.Random(7)

    # Made beforehand: what the kernel's side costs is measured elsewhere.
    updates = [(change(rows, dice), header(rows)) for _ in range(WARM + TICKS)]
    updates.reverse()

    def tick() -> None:
        changed, sums = updates.pop()
        client.push(*changed, sums=sums, time=time.time())

    class Bench(AgentTopApp):
        """Leaves when it has measured."""

        async def bench(self) -> None:
            """Wait for the table, then measure."""
            while not self.model.known:
                await asyncio.sleep(0.05)
            Path(out).write_text(json.dumps(await measure(tick, lambda: self.written)))
            self.exit()

        def on_ready(self) -> None:
            """Begin."""
            self.run_worker(self.bench())

    async def connect() -> SampleClient:
        return client

    Bench(connect, environ={"COLORTERM": "truecolor", "LANG": "C.UTF-8"}).run(mouse=False)


def rival(count: int, out: str) -> None:
    """The same columns in a ``DataTable``, changed cells set by ``update_cell``."""
    from textual.app import App
    from textual.widgets import DataTable

    from agenttop.tui.columns import layout
    from agenttop.tui.terminal import metered

    rows = fleet(count)
    dice = random.Random(7)
    names = [place.column.id for place in layout(COLUMNS)]

    class Rival(App[None]):
        """A DataTable with as many rows and columns."""

        sent = 0

        def get_driver_class(self):
            """Count as ours does."""
            return metered(super().get_driver_class(), self.count)

        def count(self, number: int) -> None:
            """One write."""
            self.sent += number

        def compose(self):
            """The table alone: no header to compute."""
            yield DataTable(cursor_type="row")

        def on_ready(self) -> None:
            """Fill and begin."""
            table = self.query_one(DataTable)
            for name in names:
                table.add_column(name, key=name)
            for row in rows:
                values = row._asdict()
                table.add_row(*[str(values.get(name, "")) for name in names], key=row.id)
            self.run_worker(self.bench(table))

        async def bench(self, table: DataTable) -> None:
            """Measure."""

            updates = [change(rows, dice) for _ in range(WARM + TICKS)]
            updates.reverse()

            def tick() -> None:
                for row in updates.pop():
                    for name in ("rate", "output", "cost", "cpu"):
                        table.update_cell(row.id, name, str(getattr(row, name)))

            Path(out).write_text(json.dumps(await measure(tick, lambda: self.sent)))
            self.exit()

    Rival().run(mouse=False)


def in_pty(what: str, count: int, file: str = __file__) -> dict[str, float]:
    """Run one side in a pty of its own and read what it found."""
    out = Path(f"/tmp/bench_screen.{os.getpid()}.json")
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    size = {"COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    env = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", **size}
    process = subprocess.Popen(
        [sys.executable, file, "--child", what, str(count), str(out)],
        stdin=child, stdout=child, stderr=child, env=env, start_new_session=True,
    )  # fmt: skip
    os.close(child)

    def drain() -> None:
        try:
            while os.read(parent, 1 << 16):
                pass
        except OSError:
            pass

    reader = threading.Thread(target=drain)
    reader.start()
    process.wait()
    reader.join()
    os.close(parent)
    found = json.loads(out.read_text())
    out.unlink()
    return found


def main(counts: list[int]) -> None:
    """Print a line for each size."""
    for count in counts:
        mine, theirs = in_pty("ours", count), in_pty("rival", count)
        print(
            f"{count:>6} agents: {mine['cpu_ms']:.2f} ms CPU, {mine['bytes']:.0f} B a tick;  "
            f"DataTable {theirs['cpu_ms']:.2f} ms, {theirs['bytes']:.0f} B;  "
            f"ratio {theirs['cpu_ms'] / mine['cpu_ms']:.1f}x CPU, "
            f"{theirs['bytes'] / max(1, mine['bytes']):.1f}x bytes"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        {"ours": ours, "rival": rival}[sys.argv[2]](int(sys.argv[3]), sys.argv[4])
    else:
        main([int(word) for word in sys.argv[1:]] or [100, 1000])
