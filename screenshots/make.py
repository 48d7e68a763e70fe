"""Draw the pictures in this folder: ``.venv/bin/python screenshots/make.py [--into FOLDER] [NAME…]``.

The real screen over a real kernel, gateway and provider, with the demo's fleet at work; see ``world.py`` for
what is played so that two runs give the same files. Needs no terminal and no network.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import anyio

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from rich.cells import cell_len  # noqa: E402
from textual.pilot import Pilot  # noqa: E402
from world import World, world  # noqa: E402

from agenttop.core.client import KernelClient  # noqa: E402
from agenttop.tui.app import AgentTopApp  # noqa: E402

TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
#: Stands in the pictures for the temporary folder, whose name is another each time.
SHOWN = "/tmp/agenttop-pictures"
FONT = "'DejaVu Sans Mono','Menlo','SF Mono','Liberation Mono','Consolas',monospace"


class Picture(NamedTuple):
    """One file: ``keys`` are pressed first, then ``shows`` must be on the screen."""

    name: str
    size: tuple[int, int]
    keys: tuple[str, ...] = ()
    shows: tuple[str, ...] = ("lead",)
    theme: str = "htop"
    at: str = "api"
    """The agent under the cursor."""


WIDE, TALL, SMALL = (120, 34), (200, 50), (80, 24)

PICTURES = (
    Picture("fleet-120x34", WIDE),
    Picture("fleet-200x50", TALL),
    Picture("fleet-80x24", SMALL),
    Picture("details-120x34", WIDE, ("enter",), ("Calls", "sonnet")),
    Picture("launch-120x34", WIDE, ("n",), ("Template",)),
    Picture("help-120x34", WIDE, ("question_mark",), ("Look",)),
    Picture("bus-120x34", WIDE, ("3",), ("Mailboxes", "Topics", "Conversation")),
    Picture("memory-120x34", WIDE, ("4",), ("ARCHIVAL", "Movements"), at="api"),
    Picture("events-120x34", WIDE, ("6",), ("call",)),
    Picture("budgets-120x34", WIDE, ("5",), ("Burn-down", "shop")),
    Picture("theme-dusk", WIDE, theme="dusk"),
    Picture("theme-paper", WIDE, theme="paper"),
    Picture("theme-ansi", WIDE, theme="ansi"),
    Picture("mono-ascii-80x24", SMALL, theme="mono"),
    Picture("kill-1-preview", WIDE, ("f9",), ("nothing has been sent yet",), at="nightly"),
    # The last: it ends an agent.
    Picture("kill-2-proof", WIDE, ("f9", "enter"), ("survivors", "cgroup.procs is empty"), at="nightly"),
)


async def draw(picture: Picture, scene: World) -> str:
    """The picture as SVG."""

    async def connect() -> KernelClient:
        return scene.client

    mono = picture.theme == "mono"
    app = AgentTopApp(
        connect,
        theme=None if mono else picture.theme,
        ascii=mono,
        clock=scene.clock,
        environ={**TERMINAL, "NO_COLOR": "1"} if mono else TERMINAL,
    )
    async with app.run_test(size=picture.size) as pilot:
        await _until(pilot, lambda: app.model.known and "lead" in _text(app))
        while app.model.current is None or app.model.current.name != picture.at:
            await pilot.press("down")
        for key in picture.keys:
            await pilot.press(key)
        await _until(pilot, lambda: all(part in _text(app) for part in picture.shows))
        await _settled(pilot)
        return lean(app.export_screenshot(title="agenttop", simplify=True))


async def _settled(pilot: Pilot[int]) -> None:
    """Nothing has changed for a second: the screen's own refresh is one."""
    last, since = "", time.monotonic()
    while time.monotonic() - since < 1.2:
        await pilot.pause(0.05)
        if (now := _text(pilot.app)) != last:
            last, since = now, time.monotonic()


async def _until(pilot: Pilot[int], true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"it never came on the screen:\n{_text(pilot.app)}")
        await pilot.pause(0.02)
    await pilot.pause()


def _text(app: AgentTopApp) -> str:
    """What is on the screen, out of a picture of it."""
    lines = re.findall(r"<text [^>]*>([^<]*)</text>", app.export_screenshot(simplify=True))
    return html.unescape("\n".join(lines)).replace("\xa0", " ")


def lean(svg: str) -> str:
    """Without fonts from the web (no page shows them inside ``<img>``); every run of text keeps its cells."""
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\bterminal-\d+", "terminal", svg)  # a checksum of everything, the folder's name included
    svg = re.sub(r"font-family: Fira Code, monospace;", f"font-family: {FONT};", svg)
    svg = re.sub(r"<text ([^>]*?)>([^<]*)</text>", _cells, svg)
    return re.sub(r"[ \t]+\n", "\n", svg).strip() + "\n"


def _cells(text: re.Match[str]) -> str:
    """One run of text, split where a page's font may have other widths: braille, boxes, triangles."""
    attributes, content = text[1], html.unescape(text[2])
    length = re.search(r'textLength="([0-9.]+)"', attributes)
    if length is None or not cell_len(content):
        return text[0]
    x = float(re.search(r'\bx="([0-9.]+)"', attributes)[1])  # type: ignore[index]
    cell = float(length[1]) / cell_len(content)
    kept = re.sub(r' ?(textLength|\bx)="[0-9.]+"', "", attributes).strip()
    runs = []
    for part in re.findall(r"[\x20-\x7e\xa0]+|[^\x20-\x7e\xa0]+", content):
        wide = cell_len(part) * cell
        if part.strip("\xa0 "):
            shown = html.escape(part, quote=False).replace("\xa0", "&#160;")
            place = f'x="{x:.1f}" textLength="{wide:.1f}" lengthAdjust="spacingAndGlyphs"'
            runs.append(f"<text {kept} {place}>{shown}</text>")
        x += wide
    return "".join(runs)


async def main(wanted: list[str], into: Path, home: Path) -> None:
    """Draw all pictures, or the wanted ones, with a kernel that lives in ``home``."""
    async with world(home) as scene:
        for picture in PICTURES:
            if wanted and picture.name not in wanted:
                continue
            svg = await draw(picture, scene)
            file = into / f"{picture.name}.svg"
            file.write_text(svg.replace(str(home), SHOWN))
            print(f"{picture.name}.svg  {len(svg) // 1000} kB")


def run() -> None:
    """From the command line: on a machine that is always the same, and in UTC."""
    parser = argparse.ArgumentParser(description="Draw the pictures.")
    parser.add_argument("--into", type=Path, default=HERE, help="where they go")
    parser.add_argument("names", nargs="*", choices=[[], *(picture.name for picture in PICTURES)])
    given = parser.parse_args()
    into: Path = given.into.resolve()
    os.environ["TZ"] = "UTC"
    time.tzset()
    for name in [name for name in os.environ if name.startswith("AGENTTOP_")]:
        del os.environ[name]
    socket.gethostname = lambda: "devbox"
    os.chdir("/")
    # As long as the path that is shown in its place, so that nothing moves.
    with tempfile.TemporaryDirectory(prefix="agenttop-", dir="/tmp") as home:
        assert len(home) == len(SHOWN), home
        claude = Path(home, "bin", "claude")  # the launch dialog as it is where Claude Code is installed
        claude.parent.mkdir()
        claude.touch(mode=0o755)
        os.environ["PATH"] = f"{claude.parent}{os.pathsep}{os.environ['PATH']}"
        anyio.run(main, given.names, into, Path(home))


if __name__ == "__main__":
    run()
