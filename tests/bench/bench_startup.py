"""From the command to the first frame: agenttop against htop and bare Textual, in a 200×50 pty.

python tests/bench/bench_startup.py [rounds]
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio

from agenttop.core.connect import connect
from agenttop.core.paths import Paths

sys.path.insert(0, str(Path(__file__).parent))
from terminal import Terminal

BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("needle in a haystack")
Bare().run(mouse=False)
"""
AGENTTOP = Path(sys.executable).with_name("agenttop")


def first_paint(command: list[str], needle: bytes, environ: dict[str, str]) -> float:
    terminal = Terminal(command, environ)
    try:
        return terminal.until(needle)
    finally:
        terminal.close()


async def kernel(home: str, *, up: bool) -> None:
    os.environ["AGENTTOP_HOME"] = home
    async with await connect(Paths.from_environ(), start=up) as client:
        if not up:
            await client.shutdown()


def whole(command: list[str], environ: dict[str, str]) -> float:
    import time

    began = time.perf_counter()
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    home = tempfile.mkdtemp(prefix="agenttop-bench-")
    environ = {**os.environ, "AGENTTOP_HOME": home}
    cold = tempfile.mkdtemp(prefix="agenttop-bench-")
    figures: dict[str, list[float]] = {}
    try:
        anyio.run(lambda: kernel(home, up=True))
        for _ in range(rounds):
            for name, command, needle, env in (
                ("htop", ["htop"], b"F10", environ),
                ("textual", [sys.executable, "-c", BARE], b"haystack", environ),
                ("agenttop", [str(AGENTTOP)], b"Fleet", environ),
            ):
                if shutil.which(command[0]):
                    figures.setdefault(name, []).append(first_paint(command, needle, env))
            terminal = Terminal([str(AGENTTOP)], {**environ, "AGENTTOP_HOME": cold})
            try:
                figures.setdefault("agenttop, no kernel", []).append(terminal.until(b"Fleet"))
                figures.setdefault("... its fleet is there", []).append(terminal.until(b"No agents yet"))
            finally:
                terminal.close()
            os.environ["AGENTTOP_HOME"] = cold
            anyio.run(lambda: kernel(cold, up=False))
    finally:
        for place in (home, cold):
            stop = [str(AGENTTOP), "kernel", "stop", "--agents", "--yes"]
            env = {**environ, "AGENTTOP_HOME": place}
            subprocess.run(stop, env=env, capture_output=True, check=False)
            shutil.rmtree(place, ignore_errors=True)
    rival = statistics.median(figures.get("htop") or figures["textual"])
    for name, values in figures.items():
        middle = statistics.median(values)
        print(f"{name:24} {middle * 1000:7.0f} ms  {middle / rival:5.2f} × htop")


if __name__ == "__main__":
    main()
