"""From the command to the first frame: agenttop against htop and bare Textual, in a 200×50 pty.

    python tests/bench/bench_startup.py [rounds]

With a kernel running, to the first frame and to the row of an agent in it; without one, to the first
frame and to the empty fleet. Everything is byte-compiled beforehand, as what pip installs is. htop
reads /proc twice with a pause, so its time depends on how much runs here; bare Textual's does not.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
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
AGENT = "needle-in-the-fleet"


def paints(command: list[str], needles: Sequence[bytes], environ: dict[str, str]) -> list[float]:
    """Seconds to each of the needles, in turn."""
    terminal = Terminal(command, environ)
    try:
        return [terminal.until(needle) for needle in needles]
    finally:
        terminal.close()


def agenttop(home: str, *words: str) -> None:
    """Run a command, whatever becomes of it."""
    subprocess.run(
        [str(AGENTTOP), *words], env={**os.environ, "AGENTTOP_HOME": home}, capture_output=True, check=False
    )


async def kernel(home: str, *, up: bool) -> None:
    os.environ["AGENTTOP_HOME"] = home
    async with await connect(Paths.from_environ(), start=up) as client:
        if not up:
            await client.shutdown()


def measure(home: str, cold: str, figures: dict[str, list[float]]) -> None:
    """One round: each of them once."""
    warm_home = {**os.environ, "AGENTTOP_HOME": home}
    for command, needles in (
        (["htop"], {"htop": b"F10"}),
        ([sys.executable, "-c", BARE], {"textual": b"haystack"}),
        ([str(AGENTTOP)], {"agenttop": b"Fleet", "... its agent is there": AGENT.encode()}),
    ):
        if shutil.which(command[0]):
            for name, seconds in zip(needles, paints(command, [*needles.values()], warm_home), strict=True):
                figures.setdefault(name, []).append(seconds)
    needles = {"agenttop, no kernel": b"Fleet", "... its fleet is there": b"No agents yet"}
    found = paints([str(AGENTTOP)], [*needles.values()], {**os.environ, "AGENTTOP_HOME": cold})
    for name, seconds in zip(needles, found, strict=True):
        figures.setdefault(name, []).append(seconds)
    os.environ["AGENTTOP_HOME"] = cold
    anyio.run(lambda: kernel(cold, up=False))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    home, cold, compiled = (tempfile.mkdtemp(prefix="agenttop-bench-") for _ in range(3))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = compiled
    figures: dict[str, list[float]] = {}
    try:
        anyio.run(lambda: kernel(home, up=True))
        agenttop(home, "run", "--name", AGENT, "--", "sleep", "1000")
        measure(home, cold, {})  # the first round writes the byte code
        for _ in range(rounds):
            measure(home, cold, figures)
    finally:
        for place in (home, cold):
            agenttop(place, "kernel", "stop", "--agents", "--yes")
        for place in (home, cold, compiled):
            shutil.rmtree(place, ignore_errors=True)
    rivals = [statistics.median(figures.get(name) or figures["textual"]) for name in ("htop", "textual")]
    for name, values in figures.items():
        middle = statistics.median(values)
        print(
            f"{name:24} {middle * 1000:6.0f} ms (fastest {min(values) * 1000:.0f})"
            f"  {middle / rivals[0]:5.2f} × htop  {middle / rivals[1]:5.2f} × bare Textual"
        )


if __name__ == "__main__":
    main()
