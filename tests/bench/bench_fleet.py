"""A thousand live agents: CPU of screen and kernel against htop's, memory, ``ps``, durable start.

python tests/bench/bench_fleet.py [agents] [seconds]

The home lies where a user's own would, and nothing is removed before the starts are measured: a
start makes some files, and ext4 without a journal takes ten times as long to make one in a place
where many were removed a minute ago (/tmp of a machine that runs tests, say).
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import FleetRequest, StopRequest
from agenttop.core.connect import connect
from agenttop.core.paths import Paths

sys.path.insert(0, str(Path(__file__).parent))
from terminal import Terminal, cpu_seconds, resident

AGENTTOP = Path(sys.executable).with_name("agenttop")
COMMAND = ["sleep", "3600"]


def popen_loop(count: int) -> float:
    """The rival of a durable start: a bare loop."""
    began = time.perf_counter()
    children = [subprocess.Popen(COMMAND, start_new_session=True) for _ in range(count)]
    took = time.perf_counter() - began
    for child in children:
        child.kill()
        child.wait()
    return took


async def start(prefix: str, count: int) -> float:
    specs = [AgentSpec(name=f"{prefix}-{n}", command=COMMAND, cwd="/tmp") for n in range(count)]
    async with await connect(Paths.from_environ()) as client:
        began = time.perf_counter()
        outcomes = await client.up(
            FleetRequest(fleet=f"/{prefix}", specs=specs, environ={"PATH": os.environ["PATH"]})
        )
        took = time.perf_counter() - began
        assert {outcome.done for outcome in outcomes} == {"created"}, outcomes[:3]
    return took


async def down(prefix: str) -> None:
    async with await connect(Paths.from_environ()) as client:
        await client.down(f"/{prefix}", 0.0)


async def kernel_pid() -> int:
    async with await connect(Paths.from_environ()) as client:
        return (await client.status()).pid


async def end() -> None:
    async with await connect(Paths.from_environ()) as client:
        await client.stop(StopRequest(all=True, how="kill"))
        await client.shutdown()


def share(terminal: Terminal, pids: list[int], seconds: float) -> tuple[float, int]:
    """Per cent of one CPU over ``seconds``, and bytes a second to the terminal."""
    terminal.watch(4)
    before = sum(cpu_seconds(pid) for pid in pids)
    written = terminal.watch(seconds)
    return 100 * (sum(cpu_seconds(pid) for pid in pids) - before) / seconds, int(written / seconds)


def main() -> None:
    agents = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 15.0
    place = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    place.mkdir(parents=True, exist_ok=True)
    home = tempfile.mkdtemp(prefix="agenttop-bench-", dir=place)
    os.environ["AGENTTOP_HOME"] = home
    environ = dict(os.environ)
    try:
        kernel = anyio.run(kernel_pid)
        empty = resident(kernel)
        print(f"kernel, empty fleet      {empty / 1e6:6.0f} MB")
        # What the first agent brings along (the backend, its thread) is not what one more costs.
        anyio.run(start, "first", 1)
        time.sleep(2)
        first = resident(kernel)
        ratios = []
        for attempt in range(3):
            bare, ours = popen_loop(200), anyio.run(start, f"r{attempt}", 200)
            ratios.append(ours / bare)
        for attempt in range(3):
            anyio.run(down, f"r{attempt}")
        print(f"start 200 durably        {statistics.median(ratios):6.2f} × a bare Popen loop")
        anyio.run(start, "many", agents)
        time.sleep(3)
        full = resident(kernel)
        more = (full - first) / agents
        print(
            f"kernel, {agents} agents     {full / 1e6:6.0f} MB, {more / 1e3:.1f} kB for each after the first"
        )
        for arguments in (["ps"], ["ps", "--json"]):
            took = []
            for _ in range(5):
                began = time.perf_counter()
                subprocess.run([str(AGENTTOP), *arguments], stdout=subprocess.DEVNULL, check=True)
                took.append(time.perf_counter() - began)
            print(f"agenttop {' '.join(arguments):15} {statistics.median(took) * 1000:6.0f} ms")
        screen = Terminal([str(AGENTTOP)], environ)
        screen.until(b"many-")
        ours, written = share(screen, [screen.pid, kernel], seconds)
        size = resident(screen.pid) / 1e6
        print(f"screen + kernel          {ours:6.2f} % of a CPU, {written} bytes/s, screen {size:.0f} MB")
        screen.close()
        for rival in (["htop", "-d", "10"], ["btop"]):
            if shutil.which(rival[0]):
                other = Terminal(rival, environ)
                theirs, written = share(other, [other.pid], seconds)
                other.close()
                print(f"{rival[0]:24} {theirs:6.2f} %, {written} bytes/s; ours is {ours / theirs:.2f} ×")
    finally:
        anyio.run(end)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
